"""Checks of what a user may set: each names the setting, says what it was given and what it may be.

The first four make converters, for dataclass fields or as `integer("hold", 1)(value)`; the others check arguments of
a task's methods.
"""

from collections.abc import Callable
from numbers import Integral, Real
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


def check_split(split: Any) -> Split:
    """`split` itself, if it is "train", "validation" or "test"."""
    if split not in SPLITS:
        raise TaskError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
    return split


def check_batch(batch: Any) -> int:
    """`batch` as an integer of at least 1."""
    return integer("batch", 1)(batch)
