"""Learning-rate schedules by name."""

import math
from typing import Any

import optax

from ..errors import ArgumentError, unknown

SCHEDULES = ("constant", "step", "cosine", "linear")


def schedule(
    learning_rate: float,
    name: str = "constant",
    *,
    every: int | None = None,
    factor: float = 0.5,
    steps: int | None = None,
    end: float = 0.0,
) -> optax.Schedule:
    """A learning-rate schedule by name.

    Args:
        learning_rate: its value at the start, > 0.
        name: "constant"; "step", times `factor` every `every` steps; "cosine" or "linear", to `end` times the start
            over `steps` steps.
        every, factor, steps, end: as said.

    Raises:
        ArgumentError: an unknown name, or a value that is impossible or missing.
    """
    if not is_number(learning_rate) or not learning_rate > 0:
        raise ArgumentError(f"learning_rate must be a number > 0, got {learning_rate!r}.")
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    for argument, value in (("factor", factor), ("end", end)):
        if not is_number(value) or value < 0:
            raise ArgumentError(f"schedule: {argument} must be a number >= 0, got {value!r}.")
    if name == "step":
        return optax.exponential_decay(learning_rate, _count("every", every), factor, staircase=True)
    if name == "cosine":
        return optax.cosine_decay_schedule(learning_rate, _count("steps", steps), alpha=end)
    if name == "linear":
        return optax.linear_schedule(learning_rate, end * learning_rate, _count("steps", steps))
    return optax.constant_schedule(learning_rate)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"schedule: {name} must be an integer of at least 1, got {value!r}.")
    return value


def is_number(x: Any) -> bool:
    """Whether x is a finite number."""
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
