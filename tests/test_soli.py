"""SoLi: sequences written in its format, and what trials are made of them."""

import json
import pathlib

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.testing import check_task
from recordings import learns

NAMES = {"train": ["0_2_0", "3_2_1", "10_5_0", "1_5_3", "11_5_0"], "eval": ["4_3_0", "2_3_1"]}
LENGTHS = {"0_2_0": 5, "3_2_1": 9, "10_5_0": 3, "1_5_3": 7, "11_5_0": 4, "4_3_0": 6, "2_3_1": 8}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    draw = np.random.default_rng(0)
    (tmp_path / "dsp").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "file_half.json").write_text(json.dumps(NAMES))
    for name, length in LENGTHS.items():
        with h5py.File(tmp_path / "dsp" / f"{name}.h5", "w") as file:
            for channel in range(4):
                file[f"ch{channel}"] = draw.integers(0, 256, (length, 1024)).astype(np.float32)
            file["label"] = np.full((length, 1), int(name.split("_")[0]))
    return tmp_path


def test_sequences_are_read(folder: pathlib.Path) -> None:
    task = tasks.get("soli", folder=str(folder), frames=6, channel=2, hold=2)
    assert {split: task.count(split) for split in task.rows} == {"train": 2, "validation": 2, "test": 2}
    trial = next(task.batches("test", 2))
    assert trial.inputs.shape == (12, 2, 1024) and trial.lengths.tolist() == [12, 12]
    assert trial.targets[:, 0].tolist() == [4] * 12 and trial.targets[:, 1].tolist() == [2] * 12
    with h5py.File(folder / "dsp" / "4_3_0.h5") as file:
        np.testing.assert_allclose(trial.inputs[::2, 0], file["ch2"][()] / 255, rtol=1e-6)
    short = next(task.batches("validation", 2))
    assert short.lengths.tolist() == [6, 12] and not np.any(short.inputs[6:, 0])
    # Right at the last valid step alone.
    right = jax.nn.one_hot(short.targets, 11)
    last = jnp.asarray([5, 11])[None] == jnp.arange(12)[:, None]
    outputs = jnp.where(last[..., None], right, 1 - right)
    assert float(task.metrics(outputs, short)["accuracy_last"][0]) == 1
    assert float(task.score(outputs, short)) == pytest.approx(2 / 18)
    check_task(task, batch=2)


@pytest.mark.nightly
def test_the_recipe_learns_from_such_files(folder: pathlib.Path) -> None:
    learns("yin2021/soli", f"task.folder={str(folder)!r}", "task.frames=6")


@pytest.mark.unchecked
def test_what_is_wrong_is_said(folder: pathlib.Path) -> None:
    for settings, message in (
        ({"validation": (3,)}, r"\[2, 5\]"),
        ({"validation": (2, 5)}, "not all of them"),
        ({"channel": 4}, "channel"),
        ({"folder": 3}, "path of a folder"),
    ):
        with pytest.raises(TaskError, match=message):
            tasks.get("soli", **{"folder": str(folder), **settings})
    with h5py.File(folder / "dsp" / "4_3_0.h5", "a") as file:
        del file["label"]
        file["label"] = np.array([[4]] * 5 + [[5]])
    with pytest.raises(DataError, match=r"one class of 0 to 11; got \(6, 1024\) and \[4, 5\]"):
        tasks.get("soli", folder=str(folder))
    (folder / "dsp" / "4_3_0.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="no file with ch0 and label"):
        tasks.get("soli", folder=str(folder))
    (folder / "dsp" / "4_3_0.h5").unlink()
    with pytest.raises(DataError, match="does not exist"):
        tasks.get("soli", folder=str(folder))
    for content in ("[", '{"train": []}', '{"train": ["a"], "eval": []}'):
        (folder / "config" / "file_half.json").write_text(content)
        with pytest.raises(DataError, match="must be JSON with lists"):
            tasks.get("soli", folder=str(folder))
    with pytest.raises(DataError, match=r"file_half\.json does not exist"):
        tasks.get("soli", folder=str(folder / "dsp"))
