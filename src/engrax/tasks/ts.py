"""Time series as the UCR and UEA archives distribute them (.ts): a header of @-lines, then one case a line.

A line has its channels separated by colons, the values of each by commas, and last, after another colon, the class.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError


class Cases(NamedTuple):
    """Cases of a file: (steps, channels) each, the class of each as a word, and all classes in the header's order."""

    values: list[np.ndarray]
    labels: list[str]
    classes: tuple[str, ...]


def read_ts(path: Path) -> Cases:
    """The cases of a .ts file with classes. Missing values ("?") are refused.

    Raises:
        DataError: it cannot be read; a line of it is not what the format says. The message gives the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    classes, data = _header(path, lines)
    values, labels = [], []
    for number, line in enumerate(lines[data:], start=data + 1):
        if not line.strip():
            continue
        *channels, label = line.strip().split(":")
        if label not in classes:
            raise DataError(f"{path}, line {number}: class {label!r} is none of {', '.join(classes)}.")
        try:
            series = [np.array(channel.split(","), float) for channel in channels]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.") from error
        if not series or len({len(x) for x in series}) > 1 or not all(np.isfinite(x).all() for x in series):
            raise DataError(f"{path}, line {number}: needs channels of one length, with finite numbers.")
        values.append(np.stack(series, axis=1))
        labels.append(label)
    if not values or len({x.shape[1] for x in values}) > 1:
        raise DataError(f"{path} has no cases, or cases of different numbers of channels.")
    return Cases(values, labels, classes)


def _header(path: Path, lines: list[str]) -> tuple[tuple[str, ...], int]:
    """Classes, and where the data begin."""
    classes: tuple[str, ...] = ()
    for number, line in enumerate(lines):
        words = line.strip().split()
        tag = words[0].lower() if words else "#"
        if tag == "@data":
            if not classes:
                raise DataError(f"{path} names no classes: a line @classLabel true CLASS CLASS ... is needed.")
            return classes, number + 1
        if tag == "@classlabel" and [w.lower() for w in words[1:2]] == ["true"]:
            classes = tuple(words[2:])
        elif tag == "@timestamps" and [w.lower() for w in words[1:2]] == ["true"]:
            raise DataError(f"{path} has time stamps, which are not supported: its cases must be sampled evenly.")
        elif not tag.startswith(("#", "@")):
            raise DataError(f"{path}, line {number + 1}: data before the line @data.")
    raise DataError(f"{path} has no line @data.")
