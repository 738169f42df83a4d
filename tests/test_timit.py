"""TIMIT: its folder, files and parts, on small files made in its format; folding; a whole training on them."""

import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import soundfile

import engrax as ex
from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks import audio, phones
from engrax.tasks.phones import FOLD, PHONES, SCORED
from engrax.tasks.task import SPLITS
from engrax.testing import check_task
from recordings import learns

HEADER = """NIST_1A
   1024
database_id -s5 TIMIT
database_version -s3 1.0
utterance_id -s8 {name}
channel_count -i 1
sample_count -i {count}
sample_rate -i 16000
sample_min -i -9000
sample_max -i 9000
sample_n_bytes -i 2
sample_byte_format -s2 01
sample_sig_bits -i 16
end_head
"""

# Each phone has a pitch, so that it can be learnt.
SPOKEN = {"h#": 0, "aa": 300, "bcl": 60, "b": 900, "iy": 2500, "q": 1500, "ao": 350}


def sphere(samples: np.ndarray, name: str = "cjf0_sx1") -> bytes:
    return HEADER.format(name=name, count=len(samples)).encode().ljust(1024) + samples.astype("<i2").tobytes()


def sentence(said: list[str], random: np.random.RandomState, start: int = 0) -> tuple[np.ndarray, str]:
    """Samples and transcript; every phone lasts 60 to 100 ms."""
    parts, lines, at = [np.zeros(start)], [], start
    for phone in said:
        count = int(random.randint(960, 1600))
        wave = np.sin(2 * np.pi * SPOKEN[phone] * np.arange(count) / 16000)
        parts.append(6000 * wave + random.randn(count) * 30)
        lines.append(f"{at} {at + count} {phone}")
        at += count
    return np.concatenate(parts).astype(np.int16), "\n".join(lines) + "\n"


def write(root: pathlib.Path, place: str, said: list[str], random: np.random.RandomState) -> None:
    samples, transcript = sentence(said, random)
    path = root / f"{place}.WAV"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sphere(samples, path.stem.lower()))
    path.with_suffix(".PHN").write_text(transcript)


def corpus(root: pathlib.Path) -> pathlib.Path:
    """Two speakers for each part, two sentences each, and some that belong to no part."""
    random = np.random.RandomState(3)
    speakers = {
        "TRAIN": ("DR1/FCJF0", "DR2/MABC0"),
        "TEST": ("DR1/FAKS0", "DR1/MDAB0", "DR2/FDAC1", "DR2/MTAS1", "DR8/MXYZ0"),
    }
    for part, names in speakers.items():
        for speaker in names:
            for number in ("SA1", "SA2", "SX37", "SI648"):
                said = ["h#", *random.choice(["aa", "bcl", "b", "iy", "q", "ao"], 6), "h#"]
                write(root, f"{part}/{speaker}/{number}", said, random)
    return root


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return corpus(tmp_path / "TIMIT")


def lower(root: pathlib.Path) -> pathlib.Path:
    for path in sorted(root.rglob("*"), key=lambda p: -len(p.parts)):
        path.rename(path.with_name(path.name.lower()))
    return root


def same(a: tasks.Task, b: tasks.Task) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.shape == y.shape and bool(jnp.all(x == y)) for x, y in leaves)


