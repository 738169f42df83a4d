"""Unit spread: every channel of every trial divided by its own standard deviation over time."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError


class UnitSpread(eqx.Module):
    """x / std(x), the mean left as it is; a channel that never changes stays what it is.

    It looks at the whole trial: a stream cannot be encoded so.

    Source: Yin et al. 2021 (Google Speech Commands).
    """

    def __call__(self, x: Float[Array, "time *batch channels"]) -> Float[Array, "time *batch channels"]:
        """Channels of standard deviation 1 over time, or 0.

        Raises:
            ArgumentError: the signal has no axis for channels.
        """
        if x.ndim < 2:
            raise ArgumentError("UnitSpread: a signal is (time, ..., channels); for a single channel give x[:, None].")
        # Less its first value, so that a constant's deviation is 0 to the last bit and not the rounding of its mean.
        spread = jnp.std(x - jnp.broadcast_to(x[:1], x.shape), axis=0, keepdims=True)
        return x / jnp.broadcast_to(jnp.where(spread > 0, spread, jnp.ones_like(spread)), x.shape)
