"""Recorded events: the files of the Heidelberg sets, written in their format, and what trials are made of them."""

import hashlib
import pathlib
import zipfile

import h5py
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks import heidelberg
from engrax.testing import check_task

SPEAKERS = {"shd_train": (0, 1, 11), "shd_test": (4, 5, 1)}


def write(path: pathlib.Path, classes: int, speakers: tuple[int, ...] = (), seed: int = 0, **changes) -> dict:
    """A file as they are: times in half precision, lists of variable length, one of them empty."""
    draw = np.random.default_rng(seed)
    lengths = [50, 0, 7, 120, 33, 64]
    content = {
        "times": [np.sort(draw.random(n) * 1.2).astype(np.float16) for n in lengths],
        "units": [draw.integers(0, 700, n).astype(np.uint16) for n in lengths],
        "labels": draw.integers(0, classes, len(lengths)).astype(np.uint16),
        "speaker": np.resize(np.asarray(speakers, np.uint16), len(lengths)) if speakers else None,
    } | changes
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            held = file.create_dataset(f"spikes/{name}", (len(content[name]),), h5py.vlen_dtype(kind))
            for i, x in enumerate(content[name]):
                held[i] = x
        file["labels"] = content["labels"]
        if content["speaker"] is not None:
            file["extra/speaker"] = content["speaker"]
    return content


def test_digits_of_an_artificial_cochlea(tmp_path: pathlib.Path) -> None:
    train = write(tmp_path / "shd_train.h5", 20, SPEAKERS["shd_train"])
    test = write(tmp_path / "shd_test.h5", 20, SPEAKERS["shd_test"], seed=1)
    task = tasks.get("shd", folder=str(tmp_path))
    assert {split: task.count(split) for split in task.rows} == {"train": 4, "validation": 2, "test": 6}
    assert (task.input_size, task.output_size, task.bins) == (700, 20, 250)
    for content, split, members in (
        (train, "train", [0, 1, 3, 4]),
        (train, "validation", [2, 5]),
        (test, "test", range(6)),
    ):
        trial = next(task.batches(split, 6))
        assert trial.inputs.shape == (250, len(members), 700)
        np.testing.assert_array_equal(trial.targets, [content["labels"][i] for i in members])
        for b, i in enumerate(members):
            wanted = np.zeros((250, 700))
            for time, unit in zip(content["times"][i].astype(float), content["units"][i]):
                if time < 1.0:
                    wanted[int(time * 250), unit] = 1
            np.testing.assert_array_equal(trial.inputs[:, b], wanted)
    check_task(task, batch=2)


def test_events_are_pooled_and_counted(tmp_path: pathlib.Path) -> None:
    for part in ("train", "valid", "test"):
        content = write(tmp_path / f"ssc_{part}.h5", 35)
    task = tasks.get("ssc", folder=tmp_path, bin=100.0, seconds=1.3, pool=70, binary=False)
    trial = next(task.batches("test", 6))
    assert trial.inputs.shape == (13, 6, 10) and task.output_size == 35
    np.testing.assert_array_equal(trial.inputs.sum((0, 2)), [len(x) for x in content["times"]])
    where = np.floor(content["times"][3].astype(float) * 10).astype(int), content["units"][3] // 70
    wanted = np.zeros((13, 10))
    np.add.at(wanted, where, 1)
    np.testing.assert_array_equal(trial.inputs[:, 3], wanted)
    assert wanted.max() > 1
    seen = next(tasks.get("ssc", folder=tmp_path, bin=100.0, pool=70).batches("test", 6)).inputs
    np.testing.assert_array_equal(seen, np.minimum(trial.inputs[:10], 1))


def test_archives_are_checked_and_unpacked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, sums = tmp_path / "data" / "shd", {}
    folder.mkdir(parents=True)
    for name, speakers in SPEAKERS.items():
        write(tmp_path / f"{name}.h5", 20, speakers)
        with zipfile.ZipFile(folder / f"{name}.h5.zip", "w") as pack:
            pack.write(tmp_path / f"{name}.h5", f"{name}.h5")
        sums[name] = hashlib.md5((folder / f"{name}.h5.zip").read_bytes()).hexdigest()
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"its MD5 is [0-9a-f]{32}, expected f3252aeb598ac776c1b526422d90eecb"):
        tasks.get("shd")
    monkeypatch.setattr(heidelberg, "_MD5", sums)
    assert tasks.get("shd").count("test") == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 1, 2, 3, 4, 20])}, "labels must be 0 to 19, got 0 to 20"),
        ({"labels": np.array([0, 1])}, "equally many recordings"),
        ({"units": [np.array([700])] * 6, "times": [np.array([0.1])] * 6}, "units 0 to 699"),
        ({"times": [np.array([-0.1])] * 6, "units": [np.array([1])] * 6}, "times must be >= 0"),
        ({"times": [np.array([0.1])] * 6}, "more times than units"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: pathlib.Path, changes: dict, message: str) -> None:
    for name, speakers in SPEAKERS.items():
        write(tmp_path / f"{name}.h5", 20, speakers, **changes)
    with pytest.raises(DataError, match=message):
        tasks.get("shd", folder=str(tmp_path))


@pytest.mark.unchecked
def test_what_settings_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        tasks.get("shd", folder=str(tmp_path))
    for name, speakers in SPEAKERS.items():
        write(tmp_path / f"{name}.h5", 20, speakers)
    for settings, message in (
        ({"validation": (3,)}, r"\[0, 1, 11\]"),
        ({"validation": (0, 1, 11)}, "not all of them"),
        ({"validation": ()}, "must name speakers"),
        ({"bin": 0.0}, "bin must be"),
        ({"bin": 5000.0}, "1 to 65535 bins"),
        ({"pool": 701}, "pool"),
        ({"folder": 3}, "path of a folder"),
    ):
        with pytest.raises(TaskError, match=message):
            tasks.get("shd", **{"folder": str(tmp_path), **settings})
    (tmp_path / "shd_test.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="no file of spikes"):
        tasks.get("shd", folder=str(tmp_path))
