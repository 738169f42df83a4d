"""Small files of a user's own recordings, recipes made small, and equality of trees, for the tests of tasks."""

import io
import pathlib
import tarfile
import wave

import equinox as eqx
import jax
import numpy as np

from engrax.training.build import build
from engrax.training.recipe import load


def save(path: pathlib.Path, **arrays: object) -> pathlib.Path:
    np.savez(path / "mine.npz", **arrays)
    return path / "mine.npz"


def recordings(kind: str, samples: int = 20, steps: int = 7) -> dict[str, np.ndarray]:
    random = np.random.RandomState(1)
    targets = {
        "trial": np.arange(samples) % 3,
        "step": random.randint(0, 4, (samples, steps)),
        "values": random.normal(size=(samples, steps, 2)),
    }
    return {"inputs": random.normal(size=(samples, steps, 5)), "targets": targets[kind]}


def learns(recipe: str, *changes: str) -> None:
    """A recipe, made small, has a finite loss and a gradient."""
    small = [f"network.populations.{name}.size=6" for name in load(recipe).network.populations if name != "readout"]
    built = build(load(recipe, [*small, *changes]))
    net = built.rule.bind(built.net, jax.random.key(0))
    loss, grads = built.rule.value_and_grad(net, built.task.sample(jax.random.key(0), 2), jax.random.key(1))
    assert np.isfinite(float(loss))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert any(np.any(p.weight) for p in grads.projections.values() if p.weight is not None)


def same(a: object, b: object) -> bool:
    return bool(eqx.tree_equal(a, b))


def wav(samples: np.ndarray, rate: int = 16000, channels: int = 1) -> bytes:
    """A RIFF file of 16-bit samples."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()


def tone(hertz: float, samples: int = 16000, amplitude: float = 8000.0) -> np.ndarray:
    """A note of one pitch."""
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / 16000)


def speech_commands(words: tuple[str, ...], noises: int = 2) -> dict[str, bytes]:
    """Files of Google Speech Commands by name: five notes a word, of its own pitch, one of them listed for validation
    and one for the test, and longer recordings of noise."""
    files: dict[str, bytes] = {"README.md": b"words", "LICENSE": b"CC BY 4.0"}
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for i, said in enumerate(words):
        for speaker in range(5):
            name = f"{said}/{speaker:08x}_nohash_0.wav"
            files[name] = wav(tone(300 + 100 * i + 5 * speaker, 16000 - 800 * speaker))
            if speaker in (3, 4):
                lists["validation_list.txt" if speaker == 3 else "testing_list.txt"].append(name)
    random = np.random.RandomState(3)
    for i in range(noises):
        files[f"_background_noise_/noise_{i}.wav"] = wav(1000 * random.normal(size=11 * 16000))
    files["_background_noise_/README.md"] = b"noise"
    return files | {name: "\n".join(listed).encode() + b"\n" for name, listed in lists.items()}


def unpack(files: dict[str, bytes], folder: pathlib.Path) -> pathlib.Path:
    """Files written into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(files: dict[str, bytes], path: pathlib.Path) -> pathlib.Path:
    """Files written into a .tar.gz archive, in disorder, with a leading "./" as the published ones have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in sorted(files, reverse=True):
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(files[name])
            archive.addfile(entry, io.BytesIO(files[name]))
    return path
