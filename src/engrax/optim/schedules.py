"""Learning-rate schedules by name, and the one that watches the loss."""

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
        raise unknown("schedule", name, (*SCHEDULES, "plateau"))
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


def plateau(
    *, every: int, patience: int = 10, factor: float = 0.5, end: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Multiply the learning rate by `factor` whenever the loss has stopped falling. Put it last in a chain.

    The loss is averaged over `every` updates; it has stopped when `patience` averages in a row have not been below the
    lowest one by more than one part in 10^4.

    Args:
        every, patience: as said.
        factor: in (0, 1).
        end: the smallest share of the learning rate.

    Raises:
        ArgumentError: a value is impossible.
    """
    if not is_number(factor) or not 0 < factor < 1:
        raise ArgumentError(f"plateau: factor must lie in (0, 1), got {factor!r}.")
    if not is_number(end) or not 0 <= end <= 1:
        raise ArgumentError(f"plateau: end must lie in [0, 1], got {end!r}.")
    counts = {"patience": _count("patience", patience), "accumulation_size": _count("every", every)}
    return optax.contrib.reduce_on_plateau(factor, rtol=1e-4, min_scale=end, **counts)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"schedule: {name} must be an integer of at least 1, got {value!r}.")
    return value


def is_number(x: Any) -> bool:
    """Whether x is a finite number."""
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
