"""Recorded events: the files of the Heidelberg sets, written in their format, and what trials are made of them."""

import dataclasses
import hashlib
import pathlib
import zipfile

import h5py
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks import EventTask, heidelberg, nmnist
from engrax.tasks.event_task import EventFile
from engrax.testing import check_task
from recordings import learns

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


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "classes", "parts"), [("shd", 20, ("train", "test")), ("ssc", 35, ("train", "valid", "test"))]
)
def test_recipes_learn_from_such_files(tmp_path: pathlib.Path, name: str, classes: int, parts: tuple[str, ...]) -> None:
    for part in parts:
        write(tmp_path / f"{name}_{part}.h5", classes, SPEAKERS.get(f"shd_{part}", ()))
    learns(f"yin2021/{name}", f"task.folder={str(tmp_path)!r}")


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
        ({"bin": 5000.0}, "1 to 65536 bins"),
        ({"pool": 701}, "pool"),
        ({"folder": 3}, "path of a folder"),
    ):
        with pytest.raises(TaskError, match=message):
            tasks.get("shd", **{"folder": str(tmp_path), **settings})
    (tmp_path / "shd_test.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="no file of spikes"):
        tasks.get("shd", folder=str(tmp_path))


def encoded(x, y, polarity, when) -> bytes:
    bits = (x.astype(np.uint64) << 32) | (y.astype(np.uint64) << 24) | (polarity.astype(np.uint64) << 23) | when
    return b"".join(int(b).to_bytes(5, "big") for b in bits)


def test_an_event_cameras_files_are_decoded() -> None:
    draw = np.random.default_rng(0)
    x, y, polarity = draw.integers(0, 34, 50), draw.integers(0, 34, 50), draw.integers(0, 2, 50)
    when = np.sort(draw.integers(0, 2**23, 50)).astype(np.uint64)
    channel, time = nmnist.decoded(encoded(x, y, polarity, when), "a.bin")
    np.testing.assert_array_equal(channel, polarity * 1156 + y * 34 + x)
    np.testing.assert_array_equal(time, when)
    assert [len(part) for part in nmnist.decoded(b"", "a.bin")] == [0, 0]
    # Row 240 is no event, but 2^13 microseconds more for all that come later.
    y[[10, 30]], row = 240, np.arange(50)
    channel, later = nmnist.decoded(encoded(x, y, polarity, when), "a.bin")
    seen = y != 240
    np.testing.assert_array_equal(channel, (polarity * 1156 + y * 34 + x)[seen])
    np.testing.assert_array_equal(later, (when.astype(int) + 8192 * ((row > 10) * 1 + (row > 30)))[seen])
    with pytest.raises(DataError, match="events of 5 bytes each, but has 6"):
        nmnist.decoded(bytes(6), "a.bin")
    with pytest.raises(DataError, match="0 to 33, got 34"):
        nmnist.decoded(bytes([34, 0, 0, 0, 0]), "a.bin")


def test_digits_of_an_event_camera(data: pathlib.Path) -> None:
    task = tasks.get("nmnist")
    assert {split: task.count(split) for split in task.rows} == {"train": 900, "validation": 100, "test": 100}
    with np.load(data / "nmnist_small" / "nmnist_small.npz") as file:
        address, when, offset, label = (file[f"test_{x}"] for x in ("addr", "t_100us", "offset", "label"))
    trial = next(task.batches("test", 3))
    assert trial.inputs.shape == (60, 3, 2312)
    np.testing.assert_array_equal(trial.targets, label[:3])
    wanted = np.zeros((60, 2312))
    for a, t in zip(address[offset[2] : offset[3]].astype(int), when[offset[2] : offset[3]] / 10):
        if t < 300:
            wanted[int(t // 5), a] = 1
    np.testing.assert_array_equal(trial.inputs[:, 2], wanted)
    folds = [tasks.get("nmnist", fold=k) for k in (0, 1, 9)]
    tested = [set(np.asarray(t.rows["test"]).tolist()) for t in folds]
    assert [len(t) for t in tested] == [110, 110, 110] and not tested[0] & tested[1] and not tested[1] & tested[2]
    for one in folds:
        assert sorted(np.concatenate(list(one.rows.values())).tolist()) == list(range(1100))


def test_the_small_part_is_found_in_the_archives(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, draw = tmp_path / "nmnist", np.random.default_rng(0)
    folder.mkdir()
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path))
    monkeypatch.setitem(nmnist.COUNTS, "small", {"train": 12, "test": 5})
    for which, file in nmnist.ARCHIVES.items():
        with zipfile.ZipFile(folder / file.name, "w") as pack:
            for number in range(15, 0, -1):
                pixels = draw.integers(0, 34, (2, 30))
                times = np.sort(draw.integers(0, 300_000, 30)).astype(np.uint64)
                name = f"{which.title()}/{number % 10}/{number:05d}.bin"
                pack.writestr(name, encoded(*pixels, draw.integers(0, 2, 30), times))
        sum = hashlib.md5((folder / file.name).read_bytes()).hexdigest()
        changed = dataclasses.replace(file, checksum=f"md5:{sum}")
        monkeypatch.setitem(nmnist.ARCHIVES, which, changed)
    task = tasks.get("nmnist", binary=False, validation=0.2)
    assert {split: task.count(split) for split in task.rows} == {"train": 10, "validation": 2, "test": 5}
    trial = next(task.batches("test", 5))
    assert trial.targets.tolist() == [1, 2, 3, 4, 5] and trial.inputs.sum((0, 2)).tolist() == [30] * 5
    check_task(task, batch=2)
    monkeypatch.setitem(nmnist.COUNTS, "small", {"train": 16, "test": 5})
    with pytest.raises(DataError, match="must hold 16 files train/DIGIT/NUMBER"):
        tasks.get("nmnist")


def test_events_that_cannot_be_held_are_refused() -> None:
    class Own(EventTask):
        @property
        def output_size(self) -> int:
            return 2

    def made(steps, units, counts, bins=10, channels=5):
        arrays = (np.asarray(x, int) for x in (steps, units, counts, [0] * len(counts), [0] * len(counts)))
        members = dict.fromkeys(("train", "validation", "test"), np.arange(len(counts)))
        return Own(EventFile(*arrays), members, bins, channels, binary=True, dt=1.0)

    assert not np.any(next(made([], [], [0, 0]).batches("test", 2)).inputs)
    for arguments, error, message in (
        (([0], [0], [1], 10, 86400), TaskError, "at most 65536 bins and channels, got 10 and 86400"),
        (([0], [5], [1]), DataError, "channel 5"),
        (([10], [0], [1]), DataError, "found bin 10"),
        (([0, 1], [0, 1], [1]), DataError, "counts of 1 events do not agree"),
    ):
        with pytest.raises(error, match=message):
            made(*arguments)


def test_a_damaged_small_part_is_said_to_be(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nmnist_small").mkdir()
    (tmp_path / "nmnist_small" / "nmnist_small.npz").write_bytes(b"other bytes")
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"is damaged or of another version.*Replace or delete it"):
        tasks.get("nmnist")
