"""Rewired projections: a fixed number of signed connections that move to where they are of use (Deep R).

A connection whose weight an update has moved across zero dies, and one is born elsewhere, at random, with weight zero
and the sign that its place has. So there are always as many as at the beginning, and none changes its sign, under every
rule and every optimiser. Bellec, Kappel, Maass & Legenstein 2018, Algorithm 1: the step itself is the optimiser's; the
pull towards zero (their L1 term) and the random walk (their temperature) are added in units of the weight, an update.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ArgumentError, NetworkError
from .projection import Masked, Projection
from .signed import as_signs, balanced, check_signs, share, signs_of


class Rewired(Masked):
    """Sparse projection whose connections die and are born again elsewhere.

    Args:
        density: share of connections that there are, between 0 (excluded) and 1: exactly so many.
        excitatory: share of presynaptic units that excite, the first of them; None: each place has a sign of its own,
            drawn with the network's key.
        signs: (pre,) array of 1 and -1, in place of `excitatory`.
        shrink: what each update takes from the absolute value of every weight.
        noise: standard deviation of what each update adds to it.
        pre, post and the rest: as for `Projection`. A weight that is given says where the connections are.

    `net.constrain(key)` rewires; without a key, weights that crossed zero stay there.

    Raises:
        ArgumentError: both `excitatory` and `signs`, or values that arguments cannot have.
        NetworkError: at the network: a weight that was given has other signs.
    """

    signs: Float[Array, " pre"] | None
    sides: Float[Array, "*ports post pre"] | None
    excitatory: float | None = eqx.field(static=True)
    shrink: float = eqx.field(static=True)
    noise: float = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        *,
        density: float,
        excitatory: float | None = None,
        signs: Any = None,
        shrink: float = 0.0,
        noise: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(pre, post, density=density, **options)
        if excitatory is not None and signs is not None:
            raise ArgumentError(f"projection {self.name!r}: give either excitatory= or signs=.")
        for argument, value in (("shrink", shrink), ("noise", noise)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ArgumentError(f"projection {self.name!r}: {argument} must be a number >= 0, got {value!r}.")
        self.excitatory = None if excitatory is None else share(self.name, "excitatory", excitatory)
        self.signs, self.sides = None if signs is None else as_signs(self.name, signs), None
        self.shrink, self.noise = float(shrink), float(noise)

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        if self.given and self.sides is not None:
            return Projection.build(self, key, shape, dtype)
        if key is None:
            raise NetworkError(f"projection {self.name!r}: density needs key= at the network.")
        places, sides = (jax.random.fold_in(key, i) for i in (1, 2))
        by_unit = self.signs is not None or self.excitatory is not None
        if by_unit:
            side = jnp.broadcast_to(signs_of(self.name, self.signs, self.excitatory, shape[-1]), shape)
        else:
            side = jnp.where(jax.random.bernoulli(sides, 0.5, shape), 1.0, -1.0)
        possible = self._possible(shape)
        if self.given:
            assert self.weight is not None
            side = side if by_unit else jnp.where(self.weight != 0, jnp.sign(self.weight), side)
            mask = self.weight != 0
        else:
            assert self.density is not None
            count = round(self.density * int(possible.sum()))
            mask = _first(jax.random.permutation(places, possible.size).reshape(shape), possible, jnp.asarray(count))
        side, mask = side.astype(dtype), mask.astype(dtype)
        built = Projection.build(self.replace(mask=mask, sides=None), key, shape, dtype)
        assert built.weight is not None
        if not self.given:
            # As strong as all connections would be.
            scaled = built.weight * mask / jnp.sqrt(jnp.maximum(jnp.mean(mask), 1 / mask.size))
            built = built.replace(weight=balanced(scaled, side))
        elif self.weight is not None:
            check_signs(self.name, self.weight, side)
        return built.replace(sides=side)

    def _possible(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(
            np.eye(shape[-2], shape[-1]) == 0 if not self.autapses else np.ones(shape[-2:], bool), shape
        )

    def constrain(self, key: PRNGKeyArray | None = None) -> "Projection":
        weight, side, mask = self.effective(), self.sides, self.mask
        if side is None or mask is None:
            return self.replace(weight=weight)
        there = mask > 0
        if key is None:
            return self.replace(weight=jnp.where(weight * side > 0, weight, 0))
        walk, places = jax.random.split(key)
        if self.shrink:
            weight = weight - self.shrink * side
        if self.noise:
            weight = weight + self.noise * jax.random.normal(walk, weight.shape, weight.dtype)
        stays = there & (weight * side >= 0)
        order = jax.random.permutation(places, weight.size).reshape(weight.shape)
        free = self._possible(weight.shape) & ~stays
        born = _first(order, free, jnp.sum(there) - jnp.sum(stays))
        return self.replace(weight=jnp.where(stays, weight, 0), mask=(stays | born).astype(mask.dtype))


def _first(order: Array, free: Array | np.ndarray, count: Array) -> Array:
    """The `count` free places that come first in an order, in which no two are the same."""
    none = order.size
    ranked = jnp.sort(jnp.where(free, order, none), axis=None)
    last = jnp.where(count > 0, ranked[jnp.maximum(count - 1, 0)], -1)
    return jnp.asarray(free) & (order <= last)
