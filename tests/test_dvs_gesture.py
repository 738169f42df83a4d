"""DVS128 Gesture: AEDAT 3.1 files and their labels, written in their format, and what trials are made of them."""

import pathlib
import struct

import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks.aedat import read_aedat
from engrax.testing import check_task

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def packet(events: list[tuple[int, int, int, int]], kind: int = 1, overflow: int = 0, invalid: int = -1) -> bytes:
    body = b"".join(
        struct.pack("<Ii", (x << 17) | (y << 2) | (p << 1) | (i != invalid), when)
        for i, (x, y, p, when) in enumerate(events)
    )
    return struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(events), len(events), len(events)) + body


def test_packets_are_decoded(tmp_path: pathlib.Path) -> None:
    events = [(3, 5, 1, 100), (127, 0, 0, 250), (64, 127, 1, 300)]
    content = HEADER + packet(events, invalid=1) + packet([(1, 1, 1, 1)], kind=0) + packet([(2, 9, 0, 7)], overflow=1)
    (tmp_path / "a.aedat").write_bytes(content)
    seen = read_aedat(tmp_path / "a.aedat")
    found = list(zip(*(x.tolist() for x in seen), strict=True))
    assert found == [(3, 5, 1, 100), (64, 127, 1, 300), (2, 9, 0, 7 + 2**31)]
    (tmp_path / "a.aedat").write_bytes(HEADER)
    assert [len(x) for x in read_aedat(tmp_path / "a.aedat")] == [0] * 4
    for wrong, message in (
        (b"#!AER-DAT2.0\r\n#!END-HEADER\r\n", "no AEDAT 3.1 file"),
        (HEADER[:-4], "no AEDAT 3.1 file"),
        (content[:-3], "ends within a packet of 1 events of 8 bytes"),
        (content + b"\0\0", "ends within the head of a packet"),
        (HEADER + struct.pack("<hhiiiiii", 1, 1, 12, 4, 0, 0, 0, 0), "polarity events of 12 bytes"),
    ):
        (tmp_path / "a.aedat").write_bytes(wrong)
        with pytest.raises(DataError, match=message):
            read_aedat(tmp_path / "a.aedat")
    with pytest.raises(DataError, match="cannot be read"):
        read_aedat(tmp_path / "none.aedat")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three persons, two gestures each."""
    draw = np.random.default_rng(0)
    for person in (1, 22, 24):
        events = [
            (*draw.integers(0, 128, 2).tolist(), int(draw.integers(0, 2)), when) for when in range(1000, 900_000, 3000)
        ]
        name = f"user{person:02d}_led"
        (tmp_path / f"{name}.aedat").write_bytes(HEADER + packet(events[:100]) + packet(events[100:]))
        labels = "class,startTime_usec,endTime_usec\n3,10000,400000\n11,500000,880000\n"
        (tmp_path / f"{name}_labels.csv").write_text(labels)
    (tmp_path / "trials_to_train.txt").write_text("user01_led.aedat\nuser22_led.aedat\n")
    (tmp_path / "trials_to_test.txt").write_text("user24_led.aedat\n")
    return tmp_path


def test_gestures_are_cut_out_and_pooled(folder: pathlib.Path) -> None:
    task = tasks.get("dvs_gesture", folder=str(folder), validation=(22,), bin=10.0, seconds=0.3, pool=16, binary=False)
    assert {split: task.count(split) for split in task.rows} == {"train": 2, "validation": 2, "test": 2}
    assert (task.input_size, task.output_size) == (128, 11)
    trial = next(task.batches("test", 2))
    assert trial.targets.tolist() == [2, 10]
    seen = read_aedat(folder / "user24_led.aedat")
    for b, (first, last) in enumerate(((10_000, 400_000), (500_000, 880_000))):
        wanted = np.zeros((30, 2, 8, 8))
        for x, y, p, when in zip(*seen, strict=True):
            if first <= when <= last and when - first < 300_000:
                wanted[(when - first) // 10_000, p, y // 16, x // 16] += 1
        np.testing.assert_array_equal(trial.inputs[:, b], wanted.reshape(30, 128))
        assert wanted.sum() > 90
    check_task(task, batch=2)


@pytest.mark.unchecked
def test_what_is_wrong_is_said(folder: pathlib.Path) -> None:
    def made(**settings):
        return tasks.get("dvs_gesture", **{"folder": str(folder), "validation": (22,), **settings})

    for settings, message in (
        ({"validation": (24,)}, r"\[1, 22\]"),
        ({"validation": (1, 22)}, "not all of them"),
        ({"pool": 5}, "pool must divide 128"),
        ({"bin": 1e6}, "bins"),
        ({"folder": 3}, "path of a folder"),
    ):
        with pytest.raises(TaskError, match=message):
            made(**settings)
    for file, content, message in (
        ("user24_led_labels.csv", "class,start,end\n12,1,2\n", "line 2: class must be 1 to 11"),
        ("user24_led_labels.csv", "class,start,end\n1,x,2\n", "no list of class"),
        ("user24_led_labels.csv", "class,start,end\n", "no recording with a gesture"),
        ("trials_to_test.txt", "x.aedat\n", "a recording is called"),
        ("trials_to_test.txt", "user99_led.aedat\n", "cannot be read"),
    ):
        before = (folder / file).read_text()
        (folder / file).write_text(content)
        with pytest.raises(DataError, match=message):
            made()
        (folder / file).write_text(before)
    (folder / "user24_led.aedat").write_bytes(HEADER + packet([(128, 0, 0, 20_000)]))
    with pytest.raises(DataError, match="0 to 127, got 128"):
        made()
