"""Sequential MNIST and series of the UCR archive: their files, what trials show, and how they are refused."""

import gzip
import pathlib
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks.idx import read_idx
from engrax.tasks.ts import read_ts
from engrax.testing import check_task

HEADER = "# words\n@problemName Toy\n@timeStamps false\n@univariate false\n@classLabel true b a\n@data\n"


def idx(array: np.ndarray, kind: int) -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, kind, array.ndim]) + shape + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize(
    ("kind", "dtype"), [(0x08, np.uint8), (0x0B, np.int16), (0x0D, np.float32), (0x0E, np.float64)]
)
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_idx_files_are_read(tmp_path: pathlib.Path, kind: int, dtype: type, pack) -> None:
    array = (np.random.default_rng(0).random((3, 4, 2)) * 100).astype(dtype)
    (tmp_path / "a").write_bytes(pack(idx(array, kind)))
    found = read_idx(tmp_path / "a")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == dtype


def test_what_is_no_idx_file_is_said(tmp_path: pathlib.Path) -> None:
    whole = idx(np.zeros((3, 4), np.uint8), 0x08)
    for content, message in (
        (b"", "no IDX file"),
        (b"\0\0\x07\x01" + whole[4:], "no IDX file"),
        (whole[:9], "ends within its sizes"),
        (whole[:-1], "must hold 12 numbers of 1 bytes"),
        (whole + b"\0", "13 bytes"),
        (gzip.compress(whole)[:-9], "cannot be read"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_idx(tmp_path / "a")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none")


def test_pixels_come_one_by_one(data: pathlib.Path) -> None:
    plain, task = tasks.get("smnist"), tasks.get("smnist", window=8, permuted=True, permutation=3)
    assert {split: plain.count(split) for split in plain.rows} == {"train": 54000, "validation": 6000, "test": 10000}
    images = read_idx(data / "mnist" / "t10k-images-idx3-ubyte.gz")[:2].reshape(2, 784) / 255
    trial = next(plain.batches("test", 2))
    np.testing.assert_allclose(trial.inputs[:, :, 0].T, images, rtol=1e-6)
    assert trial.targets.tolist() == [7, 2] and trial.steps == 784
    order = np.random.RandomState(3).permutation(784)
    shown = np.asarray(next(task.batches("test", 2)).inputs)
    assert shown.shape == (784, 2, 8)
    for t in (0, 500, 776, 777, 783):
        np.testing.assert_allclose(shown[t], images[:, order[min(t, 776) :][:8]], rtol=1e-6)
    np.testing.assert_array_equal(task.order, order)
    binary = next(tasks.get("smnist", encoding="binary").batches("test", 2)).inputs
    np.testing.assert_array_equal(binary[..., 0].T, images > 0.1)
    check_task(plain, batch=2)
    # A split is the same in every run, and no image is in two.
    again = tasks.get("smnist", validation=100, seed=1)
    assert again.count("train") == 59900
    assert not np.array_equal(again.rows["validation"][1], plain.rows["validation"][1][:100])
    for settings, message in (
        ({"window": 785}, "window"),
        ({"encoding": "gray"}, "Did you mean 'grey'"),
        ({"validation": 0}, "valid"),
    ):
        with pytest.raises(TaskError, match=message):
            tasks.get("smnist", **settings)


def test_vowels_are_read(data: pathlib.Path) -> None:
    task = tasks.get("ucr")
    assert [task.count(split) for split in ("train", "validation", "test")] == [216, 54, 370]
    assert (task.input_size, task.output_size) == (12, 9)
    trial = next(task.batches("test", 370))
    lengths = np.asarray(trial.lengths) // 5
    assert (lengths.min(), lengths.max(), trial.steps) == (7, 29, 145)
    assert np.bincount(trial.targets).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    told = np.concatenate([np.asarray(x)[:n] for x, n in zip(*(task.rows["train"][k] for k in ("inputs", "lengths")))])
    np.testing.assert_allclose(told.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(told.std(0), 1, atol=1e-5)
    check_task(task)


def test_series_of_ones_own(tmp_path: pathlib.Path) -> None:
    lines = ["1,2,3:4,5,6:a", "3,1:1,0:b", "0,0,0,2:1,1,1,1:a", "1,1:2,2:b"]
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"Toy_{part}.ts").write_text(HEADER + "\n".join(lines) + "\n\n")
    cases = read_ts(tmp_path / "Toy_TEST.ts")
    np.testing.assert_array_equal(cases.values[0], [[1, 4], [2, 5], [3, 6]])
    assert cases.classes == ("b", "a") and cases.labels == ["a", "b", "a", "b"]
    task = tasks.get("ucr", problem="Toy", folder=str(tmp_path), hold=1)
    trial = next(task.batches("test", 4))
    assert trial.targets.tolist() == [1, 0, 1, 0] and trial.lengths.tolist() == [3, 2, 4, 2]
    assert task.count("validation") == 2 and not np.any(trial.inputs[2:, 1])
    right = jax.nn.one_hot(jnp.broadcast_to(trial.targets, (4, 4)), 2)
    # What is said in padding does not count.
    padded = jnp.where(trial.valid()[..., None] > 0, right, 100 * (1 - right))
    assert float(task.score(padded, trial)) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@classLabel true b a\n", "", "names no classes"),
        ("@data\n", "", "line 6: data before the line @data"),
        ("@timeStamps false", "@timeStamps true", "time stamps"),
        (":a", ":c", "line 7: class 'c' is none of b, a"),
        ("1,2,3:", "1,2:", "line 7: needs channels of one length"),
        ("1,2,3:", "1,?,3:", r"line 7: could not convert string to float: '\?'"),
        ("1,2,3:", "1,nan,3:", "line 7: .*finite"),
        ("1,2,3:4,5,6", "1,2,3", "different numbers of channels"),
    ],
)
def test_what_is_wrong_in_a_series_is_said(tmp_path: pathlib.Path, old: str, new: str, message: str) -> None:
    text = HEADER + "1,2,3:4,5,6:a\n3,1:1,0:b\n"
    assert old in text
    (tmp_path / "a.ts").write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_ts(tmp_path / "a.ts")


@pytest.mark.unchecked
def test_what_settings_of_series_are_refused(tmp_path: pathlib.Path) -> None:
    for settings, error, message in (
        ({"problem": "GunPoint"}, TaskError, "not fetched"),
        ({"problem": "../x"}, TaskError, "name of a problem"),
        ({"problem": "Toy", "folder": str(tmp_path)}, DataError, "does not exist"),
        ({"folder": 3}, TaskError, "path of a folder"),
        ({"fraction": 0.9}, TaskError, "fraction"),
    ):
        with pytest.raises(error, match=message):
            tasks.get("ucr", **settings)
    (tmp_path / "One_TRAIN.ts").write_text(HEADER + "1:2:a\n1:2:a\n1:2:b\n")
    (tmp_path / "One_TEST.ts").write_text(HEADER + "1:2:a\n")
    with pytest.raises(DataError, match="class 'b' has a single training series"):
        tasks.get("ucr", problem="One", folder=str(tmp_path))
