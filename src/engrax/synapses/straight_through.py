"""Quantisation-aware projections: float weights that learn, seen by the network as integers times a power of two.

    W = m 2^e,   m = round(w / 2^e),   2^e the least power of two with max |w| <= (2^(bits-1) - 1) 2^e
    B = n 2^e,   n = round(b / 2^e)

The gradient by W is given to w as it is (straight-through estimator, Bengio, Leonard & Courville 2013), so that updates
far below a level add up in w until one day they move m. A chip holds m and n and multiplies by nothing: spikes choose
which m are added to n, and 2^e is the unit of the sum. Biases are in that unit, too, and as wide as the sum.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .projection import Projection


class StraightThrough(Projection):
    """All-to-all projection that acts by weights of few bits and learns by float ones (`weight`, `bias`).

    Args:
        bits: bits a weight, 2 to 16: levels are symmetric, -(2^(bits-1) - 1) to 2^(bits-1) - 1 steps.
        pre, post and the rest: as for `Projection`.

    The step is a power of two and follows the largest weight, so none is ever clipped. Any rule and optimiser moves the
    float weights; `effective()` and `effective_bias()` are what acts. Unlike `Quantised`, which has no other weights
    than those on its grid (learning on a chip), it is for networks that are trained first and then put on one.

    Raises:
        ArgumentError: `bits` is not an integer from 2 to 16.
    """

    bits: int = eqx.field(static=True)

    def __init__(self, pre: str, post: str, *, bits: int = 8, **options: Any) -> None:
        super().__init__(pre, post, **options)
        if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
            raise ArgumentError(f"projection {self.name!r}: bits must be an integer from 2 to 16, got {bits!r}.")
        self.bits = bits

    def step(self) -> Float[Array, ""]:
        """What one level is worth: a power of two."""
        top = jnp.max(jnp.abs(jax.lax.stop_gradient(super().effective())))
        mantissa, exponent = jnp.frexp(top / (2 ** (self.bits - 1) - 1))
        # frexp's mantissa lies in [1/2, 1): only at 1/2 is the quotient itself a power of two.
        return jnp.ldexp(jnp.ones_like(top), jnp.where(mantissa == 0.5, exponent - 1, exponent))

    def effective(self) -> Float[Array, "*ports post pre"]:
        return _rounded(super().effective(), self.step())

    def effective_bias(self) -> Float[Array, "*ports post"] | None:
        return None if self.bias is None else _rounded(self.bias, self.step())

    def constrain(self, key: Any = None) -> "Projection":
        return self if self.autapses else self.replace(weight=super().effective())


def _rounded(x: Array, step: Array) -> Array:
    """The nearest multiple of `step`, with the derivative of x itself."""
    level = jax.lax.stop_gradient(jnp.round(x / step) * step)
    # In this order the second term is an exact zero, and the sum is exactly the level.
    return level + (x - jax.lax.stop_gradient(x))
