"""Sliding window: at each step a signal's present and coming values, side by side."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError


class Window(eqx.Module):
    """Step t shows the `size` values from t on; where the signal ends, the last ones.

    Args:
        size: steps that are seen at a time, at least 1.

    Source: the pixel window of Yin et al. 2021.
    """

    size: int = eqx.field(static=True)

    def __init__(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"Window: size must be an integer of at least 1, got {size!r}.")
        self.size = size

    def __call__(self, x: Float[Array, "time *batch channels"]) -> Float[Array, "time *batch seen"]:
        """Values of one step side by side, the earliest first.

        Raises:
            ArgumentError: the signal has no axis for channels, or fewer steps than the window.
        """
        if x.ndim < 2:
            raise ArgumentError("Window: a signal is (time, ..., channels); for a single channel give x[:, None].")
        if len(x) < self.size:
            raise ArgumentError(f"Window: a signal of {len(x)} steps is shorter than the window of {self.size}.")
        first = jnp.minimum(jnp.arange(len(x), dtype=jnp.int32), len(x) - self.size)
        places = first[:, None] + jnp.arange(self.size, dtype=jnp.int32)[None]
        seen = jnp.moveaxis(x[places], 1, -2)
        return seen.reshape(*x.shape[:-1], self.size * x.shape[-1])
