"""Activations of graded units, by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import ArgumentError, unknown

Activation = Callable[[Array], Array]


def _identity(x: Array) -> Array:
    return x


ACTIVATIONS: dict[str, Activation] = {
    "identity": _identity,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
}


def as_activation(x: Any) -> Activation:
    """The activation called `x`, or a function as it is.

    Raises:
        ArgumentError: neither.
    """
    if isinstance(x, str):
        if x not in ACTIVATIONS:
            raise unknown("activation", x, ACTIVATIONS)
        return ACTIVATIONS[x]
    if not callable(x):
        raise ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)} or a function, got {x!r}.")
    return x
