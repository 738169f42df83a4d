"""DVS128 Gesture: eleven gestures of hands and arms before an event camera of 128 x 128 pixels.

Files, as Amir et al. 2017 publish them: trials_to_train.txt and trials_to_test.txt list recordings userNN_LIGHT.aedat;
beside each, userNN_LIGHT_labels.csv gives class (1 to 11), first and last microsecond of every gesture in it.
"""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DataError, TaskError
from .aedat import read_aedat
from .event_task import EventFile, EventTask, by_person, joined
from .settings import bins, boolean, integer, number
from .settings import folder as as_folder

SIDE, GESTURES = 128, 11
LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}


class DVSGesture(EventTask):
    """DVS128 Gesture. Metric: accuracy.

    Settings:
        folder: where the lists and recordings lie. Their publisher asks every user to accept its terms, so they are not
            fetched.
        validation: persons whose training recordings are held out, by number. The set has persons 1 to 23 in its
            training part, 24 to 29 in its test part.
        bin: ms. seconds: of a gesture, from its beginning; what comes later is left out.
        pool: side of the squares of pixels that become one; 4 makes 32 x 32 of 128 x 128.
        binary: whether several events of a pixel in one bin count as one.
        dt: length of a bin in the unit of the network's time constants; 1: they are in bins.

    Trials: inputs (bins, batch, 2 x (128 / pool)^2), polarity by row by column; targets (batch,), 0 to 10. The decision
    is the largest output on average over time.

    Source: Amir et al. 2017.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: files are missing, or no such files.
    """

    name: ClassVar[str] = "dvs_gesture"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        validation: Sequence[int] = (22, 23),
        bin: float = 10.0,
        seconds: float = 1.5,
        pool: int = 4,
        binary: bool = True,
        dt: float = 1.0,
    ) -> None:
        there, (bin, count) = as_folder(folder), bins(bin, seconds)
        pool, binary, dt = (
            integer("pool", 1, SIDE)(pool),
            boolean("binary")(binary),
            number("dt", 0.0, exclusive=True)(dt),
        )
        if SIDE % pool:
            raise TaskError(f"pool must divide {SIDE}, got {pool}.")
        train, test = (_read(there, LISTS[which], bin, count, pool) for which in ("train", "test"))
        members = by_person(train, test, validation, "persons")
        super().__init__(joined(train, test), members, count, 2 * (SIDE // pool) ** 2, binary, dt)

    @property
    def output_size(self) -> int:
        return GESTURES


def _read(folder: Path, name: str, bin: float, count: int, pool: int) -> EventFile:
    """All gestures of the recordings that a list names."""
    try:
        recordings = [line.strip() for line in (folder / name).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / name} cannot be read ({error}).") from error
    found = [gesture for recording in recordings for gesture in _gestures(folder / recording, bin, count, pool)]
    if not found:
        raise DataError(f"{folder / name} names no recording with a gesture in it.")
    return joined(*found)


def _gestures(path: Path, bin: float, count: int, pool: int) -> list[EventFile]:
    person = re.match(r"user(\d+)_", path.name)
    if person is None:
        raise DataError(f"{path}: a recording is called userNN_LIGHT.aedat.")
    seen, side, made = read_aedat(path), SIDE // pool, []
    if len(seen.x) and max(seen.x.max(), seen.y.max()) >= SIDE:
        raise DataError(f"{path}: pixels must be 0 to {SIDE - 1}, got {max(seen.x.max(), seen.y.max())}.")
    channel = (seen.polarity * side + seen.y // pool) * side + seen.x // pool
    for label, first, last in _labels(path.with_name(f"{path.stem}_labels.csv")):
        step = np.floor((seen.when - first) / (1000 * bin)).astype(np.int64)
        kept = (seen.when >= first) & (seen.when <= last) & (step < count)
        one = np.array([kept.sum()]), np.array([label]), np.array([int(person[1])])
        made.append(EventFile(step[kept].astype(np.uint16), channel[kept].astype(np.uint16), *one))
    return made


def _labels(path: Path) -> list[tuple[int, int, int]]:
    """Class from 0, first and last microsecond of each gesture."""
    found: list[tuple[int, int, int]] = []
    try:
        with path.open(newline="") as file:
            rows: list[Any] = list(csv.reader(file))[1:]
        for line, row in enumerate(rows, start=2):
            label, first, last = (int(x) for x in row)
            if not 1 <= label <= GESTURES or first > last:
                raise DataError(f"{path}, line {line}: class must be 1 to {GESTURES}, and begin before it ends.")
            found.append((label - 1, first, last))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is no list of class, startTime_usec, endTime_usec ({error}).") from error
    return found
