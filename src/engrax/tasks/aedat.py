"""AEDAT 3.1 files of event cameras: a text header, then packets of events, little-endian.

A packet: 28 bytes (type, source: 16 bits; size of an event, place of its time, overflow of the clock, capacity, number
of events, of valid ones: 32 bits), then its events. A polarity event (type 1): 32 bits (valid 1, polarity 1, y 15, x
15, from the lowest) and 32 bits of microseconds, the overflow counting 2^31 of them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError

START, END = b"#!AER-DAT3.1", b"#!END-HEADER\r\n"
POLARITY = 1
_HEAD = np.dtype(
    [("type", "<i2"), ("source", "<i2")]
    + [(name, "<i4") for name in ("size", "offset", "overflow", "capacity", "number", "valid")]
)
_EVENT = np.dtype([("data", "<u4"), ("when", "<i4")])


class Seen(NamedTuple):
    """Events of a camera, one entry each: column, row, polarity (0 or 1), microseconds."""

    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    when: np.ndarray


def read_aedat(path: Path) -> Seen:
    """All valid polarity events of a file; other events are passed over.

    Raises:
        DataError: it cannot be read, is no AEDAT 3.1 file, or ends within a packet.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    place = content.find(END) + len(END)
    if not content.startswith(START) or place < len(END):
        raise DataError(f"{path} is no AEDAT 3.1 file: it must begin with {START.decode()!r} and have an END-HEADER.")
    data, when = [], []
    while place < len(content):
        if place + _HEAD.itemsize > len(content):
            raise DataError(f"{path} ends within the head of a packet, at byte {place}.")
        head = np.frombuffer(content, _HEAD, 1, place)[0]
        size, number = int(head["size"]), int(head["number"])
        place, last = place + _HEAD.itemsize, place + _HEAD.itemsize + size * number
        if size < 1 or number < 0 or last > len(content):
            raise DataError(f"{path} ends within a packet of {number} events of {size} bytes, at byte {place}.")
        if head["type"] == POLARITY:
            if size != _EVENT.itemsize:
                raise DataError(f"{path} has polarity events of {size} bytes, not {_EVENT.itemsize}, at byte {place}.")
            events = np.frombuffer(content, _EVENT, number, place)
            data.append(events["data"])
            when.append(events["when"].astype(np.int64) + (int(head["overflow"]) << 31))
        place = last
    held = np.concatenate(data) if data else np.zeros(0, np.uint32)
    times = np.concatenate(when) if when else np.zeros(0, np.int64)
    valid = (held & 1) == 1
    held, times = held[valid].astype(np.int64), times[valid]
    return Seen(held >> 17 & 0x7FFF, held >> 2 & 0x7FFF, held >> 1 & 1, times)
