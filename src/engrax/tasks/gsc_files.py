"""The files of Google Speech Commands: a folder or a .tar.gz archive, read once and kept as spectrograms.

Each word has a folder of wav files, SPEAKER_nohash_NUMBER.wav; `_background_noise_` holds longer recordings of noise;
validation_list.txt and testing_list.txt name the recordings of those parts, WORD/FILE a line (Warden 2018). An archive
is read from its beginning to its end, without unpacking it, and never more than one recording as sound.

What was read lies in the cache under a name that says from what: the archive's checksum, or names, sizes and times of a
folder's files. Spectrograms of all 105,000 recordings take minutes to make and seconds to load.
"""

import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from . import mel
from .audio import read_audio
from .data import DataFile, cache_folder, fetch

_SITES = (
    "https://storage.googleapis.com/download.tensorflow.org/data/",
    "http://download.tensorflow.org/data/",
)
_SHA256 = {
    "v0.01": "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    "v0.02": "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    "test_set_v0.02": "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
}
NOISE = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
# Part of every name in the cache: to be changed with anything that changes what is made of a recording.
_FORM = "1"


class Recordings(NamedTuple):
    """Everything that was read.

    paths: (n,), WORD/FILE, sorted. levels: (n, frames, bands), as `mel.half_decibels` gives them.
    noise: samples of each recording of noise, in the order of the files' names.
    listed: for "validation" and "test", the paths in that list; empty where there is no list.
    """

    paths: np.ndarray
    levels: np.ndarray
    noise: list[np.ndarray]
    listed: dict[str, np.ndarray]


def archive(name: str) -> DataFile:
    """The published archive of a version: "v0.01", "v0.02", or "test_set_v0.02"."""
    file = f"speech_commands_{name}.tar.gz"
    return DataFile("gsc", file, _SHA256[name], tuple(site + file for site in _SITES))


def read(name: str, folder: Path | None = None) -> Recordings:
    """The recordings of a version, from the cache if they are there.

    Args:
        name: of the version, as for `archive`.
        folder: the unpacked archive. None: `gsc/speech_commands_NAME` under `ENGRAX_DATA` if that is a folder, or else
            the archive.

    Raises:
        DataError: nothing is there nor to be downloaded, a file is damaged, or the cache cannot be written.
    """
    own = os.environ.get("ENGRAX_DATA")
    unpacked = Path(own).expanduser() / "gsc" / f"speech_commands_{name}" if own else None
    if folder is None and unpacked is not None and unpacked.is_dir():
        folder = unpacked
    if folder is None:
        file = archive(name)
        return _kept(fetch(file), file.checksum)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}. Give that of the unpacked archive as the setting 'folder'.")
    stats = [(path.relative_to(folder), path.stat()) for path in _files(folder)]
    lines = (f"{path.as_posix()} {stat.st_size} {stat.st_mtime_ns}\n" for path, stat in stats)
    return _kept(folder, hashlib.sha256("".join(lines).encode()).hexdigest())


# The cache ------------------------------------------------------------------------------------------------------------


def _kept(source: Path, identity: str) -> Recordings:
    path = cache_folder() / "gsc" / f"mel{_FORM}_{identity[:32]}.npz"
    if path.is_file():
        return _load(path)
    found = _made(source)
    lengths = np.array([len(x) for x in found.noise], np.int64)
    noise = np.concatenate([np.zeros(0, np.int16), *found.noise])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as new:
            whole = Path(new) / path.name
            content: dict[str, Any] = {**found._asdict(), "noise": noise, "lengths": lengths, **found.listed}
            del content["listed"]
            np.savez(whole, **content)
            # Moved once it is whole, so that the cache never holds half of it.
            whole.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot keep spectrograms in {path.parent} ({error}). Set XDG_CACHE_HOME to a folder that has room."
        ) from error
    return found


def _load(path: Path) -> Recordings:
    try:
        # Opened here, because np.load leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            noise = np.split(file["noise"], np.cumsum(file["lengths"])[:-1]) if len(file["lengths"]) else []
            return Recordings(file["paths"], file["levels"], noise, {split: file[split] for split in LISTS})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error!r}). Delete it; it will be made again.") from error


# Reading --------------------------------------------------------------------------------------------------------------


def _made(source: Path) -> Recordings:
    levels: dict[str, np.ndarray] = {}
    noise: dict[str, np.ndarray] = {}
    listed: dict[str, list[str]] = {name: [] for name in LISTS.values()}
    for path, content in _members(source):
        try:
            if path in listed:
                listed[path] = content.decode().split()
            elif path.startswith(NOISE):
                noise[path] = _samples(path, content)
            else:
                levels[path] = mel.half_decibels(_samples(path, content))
        except (DataError, UnicodeDecodeError) as error:
            raise DataError(f"{source}: {path}: {error}") from error
    if not levels:
        raise DataError(f"{source} holds no recordings. It must hold WORD/FILE.wav, as the published archive does.")
    for name, members in listed.items():
        for member in members:
            if member not in levels:
                raise DataError(f"{source}: {name} names {member}, which is not there.")
    paths = sorted(levels)
    return Recordings(
        np.array(paths),
        np.stack([levels[path] for path in paths]),
        [noise[path] for path in sorted(noise)],
        {split: np.array(sorted(listed[name]), "U") for split, name in LISTS.items()},
    )


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    """WORD/FILE.wav and lists, with what is in them."""
    if source.is_dir():
        for file in _files(source):
            yield file.relative_to(source).as_posix(), file.read_bytes()
        return
    try:
        with tarfile.open(source, "r|gz") as pack:
            for member in pack:
                path = member.name.removeprefix("./")
                stream = pack.extractfile(member) if _wanted(path) else None
                if stream is not None:
                    yield path, stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source} cannot be unpacked ({error}). Replace or delete it.") from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _wanted(path.relative_to(folder).as_posix()) and path.is_file())


def _wanted(path: str) -> bool:
    return path in LISTS.values() or (path.endswith(".wav") and path.count("/") == 1)


def _samples(path: str, content: bytes) -> np.ndarray:
    samples, rate = read_audio(io.BytesIO(content), path)
    if rate != mel.RATE:
        raise DataError(f"it has {rate} samples a second; {mel.RATE} are needed.")
    return samples
