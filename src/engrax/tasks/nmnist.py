"""N-MNIST: handwritten digits seen by an event camera that moves in three saccades, 34 x 34 pixels, two polarities.

Files: one a digit, of events of 40 bits: x (8), y (8), polarity (1), time in microseconds (23), as Orchard et al. 2015
publish them (CC BY-SA 4.0), in Train.zip and Test.zip.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DataError
from .data import DataFile, fetch
from .event_task import EventFile, EventTask, joined
from .settings import bins, boolean, integer, number, word
from .task import Split

SIDE, DIGITS, FOLDS = 34, 10, 10
ROUND = 240
CHANNELS = 2 * SIDE * SIDE
_SITE = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"
ARCHIVES = {
    "train": DataFile(
        "nmnist",
        "Train.zip",
        "md5:20959b8e626244a1b502305a9e6e2031",
        (f"{_SITE}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
    ),
    "test": DataFile(
        "nmnist",
        "Test.zip",
        "md5:69ca8762b2fe404d9b9bad1103e97832",
        (f"{_SITE}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
    ),
}
# The first 1000 training and 100 test digits in one file, times in tenths of a millisecond: it saves the archives.
SMALL = DataFile(
    "nmnist_small", "nmnist_small.npz", "22b390b9c5e9f56658d5687eae029ca4ecfebec7335eb681b75038cf1cf49077", ()
)
COUNTS = {"small": {"train": 1000, "test": 100}, "full": {"train": 60000, "test": 10000}}


class NMNIST(EventTask):
    """N-MNIST. Metric: accuracy.

    Settings:
        part: "small", the first 1000 training and 100 test digits, or "full", all 60,000 and 10,000.
        fold: None: the set's own split. 0 to 9: a tenth of all digits is the test, and each digit is tested in one of
            the ten folds; for the small part, whose 100 test digits decide little.
        validation: share of the other digits that is held out.
        seed: draws folds and held-out digits.
        bin: ms. seconds: of a recording, from its beginning.
        binary: whether several events of a pixel in one bin count as one.
        dt: length of a bin in the unit of the network's time constants; 1: they are in bins.

    Trials: inputs (bins, batch, 2312), polarity by row by column; targets (batch,). The decision is the largest output
    on average over time.

    Source: Orchard, Jayawant, Cohen & Thakor 2015.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the files are neither found nor to be downloaded, or damaged.
    """

    name: ClassVar[str] = "nmnist"

    def __init__(
        self,
        part: str = "small",
        fold: int | None = None,
        validation: float = 0.1,
        seed: int = 0,
        bin: float = 5.0,
        seconds: float = 0.3,
        binary: bool = True,
        dt: float = 1.0,
    ) -> None:
        part = word("part", tuple(COUNTS))(part)
        fold = None if fold is None else integer("fold", 0, FOLDS - 1)(fold)
        share = number("validation", 0.0, 0.5, exclusive=True)(validation)
        seed, binary = integer("seed", 0)(seed), boolean("binary")(binary)
        (bin, count), dt = bins(number("bin", 0.1)(bin), seconds), number("dt", 0.0, exclusive=True)(dt)
        train, test = (_read(part, which, bin, count) for which in ("train", "test"))
        random, everything = np.random.RandomState(seed), len(train.labels) + len(test.labels)
        if fold is None:
            tested = np.arange(len(train.labels), everything)
        else:
            tested = np.sort(random.permutation(everything)[fold::FOLDS])
        rest = random.permutation(np.setdiff1d(np.arange(everything), tested))
        held = max(1, round(share * len(rest)))
        members: dict[Split, np.ndarray] = {
            "train": np.sort(rest[held:]),
            "validation": np.sort(rest[:held]),
            "test": tested,
        }
        super().__init__(joined(train, test), members, count, CHANNELS, binary, dt)

    @property
    def output_size(self) -> int:
        return DIGITS


def _read(part: str, which: str, bin: float, count: int) -> EventFile:
    if part == "small" and (path := _small()) is not None:
        with np.load(path) as file:
            address, when, offset, label = (file[f"{which}_{x}"] for x in ("addr", "t_100us", "offset", "label"))
        return _binned(address.astype(np.int64), when.astype(np.int64) * 100, np.diff(offset), label, bin, count)
    files = []
    for name, digit, content in _archive(fetch(ARCHIVES[which]), which, COUNTS[part][which]):
        address, when = decoded(content, name)
        files.append(_binned(address, when, np.array([len(when)]), np.array([digit]), bin, count))
    return joined(*files)


def _small() -> Path | None:
    """The file of the small part, where there is one; it is not published by itself."""
    own = os.environ.get("ENGRAX_DATA")
    there = own is not None and (Path(own).expanduser() / SMALL.folder / SMALL.name).is_file()
    return fetch(SMALL) if there else None


def _archive(path: Path, which: str, count: int) -> Iterator[tuple[str, int, bytes]]:
    """Name, digit and content of the files with the first `count` numbers, in their order."""
    pattern = re.compile(rf"{which}/(\d)/(\d+)\.bin$", re.IGNORECASE)
    try:
        with zipfile.ZipFile(path) as pack:
            found = {int(m[2]): (name, int(m[1])) for name in pack.namelist() if (m := pattern.search(name))}
            if set(range(1, count + 1)) - set(found):
                raise DataError(f"{path} must hold {count} files {which}/DIGIT/NUMBER.bin, numbered from 1.")
            for number in range(1, count + 1):
                name, digit = found[number]
                yield name, digit, pack.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} cannot be unpacked ({error}).") from error


def decoded(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Channel (polarity by row by column) and time (microseconds) of each event of a file.

    Events of row 240 are no events, but say that the clock went round once more: 2^13 microseconds later, from there
    on, as the publishers' own reader takes them.

    Raises:
        DataError: its length is no multiple of 5 bytes, or a pixel lies outside.
    """
    if len(content) % 5:
        raise DataError(f"{name} must be events of 5 bytes each, but has {len(content)} bytes.")
    x, y, high, middle, low = np.frombuffer(content, np.uint8).reshape(-1, 5).astype(np.int64).T
    seen = y != ROUND
    when = ((high & 0x7F) << 16 | middle << 8 | low) + 2**13 * np.cumsum(~seen)
    x, y, high, when = x[seen], y[seen], high[seen], when[seen]
    if len(x) and max(x.max(), y.max()) >= SIDE:
        raise DataError(f"{name}: pixels must be 0 to {SIDE - 1}, got {max(x.max(), y.max())}.")
    return (high >> 7) * SIDE * SIDE + y * SIDE + x, when


def _binned(address: Any, when: Any, counts: Any, labels: Any, bin: float, count: int) -> EventFile:
    step = np.floor(when / (1000 * bin)).astype(np.int64)
    kept = step < count
    left = np.bincount(np.repeat(np.arange(len(counts)), counts)[kept], minlength=len(counts))
    who = np.full(len(counts), -1)
    return EventFile(step[kept].astype(np.uint16), address[kept].astype(np.uint16), left, labels.astype(np.int64), who)
