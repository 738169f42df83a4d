"""IDX files, as MNIST is distributed: a magic number that gives type and axes, sizes, then the numbers."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, packed by gzip or not.

    Raises:
        DataError: it cannot be read, is no IDX file, or holds more or fewer numbers than its sizes say.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise DataError(f"{path} is no IDX file: it begins with {content[:4].hex()!r}, not with 0000, a type and axes.")
    kind, axes = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"{path} ends within its sizes.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(shape) * kind.itemsize:
        raise DataError(
            f"{path} must hold {math.prod(shape)} numbers of {kind.itemsize} bytes, as its sizes {shape} say, "
            f"but has {len(content) - start} bytes of them."
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
