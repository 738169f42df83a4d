"""Checks of arguments that several layers share. Each names the argument and says what would do."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import ArgumentError, EngraxError


def check_key(key: Any) -> None:
    """Raise an ArgumentError unless `key` is one random key, of the new kind or the old."""
    if isinstance(key, jax.Array | np.ndarray):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.shape == () if typed else key.dtype == np.uint32 and key.shape in ((2,), (4,)):
            return
    raise ArgumentError(f"key must be one random key, jax.random.key(0) for example, got {key!r}.")


def finite(
    name: str, x: Any, minimum: float | None = None, exclusive: bool = False, error: type[EngraxError] = ArgumentError
) -> float:
    """`x` as a float; an error that calls it `name` unless it is a finite number, not below `minimum` (or above it)."""
    number = isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool) and math.isfinite(x)
    if number and (minimum is None or (x > minimum if exclusive else x >= minimum)):
        return float(x)
    bound = "" if minimum is None else f" {'>' if exclusive else '>='} {minimum:g}"
    raise error(f"{name} must be a finite number{bound}, got {x!r}.")


def as_array(name: str, x: Any) -> jax.Array:
    """`x` as an array of real numbers; an ArgumentError that calls it `name` where that is impossible."""
    try:
        value = x if isinstance(x, jax.Array) else jnp.asarray(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be an array of numbers, got {type(x).__name__}.") from error
    if not (
        jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == bool
    ):
        raise ArgumentError(f"{name} must be an array of real numbers, got dtype {value.dtype}.")
    return value


def is_array(x: Any) -> bool:
    """Whether `x` has a shape and a type of numbers (or of what stands for them under a transformation)."""
    return hasattr(x, "shape") and hasattr(x, "dtype")