def test_61_phones_are_scored_as_39():
    assert (len(set(PHONES)), len(SCORED), len(phones.CORE_TEST), len(phones.DEVELOPMENT)) == (61, 39, 24, 50)
    assert not phones.CORE_TEST & phones.DEVELOPMENT
    folded = {phone: SCORED[place] if place >= 0 else None for phone, place in zip(PHONES, FOLD)}
    assert set(folded.values()) == {*SCORED, None}
    moved = {phone: scored for phone, scored in folded.items() if phone != scored}
    silence = dict.fromkeys(("bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "epi", "pau", "h#"), "sil")
    others = "ao aa, ax ah, ax-h ah, axr er, el l, em m, en n, nx n, eng ng, hv hh, ix ih, ux uw, zh sh"
    assert moved == {**silence, **dict(pair.split() for pair in others.split(", ")), "q": None}


def test_parts_are_the_usual_ones_without_sa(root):
    task = tasks.get("timit", path=root)
    assert [task.count(s) for s in SPLITS] == [4, 4, 4]
    assert (task.input_size, task.output_size, task.dt) == (123, 61, 1.0)
    assert tasks.get("timit", path=str(root), features="mfcc").input_size == 39
    # Test sentences in the order of their names: FAKS0 and FDAC1 are of the development set.
    trial = next(task.batches("test", 4))
    for i, place in enumerate(("DR1/MDAB0/SI648", "DR1/MDAB0/SX37", "DR2/MTAS1/SI648", "DR2/MTAS1/SX37")):
        samples, rate = audio.read_audio(root / f"TEST/{place}.WAV", place)
        assert rate == 16000
        frames = audio.features(samples, rate)
        assert int(trial.lengths[i]) == 5 * len(frames)
        # A frame has the phone of its middle.
        lines = [x.split() for x in (root / f"TEST/{place}.PHN").read_text().splitlines()]
        for frame in range(len(frames)):
            middle = 160 * frame + 200
            (phone,) = [p for a, b, p in lines if int(a) <= middle < int(b)]
            assert int(trial.targets[5 * frame, i]) == PHONES.index(phone)


def test_letters_and_containers_do_not_matter(root, tmp_path, monkeypatch):
    task = tasks.get("timit", path=root)
    small = lower(corpus(tmp_path / "own" / "TIMIT"))
    assert same(task, tasks.get("timit", path=small))
    monkeypatch.setenv("ENGRAX_DATA", str(small.parent))
    assert same(task, tasks.get("timit"))
    for path in list(root.rglob("*.WAV")):
        samples, rate = soundfile.read(path, dtype="int16")
        content = io.BytesIO()
        soundfile.write(content, samples, rate, format="WAV")
        path.unlink()
        path.with_name(path.name + ".wav").write_bytes(content.getvalue())
    assert same(task, tasks.get("timit", path=root))


def test_strings_are_the_transcripts(root):
    task = tasks.get("timit_strings", path=root)
    assert task.output_size == 62
    trial = next(task.batches("train", 4))
    for i, place in enumerate(("DR1/FCJF0/SI648", "DR1/FCJF0/SX37", "DR2/MABC0/SI648", "DR2/MABC0/SX37")):
        said = [line.split()[2] for line in (root / f"TRAIN/{place}.PHN").read_text().splitlines()]
        assert [PHONES[int(label) - 1] for label in trial.targets[:, i]] == said


def test_strings_are_scored_after_folding(root):
    task = tasks.get("timit_strings", path=root)
    number = lambda *names: jnp.asarray([[PHONES.index(n) + 1 if n else 0] for n in names], jnp.int32)
    scored = task.scored(number("h#", "q", "ao", "bcl", "pcl", "q", ""))[:, 0]
    assert [SCORED[int(x) - 1] if x else "" for x in scored] == ["sil", "aa", "sil", "sil", "", "", ""]
    trial = next(task.batches("test", 1))
    trial = trial.replace(targets=number("h#", "aa", "bcl", "q"))
    said = np.zeros((trial.steps, 1), int)
    # A vowel for its like and a closure for silence are no errors, nor is a glottal stop more or less.
    said[0:5], said[5:10], said[15:20] = (PHONES.index(p) + 1 for p in ("pau", "ao", "dcl"))
    outputs = jax.nn.one_hot(said, 62)
    assert float(task.score(outputs, trial)) == 1 and float(task.weight(trial)) == 3
    said[20:25] = PHONES.index("b") + 1
    assert float(task.score(jax.nn.one_hot(said, 62), trial)) == pytest.approx(1 - 1 / 3)


def test_frames_are_scored_as_61_and_as_39(root):
    task = tasks.get("timit", path=root)
    trial = next(task.batches("test", 1))
    targets = np.asarray(trial.targets)[:, 0]
    like = {"aa": "ao", "ao": "aa", "bcl": "h#", "h#": "pau", "b": "b", "iy": "aa", "q": "b"}
    said = [PHONES.index(like[PHONES[t]]) for t in targets]
    outputs = jax.nn.one_hot(jnp.asarray(said)[:, None], 61)
    frames = [PHONES[t] for t in targets[4 : int(trial.lengths[0]) : 5]]
    assert float(task.score(outputs, trial)) == pytest.approx(np.mean([p == "b" for p in frames]), abs=1e-6)
    share, weight = task.metrics(outputs, trial)["accuracy_39"]
    others = [p for p in frames if p != "q"]
    assert 0 < len(others) < len(frames)
    assert float(share) == pytest.approx(np.mean([p != "iy" for p in others]), abs=1e-6)
    assert float(weight) == pytest.approx(len(others) / len(frames), abs=1e-5)
    share, _ = task.metrics(jnp.full_like(outputs, jnp.nan), trial)["accuracy_39"]
    assert float(share) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timit", "timit_strings"])
def test_timit_holds_to_the_contract(root, name):
    check_task(tasks.get(name, path=root, hold=2))


@pytest.mark.unchecked
def test_what_is_wrong_is_named(root, tmp_path, monkeypatch):
    monkeypatch.delenv("ENGRAX_DATA", raising=False)
    with pytest.raises(DataError, match="LDC93S1"):
        tasks.get("timit")
    for path, message in ((tmp_path / "nowhere", "there is no folder"), (tmp_path, "no sentences for train")):
        with pytest.raises(DataError, match=message):
            tasks.get("timit", path=path / "x" if path == tmp_path / "nowhere" else _empty(path))
    for setting, value in (("path", 5), ("features", "plp"), ("hold", 0)):
        with pytest.raises(TaskError, match=setting):
            tasks.get("timit", **{"path": root, setting: value})
    transcript, sound = root / "TRAIN/DR1/FCJF0/SX37.PHN", root / "TRAIN/DR1/FCJF0/SX37.WAV"
    text, content = transcript.read_text(), sound.read_bytes()
    for wrong, message in (
        ("0 100 xx\n", r"SX37.PHN, line 1: unknown phone 'xx'"),
        ("0 100 h#\n90 200 aa\n", "line 2: 90 200 does not come after sample 100"),
        ("0 100 h#\n\n200 200 aa\n", "line 3"),
        ("0 h#\n", "must be START END PHONE"),
        ("zero 100 h#\n", "must be START END PHONE"),
        ("", "has no phones"),
    ):
        transcript.write_text(wrong)
        with pytest.raises(DataError, match=message):
            tasks.get("timit", path=root)
    transcript.write_text(text)
    stereo, slow = io.BytesIO(), io.BytesIO()
    soundfile.write(stereo, np.zeros((4000, 2), np.int16), 16000, format="WAV")
    soundfile.write(slow, np.zeros(4000, np.int16), 8000, format="WAV")
    for wrong, message in (
        (b"junk", "SX37.WAV cannot be read as audio"),
        (content.replace(b"sample_byte_format -s2 01", b"sample_coding -s26 pcm,embedded-shorten-v2.00"), "w_decode"),
        (stereo.getvalue(), "2 channels"),
        (slow.getvalue(), "8000 Hz"),
    ):
        sound.write_bytes(wrong)
        with pytest.raises(DataError, match=message):
            tasks.get("timit", path=root)
    sound.unlink()
    with pytest.raises(DataError, match="no audio file beside it"):
        tasks.get("timit", path=root)


def _empty(path: pathlib.Path) -> pathlib.Path:
    folder = path / "empty"
    folder.mkdir()
    return folder


def network(task: tasks.Task) -> ex.Network:
    populations = {"hidden": ex.neurons.LSTM(20), "readout": ex.neurons.LI(task.output_size, tau=1.0)}
    projections = [
        ex.Dense("input", "hidden"),
        ex.Dense("hidden", "hidden"),
        ex.Dense("hidden", "readout", bias=True),
    ]
    sizes = {"input": task.input_size}
    return ex.Network(populations, projections, inputs=sizes, outputs="readout", key=jax.random.key(1))


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "loss", "least"),
    [("timit", None, 0.6), pytest.param("timit_strings", "ctc", 0.3, marks=pytest.mark.nightly)],
)
@pytest.mark.parametrize("rule", [pytest.param(ex.rules.BPTT, marks=pytest.mark.nightly), ex.rules.EProp])
def test_phones_are_learnt_from_the_files(root, name, loss, least, rule):
    task = tasks.get(name, path=root, features="mfcc", hold=1)
    net = network(task)
    run = ex.fit(net, task, rule(loss=loss), optax.adam(0.02), 150, batch=4, validate_every=150, progress=False)
    assert run.losses[-1] < 0.5 * run.losses[0]
    # Two silences of eight phones are what a network knows that has learnt but one.
    before, after = (ex.evaluate(x, task, "train")["accuracy"] for x in (net, run.network))
    assert before < 0.25 < least < after


@pytest.mark.nightly
def test_the_recipe_learns_from_the_files(root):
    learns("yin2021/timit", f"task.path={str(root)!r}")
