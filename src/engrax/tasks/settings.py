"""Checks of what a user may set: each names the setting, says what it was given and what it may be.

The first four make converters, for dataclass fields or as `integer("hold", 1)(value)`; then come settings that tasks on
recorded data share; the last check arguments of a task's methods.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ..errors import TaskError, nearest
from .task import SPLITS, Split


def integer(name: str, minimum: int, maximum: int = 2**31 - 1) -> Callable[[Any], int]:
    """A converter that accepts integers from `minimum` to `maximum` (left out: the largest that fits 32 bits)."""

    def convert(x: Any) -> int:
        if isinstance(x, bool) or not isinstance(x, Integral) or not minimum <= int(x) <= maximum:
            raise TaskError(f"{name} must be an integer from {minimum} to {maximum}, got {x!r}.")
        return int(x)

    return convert


def number(
    name: str, minimum: float, maximum: float = float("inf"), *, exclusive: bool = False
) -> Callable[[Any], float]:
    """A converter that accepts finite real numbers from `minimum` (itself refused if `exclusive`) to `maximum`."""
    above = f"> {minimum:g}" if exclusive else f">= {minimum:g}"
    allowed = above if maximum == float("inf") else f"{above} and <= {maximum:g}"

    def convert(x: Any) -> float:
        if isinstance(x, bool) or not isinstance(x, Real):
            raise TaskError(f"{name} must be a number, got {x!r}.")
        value = float(x)
        inside = (minimum < value if exclusive else minimum <= value) and value <= maximum and value != float("inf")
        if not inside:
            raise TaskError(f"{name} must be finite and {allowed}, got {x!r}.")
        return value

    return convert


def word(name: str, options: tuple[str, ...]) -> Callable[[Any], str]:
    """A converter that accepts one of a few words."""

    def convert(x: Any) -> str:
        if x not in options:
            raise TaskError(f"{name} must be one of {', '.join(map(repr, options))}, got {x!r}.{nearest(x, options)}")
        return x

    return convert


def boolean(name: str) -> Callable[[Any], bool]:
    """A converter that accepts True and False."""

    def convert(x: Any) -> bool:
        if not isinstance(x, bool):
            raise TaskError(f"{name} must be True or False, got {x!r}.")
        return x

    return convert


def folder(x: Any) -> Path:
    """The path of a folder that a user named.

    Raises:
        TaskError: `x` is no path.
    """
    if not isinstance(x, str | os.PathLike):
        raise TaskError(f"folder must be the path of a folder, got {x!r}.")
    return Path(x).expanduser()


def held_out(validation: Any, known: Iterable[int], whom: str) -> list[int]:
    """Who is held out for validation: some of `known`, but not all.

    Args:
        validation: their numbers.
        known: everybody in the training part.
        whom: what they are, for messages.

    Raises:
        TaskError: nobody, everybody or a stranger is named.
    """
    everybody = sorted(set(known))
    named = list(validation) if isinstance(validation, Sequence) and not isinstance(validation, str) else []
    if not named or any(x not in everybody for x in named) or set(named) == set(everybody):
        raise TaskError(f"validation must name {whom} of the training part, {everybody}, but not all of them.")
    return named


def bins(bin: Any, seconds: Any, most: int = 2**16) -> tuple[float, int]:
    """Length of a bin (ms) and how many make so many seconds.

    Raises:
        TaskError: a number is impossible, or there is no bin, or more than `most`.
    """
    bin, seconds = number("bin", 0.0, exclusive=True)(bin), number("seconds", 0.0, exclusive=True)(seconds)
    count = round(1000 * seconds / bin)
    if not 1 <= count <= most:
        raise TaskError(f"seconds / bin must be 1 to {most} bins, got {seconds} s of {bin} ms.")
    return bin, count


def check_split(split: Any) -> Split:
    """`split` itself, if it is "train", "validation" or "test"."""
    if split not in SPLITS:
        raise TaskError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
    return split


def check_batch(batch: Any) -> int:
    """`batch` as an integer of at least 1."""
    return integer("batch", 1)(batch)
