"""Checkpoints: a run that was stopped goes on to the same bits, and a bad file is refused and passed over."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import engrax as ex
from engrax.errors import ArgumentError, DataError
from engrax.training import checkpoint
from engrax.training.store import read_arrays, write_arrays

TASK = ex.tasks.get("evidence", cues=1, cue=10, gap=5, delay=5, recall=10, rate=300.0, trials=20, validation_trials=20)
STEPS = 24


def network(size: int = 20) -> ex.Network:
    return ex.Network(
        {"hidden": ex.neurons.ALIF(size, threshold=0.3, beta=0.2), "readout": ex.neurons.LI(TASK.output_size)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": TASK.input_size},
        outputs="readout",
        key=jax.random.key(0),
    )


# Noise in the optimiser: its keys are part of what a checkpoint must hold. Made once, so that runs share a program.
PARTS = (
    network(),
    TASK,
    ex.rules.EProp(feedback="adaptive"),
    optax.chain(optax.adam(0.01), optax.add_noise(1e-4, 0.5, key=jax.random.key(7))),
)


def train(out: Path | None, **options: object) -> ex.Run:
    options = {"batch": 2, "validate_every": 10, "checkpoint_every": 3, "progress": False, **options}
    return ex.fit(*PARTS, STEPS, out=out, **options)


def same(a: ex.Run, b: ex.Run) -> None:
    assert eqx.tree_equal(a.network, b.network) and eqx.tree_equal(a.networks, b.networks)
    np.testing.assert_array_equal(a.losses, b.losses)
    np.testing.assert_array_equal(a.test["accuracy"], b.test["accuracy"])
    for mine, theirs in zip(a.history, b.history, strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


@pytest.mark.parametrize("seeds", [None, 2])
@pytest.mark.parametrize("at", ["after a block", "before a validation", "in the first block"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int | None, at: str
) -> None:
    import importlib

    whole = train(None, seeds=seeds)
    assert whole.losses.std() > 0
    fit = importlib.import_module("engrax.training.fit")
    name = "measure" if at == "before a validation" else "block"
    real, calls = getattr(fit, name), []
    stop = {"after a block": 5, "before a validation": 1, "in the first block": 1}[at]

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(fit, name, interrupted)
    stopped = train(tmp_path / "run", seeds=seeds)
    assert stopped.interrupted and stopped.steps < STEPS
    monkeypatch.setattr(fit, name, real)
    resumed = train(tmp_path / "run", seeds=seeds, resume=True)
    assert not resumed.interrupted and resumed.steps == STEPS
    same(whole, resumed)
    again = train(tmp_path / "run", seeds=seeds, resume=True)  # a finished run goes on where it ended
    same(whole, again)
    files = [f.name for f in checkpoint.files(tmp_path / "run")]
    assert files == ["step-00000024.safetensors", "step-00000021.safetensors"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def foreign(path: Path) -> None:
    safetensors.numpy.save_file({"x": np.zeros(3)}, path)


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.")


def newer(path: Path) -> None:
    header = {"format": 99, "sha256": "", "facts": {}}
    safetensors.numpy.save_file({"x": np.zeros(3)}, path, metadata={"engrax": json.dumps(header)})


BAD = {
    cut: "cannot be read as a safetensors file",
    empty: "cannot be read as a safetensors file",
    flipped: "is damaged",
    foreign: "was not written by Engrax",
    pickled: "cannot be read as a safetensors file",
    newer: "Update Engrax",
}


@pytest.mark.parametrize("harm", BAD, ids=lambda f: f.__name__)
def test_a_bad_checkpoint_is_refused_and_the_one_before_it_used(
    tmp_path: Path, harm, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(tmp_path / "run")
    newest, _ = checkpoint.files(tmp_path / "run")
    harm(newest)
    resumed = train(tmp_path / "run", resume=True, progress=True)
    said = capsys.readouterr().err
    assert newest.name in said and BAD[harm] in said and "going on at step 21" in said
    same(whole, resumed)
    for path in checkpoint.files(tmp_path / "run"):
        harm(path)
    with pytest.raises(DataError, match="none of the 2 checkpoints"):
        train(tmp_path / "run", resume=True)


def test_a_run_goes_on_only_with_its_own_arguments(tmp_path: Path) -> None:
    train(tmp_path / "run")
    for name, value in {"batch": 3, "seeds": 2, "key": jax.random.key(1), "validate_every": 5}.items():
        with pytest.raises(ArgumentError, match=f"^{name}: the run in .* was made with"):
            train(tmp_path / "run", resume=True, **{name: value})
    with pytest.raises(ArgumentError, match=r"^resume: give out="):
        train(None, resume=True)
    with pytest.raises(ArgumentError, match="already holds a run"):
        train(tmp_path / "run")


def test_a_checkpoint_of_another_network_is_passed_over(tmp_path: Path) -> None:
    rule, adam = ex.rules.EProp(), optax.adam(0.01)
    options = {"batch": 2, "progress": False, "out": tmp_path / "run"}
    ex.fit(network(20), TASK, rule, adam, 2, **options)
    with pytest.raises(DataError, match="none of the"):
        ex.fit(network(21), TASK, rule, adam, 2, resume=True, **options)


def test_resuming_where_nothing_is_begins_at_the_beginning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same(train(None), train(tmp_path / "run", resume=True, progress=True))
    assert "no checkpoint yet: starting at the beginning" in capsys.readouterr().err


def test_arrays_of_every_kind_survive_a_file(tmp_path: Path) -> None:
    tree = {
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "none": None,
        "scalar": jnp.asarray(3, jnp.int32),
        "empty": jnp.zeros((0, 4)),
        "mask": jnp.array([True, False]),
        "key": jax.random.key(3),
        "word": "kept as it is",
    }
    write_arrays(tmp_path / "f", tree, {"what": ["a", 1]})
    back, facts = read_arrays(tmp_path / "f", tree)
    assert facts == {"what": ["a", 1]} and back["word"] == tree["word"]
    assert jax.random.key_data(back.pop("key")).tolist() == jax.random.key_data(tree.pop("key")).tolist()
    assert eqx.tree_equal(back, tree)


KILLED = """
import os, sys, time, jax
if len(sys.argv) > 3:  # a disk so slow that a write cannot be missed
    write_through = os.fsync
    os.fsync = lambda file: (time.sleep(float(sys.argv[3])), write_through(file))
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
import optax, engrax as ex
task = ex.tasks.get("evidence", cues=1, cue=10, gap=5, delay=5, recall=10, rate=300.0, trials=20)
net = ex.Network(
    {"hidden": ex.neurons.ALIF(200, threshold=0.3, beta=0.2), "readout": ex.neurons.LI(task.output_size)},
    [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")],
    inputs={"input": task.input_size}, outputs="readout", key=jax.random.key(0),
)
ex.fit(net, task, ex.rules.EProp(feedback="random"), optax.adam(0.003), 1500, batch=1, validate_every=250,
       checkpoint_every=5, out=sys.argv[1], resume=True, progress=False)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [2, 20])
