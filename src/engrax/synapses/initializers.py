"""Named initialisers of a weight (post, pre): functions `(key, shape, dtype) -> array`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import finite
from ..errors import ArgumentError, unknown

Initializer = Callable[[Array, tuple[int, ...], Any], Array]

_AXES = {"in_axis": -1, "out_axis": -2}

INITIALIZERS: dict[str, Initializer] = {
    # randn / sqrt(fan_in), untruncated: the initialiser of Bellec et al. 2020.
    "fan_in_normal": lambda key, shape, dtype: jax.random.normal(key, shape, dtype) / shape[-1] ** 0.5,
    "fan_in_uniform": jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", **_AXES),
    "normal": lambda key, shape, dtype: jax.random.normal(key, shape, dtype),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(**_AXES),
    "glorot_normal": jax.nn.initializers.glorot_normal(**_AXES),
    "he_uniform": jax.nn.initializers.he_uniform(**_AXES),
    "he_normal": jax.nn.initializers.he_normal(**_AXES),
    "orthogonal": jax.nn.initializers.orthogonal(column_axis=-1),
    "identity": lambda key, shape, dtype: jnp.eye(shape[0], shape[1], dtype=dtype),
    "zeros": lambda key, shape, dtype: jnp.zeros(shape, dtype),
}


@dataclasses.dataclass(frozen=True)
class Scaled:
    """What an initialiser draws, times a number: `{"name": "fan_in_normal", "scale": 1.5}`."""

    name: str
    scale: float

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.scale * INITIALIZERS[self.name](key, shape, dtype)


def as_initializer(x: Any) -> str | Initializer:
    """An initialiser's name, checked, a name and a scale, or a function `(key, shape, dtype) -> array`.

    Raises:
        ArgumentError: neither.
    """
    if isinstance(x, str):
        if x not in INITIALIZERS:
            raise unknown("initialiser", x, INITIALIZERS)
        return x
    if isinstance(x, Mapping):
        if set(x) != {"name", "scale"}:
            raise ArgumentError(f"init, as a table, needs name and scale, got {', '.join(map(str, x)) or 'nothing'}.")
        named = as_initializer(x["name"])
        scale = finite("init: scale", x["scale"])
        if not isinstance(named, str):
            raise ArgumentError(f"init: name must be one of {', '.join(INITIALIZERS)}, got {x['name']!r}.")
        return Scaled(named, scale)
    if not callable(x):
        raise ArgumentError(
            f"init must be one of {', '.join(INITIALIZERS)} or a function (key, shape, dtype), got {x!r}."
        )
    return x


def draw(init: str | Initializer, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """A weight drawn by `init`; one with ports is drawn port by port, so that fan-in means the same."""
    function = INITIALIZERS[init] if isinstance(init, str) else init
    if len(shape) == 3:
        return jax.vmap(lambda k: function(k, shape[1:], dtype))(jax.random.split(key, shape[0]))
    return function(key, shape, dtype)
