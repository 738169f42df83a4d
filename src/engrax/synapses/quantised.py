"""Quantised projections: weights lie on a grid of 2^bits levels, as a chip would hold them, whatever moves them.

An update is rounded to a level at random, up or down, so that the mean is what it was (stochastic rounding, Gupta,
Agrawal, Gopalakrishnan & Narayanan 2015): an update much smaller than a level moves the weight rarely, not never.

    k = floor(w / step + u),  u uniform in [0, 1),  clipped to -2^(bits-1) ... 2^(bits-1) - 1;  w = k step
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import finite
from ..errors import ArgumentError, NetworkError
from .projection import Masked, Projection
from .rewired import Rewired
from .signed import Signed


class Quantised(Projection):
    """All-to-all projection with weights of few bits.

    Args:
        bits: bits a weight, 2 to 16: 2^bits levels, zero among them.
        limit: levels reach from -limit to limit - step, where step = limit / 2^(bits-1). None: twice the largest
            absolute weight at the start. It is fixed from then on.
        pre, post and the rest: as for `Projection`. A drawn weight is rounded with the network's key, a given one to
            the nearest level. Biases are not quantised.

    `net.constrain(key)` rounds stochastically; without a key it rounds to the nearest level, and loses updates that
    are smaller than half a step.

    Raises:
        ArgumentError: values that `bits` and `limit` cannot have.
        NetworkError: at the network: all weights are zero and no `limit` says how far they may go.
    """

    step: Float[Array, ""] | None
    bits: int = eqx.field(static=True)
    limit: float | None = eqx.field(static=True)

    def __init__(self, pre: str, post: str, *, bits: int = 8, limit: float | None = None, **options: Any) -> None:
        super().__init__(pre, post, **options)
        if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
            raise ArgumentError(f"projection {self.name!r}: bits must be an integer from 2 to 16, got {bits!r}.")
        self.step, self.bits = None, bits
        self.limit = None if limit is None else finite(f"projection {self.name!r}: limit", limit, 0, exclusive=True)

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        # Until there is a grid, `constrain` rounds nothing.
        plain = self.replace(step=None)
        assert isinstance(plain, Quantised)
        built = super(Quantised, plain).build(key, shape, dtype)
        assert built.weight is not None
        if self.given and self.step is not None:
            return built.replace(step=self.step).constrain()
        limit = jnp.asarray(self.limit, dtype) if self.limit is not None else 2 * jnp.max(jnp.abs(built.weight))
        if not isinstance(limit, jax.core.Tracer) and not limit > 0:
            raise NetworkError(
                f"projection {self.name!r}: all weights are zero; give limit=, how large they may become."
            )
        built = built.replace(step=limit / 2 ** (self.bits - 1))
        return built.constrain(None if key is None or self.given else jax.random.fold_in(key, 3))

    def constrain(self, key: PRNGKeyArray | None = None) -> "Projection":
        repair, rounding = (None, None) if key is None else jax.random.split(key)
        put = super().constrain(repair)
        if self.step is None or put.weight is None:
            return put
        return put.replace(weight=on_grid(put.weight, self.step, self.bits, rounding))


class QuantisedMasked(Quantised, Masked):
    """`Masked` with weights of few bits. Arguments of both."""

    __init__ = Quantised.__init__


class QuantisedSigned(Quantised, Signed):
    """`Signed` with weights of few bits. Arguments of both; zero is a level, so that rounding changes no sign."""

    __init__ = Quantised.__init__


class QuantisedRewired(Quantised, Rewired):
    """`Rewired` with weights of few bits. Arguments of both. Rounding kills no connection: one at zero lives on."""

    __init__ = Quantised.__init__


def on_grid(
    weight: Float[Array, "*shape"], step: Float[Array, ""], bits: int, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Weights on the levels k step, k = -2^(bits-1) ... 2^(bits-1) - 1: at random with a key, else the nearest."""
    half = 2 ** (bits - 1)
    level = weight / step
    nearest = jnp.round(level)
    if key is not None:
        # k step / step need not be k in floating point: what lies on a level to rounding stays there.
        slack = 4 * float(np.finfo(weight.dtype).eps) * jnp.maximum(jnp.abs(level), 1)
        drawn = jnp.floor(level + jax.random.uniform(key, weight.shape, weight.dtype))
        nearest = jnp.where(jnp.abs(level - nearest) <= slack, nearest, drawn)
    return jnp.clip(nearest, -half, half - 1) * step