def test_kills_at_random_moments_change_nothing(tmp_path: Path, kills: int) -> None:
    """Each process is killed (SIGKILL): every second one while it writes a checkpoint, the others anywhere."""
    program = [sys.executable, "-c", KILLED]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    cache = str(tmp_path / "cache")

    def start(out: Path, *slow: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*program, str(out), cache, *slow], env=environment, stderr=subprocess.PIPE)

    def steps(out: Path) -> list[str]:
        return [f.name for f in checkpoint.files(out)]

    dice, out, halves = random.Random(0), tmp_path / "killed", 0
    for kill in range(kills):
        process = start(out, *["1.0"] * (kill % 2))
        before, deadline = steps(out), time.monotonic() + 120
        while steps(out) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1].decode()
        if kill % 2:
            while not list(checkpoint.folder_of(out).glob(".step-*")) and process.poll() is None:
                time.sleep(0.01)
        else:
            time.sleep(dice.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        halves += bool(list(checkpoint.folder_of(out).glob(".step-*")))
    assert halves >= kills // 2  # these were in the middle of a write
    assert not (out / "result.json").exists()
    for folder in (out, tmp_path / "whole"):
        last = start(folder)
        errors = last.communicate()[1].decode()
        assert last.returncode == 0, errors
    assert not list(checkpoint.folder_of(out).glob(".step-*"))  # nothing of the killed is left
    for name in ("network.safetensors", "checkpoints/step-00001500.safetensors"):
        mine = safetensors.numpy.load_file(out / name)
        theirs = safetensors.numpy.load_file(tmp_path / "whole" / name)
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key], theirs[key])
    shutil.rmtree(out)
