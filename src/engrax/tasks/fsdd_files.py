"""The recordings of the Free Spoken Digit Dataset: found or downloaded, and never used unless every bit is right.

One checksum is pinned, that of the list of the recordings' own checksums. It holds for GitHub's archive, however
packed, and for an array of all samples, whose recordings are given the header of their files for the comparison.
"""

import hashlib
import io
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .audio import read_audio
from .data import cache_folder, package

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
ARCHIVE = f"free-spoken-digit-dataset-{COMMIT}.zip"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{COMMIT}.zip"
# Of the text that `sha256sum recordings/*.wav` prints. GitHub may pack an archive anew, but not change what is in it.
SHA256 = "04e1baae96c6a26e39c623f2b01d0182ddae627ba0ac02a3cdc17ba2af99fd9b"

RATE = 8000
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50


class Clips(NamedTuple):
    """16-bit samples of every recording, in the order of the files' names, and who said what for which time."""

    samples: list[np.ndarray]
    digit: np.ndarray
    speaker: np.ndarray
    take: np.ndarray


def read() -> Clips:
    """The recordings: from `ENGRAX_DATA` (`fsdd/fsdd.npz`, or the archive), the cache, or downloaded into the cache.

    Raises:
        DataError: they cannot be had, or are not, sample for sample, those of the pinned version.
    """
    own = os.environ.get("ENGRAX_DATA")
    if own and not Path(own).expanduser().is_dir():
        raise DataError(f"ENGRAX_DATA is {own!r}, which is not a folder. Correct it, or unset it to download.")
    shelves = [Path(own).expanduser()] if own else []
    readers: tuple[tuple[str, Callable[[Path], Clips]], ...] = (("fsdd.npz", _from_arrays), (ARCHIVE, _from_archive))
    for shelf in (*shelves, cache_folder()):
        for file, reader in readers:
            path = shelf / "fsdd" / file
            if path.is_file():
                return reader(path)
    return _download()


def _from_arrays(path: Path) -> Clips:
    """From `audio` (all samples), `offset`, `label`, `speaker`, `index` and `speakers`, one file of NumPy arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            audio, offset, speakers = (file[name] for name in ("audio", "offset", "speakers"))
            digit, speaker, take = (file[name].astype(int) for name in ("label", "speaker", "index"))
        samples = np.split(audio, offset[1:-1])
        names = [f"{d}_{speakers[s]}_{i}.wav" for d, s, i in zip(digit, speaker, take, strict=True)]
    except (KeyError, ValueError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not the file of spoken digits ({error!r}). {_REMEDY}") from error
    if tuple(speakers) != SPEAKERS:
        raise DataError(f"{path} has the speakers {', '.join(map(str, speakers))}. {_REMEDY}")
    _verify(path, {name: _riff(part) for name, part in zip(names, samples, strict=True)})
    return Clips(samples, digit, speaker, take)


def _from_archive(path: Path) -> Clips:
    """From GitHub's archive of the repository."""
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [n for n in archive.namelist() if n.endswith(".wav") and "/recordings/" in n]
            files = {name.rpartition("/")[2]: archive.read(name) for name in wanted}
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{path} is not a zip archive ({error}). {_REMEDY}") from error
    _verify(path, files)
    names = sorted(files)
    parts = [name.removesuffix(".wav").split("_") for name in names]
    samples = [read_audio(io.BytesIO(files[name]), name)[0] for name in names]
    digit, speaker, take = zip(*((int(d), SPEAKERS.index(s), int(i)) for d, s, i in parts))
    return Clips(samples, np.array(digit), np.array(speaker), np.array(take))


def _verify(path: Path, files: dict[str, bytes]) -> None:
    """Refuse anything but the pinned recordings, bit for bit, wherever they come from."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  recordings/{name}\n" for name in sorted(files))
    found = hashlib.sha256("".join(lines).encode()).hexdigest()
    if found != SHA256:
        raise DataError(
            f"{path} holds {len(files)} recordings that are not those of the pinned version: the SHA-256 of their list "
            f"is {found}, expected {SHA256}. {_REMEDY}"
        )


def _riff(samples: np.ndarray) -> bytes:
    """The recording's file: a header of 44 bytes and the samples."""
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


_REMEDY = f"Replace or delete it; the right archive is at {URL}"


def _download() -> Clips:
    pooch = package("pooch", "downloading the spoken digits", "speech")
    folder = cache_folder() / "fsdd"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as new:
        try:
            path = Path(pooch.retrieve(URL, None, fname=ARCHIVE, path=new))
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot get the spoken digits from {URL}: {error}\nWithout a network: get that archive elsewhere, put "
                f"it at FOLDER/fsdd/{ARCHIVE} and set the environment variable ENGRAX_DATA=FOLDER."
            ) from error
        clips = _from_archive(path)
        # Moved once it is known to be right, so that the cache never holds half an archive.
        path.replace(folder / ARCHIVE)
    return clips
