"""Named data files: found or downloaded, and never used unless their checksum is the one written here.

Where a file is looked for, in this order:

1. `$ENGRAX_DATA/folder/name`, if that variable is set: a folder of one's own, for machines without a network;
2. the cache, `$XDG_CACHE_HOME/engrax` or `~/.cache/engrax`;
3. its addresses, in turn. A download is checked before it is moved into the cache: that never holds half a file.
"""

import dataclasses
import hashlib
import importlib
import os
from pathlib import Path
from typing import Any

from ..errors import DataError


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file that a task needs.

    Args:
        folder: folder under `ENGRAX_DATA` and under the cache.
        name: file name.
        checksum: SHA-256 in hexadecimal; or, where its publisher gives no better one, "md5:" and an MD5.
        urls: addresses that serve these very bytes, tried in order.
        alternatives: checksums of the same content packed otherwise, which is as good where it is found.
    """

    folder: str
    name: str
    checksum: str
    urls: tuple[str, ...]
    alternatives: tuple[str, ...] = ()


def package(name: str, purpose: str, extra: str = "data") -> Any:
    """Import an optional package where it is used.

    Args:
        name: what to import.
        purpose: what needs it, for the message.
        extra: the extra of Engrax that installs it.

    Raises:
        DataError: it is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f'{purpose} needs the package {name.split(".")[0]!r}. Install it: pip install "engrax[{extra}]"'
        ) from error


def cache_folder() -> Path:
    """Where downloads are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "engrax"


def fetch(file: DataFile) -> Path:
    """The path of `file`, verified; downloaded first where it is on neither shelf.

    Raises:
        DataError: the file is damaged (both checksums are given), `ENGRAX_DATA` is not a folder, or no address
            answers (the message names the file, the addresses and the way to do without a network).
    """
    own = os.environ.get("ENGRAX_DATA")
    shelves = [cache_folder()]
    if own:
        root = Path(own).expanduser()
        if not root.is_dir():
            raise DataError(f"ENGRAX_DATA is {own!r}, which is not a folder. Correct it, or unset it to download.")
        shelves.insert(0, root)
    for shelf in shelves:
        path = shelf / file.folder / file.name
        if path.is_file():
            return _verified(path, file)
    return _download(file)


_CALLED = {"sha256": "SHA-256", "md5": "MD5"}


def _checksum(file: DataFile) -> tuple[str, str]:
    """Its kind and its hexadecimal digits."""
    kind, _, digits = file.checksum.rpartition(":")
    return kind or "sha256", digits


def _verified(path: Path, file: DataFile) -> Path:
    kind, wanted = _checksum(file)
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found not in (wanted, *file.alternatives):
        where = f"; the right file is at {file.urls[0]}" if file.urls else ""
        raise DataError(
            f"{path} is damaged or of another version: its {_CALLED[kind]} is {found}, expected {wanted}. "
            f"Replace or delete it{where}."
        )
    return path


def _download(file: DataFile) -> Path:
    pooch = package("pooch", f"downloading {file.name}")
    failures = []
    for url in file.urls:
        try:
            folder = str(cache_folder() / file.folder)
            return Path(pooch.retrieve(url, ":".join(_checksum(file)), fname=file.name, path=folder))
        except (OSError, ValueError) as error:  # no network, no such address, no room; wrong checksum
            failures.append(f"  {url}: {error}")
    own = os.environ.get("ENGRAX_DATA")
    missing = f" (it is set to {own!r}, which lacks the file)" if own else ""
    raise DataError(
        f"cannot get the data file {file.name}:\n" + "\n".join(failures) + f"\nWithout a network: get the file "
        f"elsewhere, put it at FOLDER/{file.folder}/{file.name} and set the environment variable "
        f"ENGRAX_DATA=FOLDER{missing}."
    )
