"""Spoken digits and commands as spikes of an artificial cochlea: the Spiking Heidelberg Digits and Speech Commands.

Files: HDF5, one a split, as Cramer et al. 2020 publish them (CC BY 4.0): `spikes/times` (s) and `spikes/units`, lists
of different lengths; `labels`; SHD also `extra/speaker`.
"""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DataError
from .data import DataFile, fetch, package
from .event_task import EventFile, EventTask, by_person, joined
from .settings import bins, boolean, integer, number
from .settings import folder as as_folder
from .task import SPLITS, Split

UNITS = 700
_SITES = ("https://zenkelab.org/datasets/", "https://compneuro.net/datasets/")
_MD5 = {
    "shd_train": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test": "1503a5064faa34311c398fb0a1ed0a6f",
    "ssc_train": "d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid": "b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test": "a35ff1e9cffdd02a20eb850c17c37748",
}


class SHD(EventTask):
    """Spiking Heidelberg Digits: 20 classes (0 to 9 in English and in German), 12 speakers. Metric: accuracy.

    Settings:
        validation: speakers whose training recordings are held out. The set has no validation part of its own; figures
            that were chosen on its test part are better than they should be. Speakers 4 and 5 speak in the test alone.
        folder: where shd_train.h5 and shd_test.h5 lie, used as they are; None: the published archives, checked.
        bin: ms. seconds: of a recording, from its beginning; what comes later is left out.
        pool: neighbouring cochlear channels that become one, of 700.
        binary: whether several events in one bin count as one.
        dt: length of a bin in the unit of the network's time constants; 1: they are in bins.

    Trials: inputs (bins, batch, 700 / pool); targets (batch,). The decision is the largest output on average over time.

    Source: Cramer, Stradmann, Schemmel & Zenke 2020.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: h5py is not installed; the files are neither found nor to be downloaded, or are no such files.
    """

    name: ClassVar[str] = "shd"

    def __init__(
        self,
        validation: Sequence[int] = (11,),
        folder: str | os.PathLike[str] | None = None,
        bin: float = 4.0,
        seconds: float = 1.0,
        pool: int = 1,
        binary: bool = True,
        dt: float = 1.0,
    ) -> None:
        files, options = _files(("shd_train", "shd_test"), 20, folder, bin, seconds, pool, binary, dt)
        train, test = files
        members = by_person(train, test, validation, "speakers")
        super().__init__(joined(train, test), members, **options)

    @property
    def output_size(self) -> int:
        return 20


class SSC(EventTask):
    """Spiking Speech Commands: 35 words, with a validation and a test part of their own. Metric: accuracy.

    Settings:
        folder, bin, seconds, pool, binary, dt: as for `SHD`; the files are ssc_train.h5, ssc_valid.h5 and ssc_test.h5.

    Trials and errors are those of `SHD`. All events of 105,000 recordings are held, in 4 bytes each: about
    3 GB, and two to three times as much while they are read.

    Source: Cramer et al. 2020; recordings, Warden 2018.
    """

    name: ClassVar[str] = "ssc"

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        bin: float = 4.0,
        seconds: float = 1.0,
        pool: int = 1,
        binary: bool = True,
        dt: float = 1.0,
    ) -> None:
        names = ("ssc_train", "ssc_valid", "ssc_test")
        files, options = _files(names, 35, folder, bin, seconds, pool, binary, dt)
        ends = np.cumsum([len(file.labels) for file in files])
        parts: dict[Split, np.ndarray] = dict(zip(SPLITS, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
        super().__init__(joined(*files), parts, **options)

    @property
    def output_size(self) -> int:
        return 35


def _files(
    names: tuple[str, ...], classes: int, folder: Any, bin: float, seconds: float, pool: int, binary: bool, dt: float
) -> tuple[list[EventFile], dict[str, Any]]:
    """Files as they were read, and what `EventTask` wants beside recordings and splits."""
    bin, count = bins(bin, seconds)
    pool, binary, dt = integer("pool", 1, UNITS)(pool), boolean("binary")(binary), number("dt", 0.0, exclusive=True)(dt)
    files = [read(*_source(name, folder), bin, count, pool, classes) for name in names]
    return files, {"bins": count, "channels": -(-UNITS // pool), "binary": binary, "dt": dt}


def _source(name: str, folder: Any) -> tuple[Path, Any]:
    """The path of an HDF5 file, for messages, and what h5py opens."""
    if folder is not None:
        path = as_folder(folder) / f"{name}.h5"
        if not path.is_file():
            raise DataError(f"{path} does not exist.")
        return path, path
    archive = f"{name}.h5.zip"
    file = DataFile(name[:3], archive, f"md5:{_MD5[name]}", tuple(site + archive for site in _SITES))
    path = fetch(file)
    try:
        with zipfile.ZipFile(path) as pack:
            return path, io.BytesIO(pack.read(f"{name}.h5"))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DataError(f"{path} cannot be unpacked ({error}).") from error


def read(path: Path, source: Any, bin: float, count: int, pool: int, classes: int) -> EventFile:
    """Recordings of an HDF5 file; `who` is -1 where it names no speakers.

    Args:
        path: for messages.
        source: what h5py opens.
        bin: ms.
        count: of bins; later events are left out.
        pool: channels that become one unit.
        classes: labels are below.

    Raises:
        DataError: h5py is not installed, or it is no such file.
    """
    h5py = package("h5py", "reading HDF5 files")
    try:
        with h5py.File(source, "r") as file:
            times, units, labels = (file[name][()] for name in ("spikes/times", "spikes/units", "labels"))
            who = file["extra/speaker"][()] if "extra/speaker" in file else np.full(len(labels), -1)
    except (OSError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of spikes with times, units and labels ({error}).") from error
    labels = np.asarray(labels).astype(np.int64)
    if not len(times) == len(units) == len(labels) == len(who) or not len(labels):
        raise DataError(f"{path}: times, units, labels and speakers must be of equally many recordings, at least one.")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{path}: labels must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}.")
    lengths = np.array([len(x) for x in times])
    if np.any(lengths != [len(x) for x in units]):
        raise DataError(f"{path}: a recording has more times than units, or fewer.")
    steps, kept_units = [], []
    # One recording after another: all of them in double precision would need ten times the memory.
    for when, unit in zip(times, units, strict=True):
        when, unit = np.asarray(when, np.float64), np.asarray(unit)
        if len(unit) and (unit.min() < 0 or unit.max() >= UNITS or not np.all(when >= 0)):
            raise DataError(f"{path}: times must be >= 0 and units 0 to {UNITS - 1}.")
        step = np.floor(when * (1000 / bin))
        steps.append(step[step < count].astype(np.uint16))
        kept_units.append((unit[step < count] // pool).astype(np.uint16))
    counts = np.array([len(x) for x in steps])
    return EventFile(np.concatenate(steps), np.concatenate(kept_units), counts, labels, who)
