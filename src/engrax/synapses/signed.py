"""Signed projections: a presynaptic unit excites or inhibits, all that it reaches, for ever (Dale's law).

Weights are free numbers to rules and optimisers. What an update has moved across zero is put back to zero afterwards,
by `net.constrain`, and may return to its own side later: a projected gradient, whatever the rule and the optimiser.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ArgumentError, NetworkError
from .projection import Projection, _array


class Signed(Projection):
    """All-to-all projection whose weights keep the sign of their presynaptic unit.

    Args:
        excitatory: share of presynaptic units that excite: the first of them, so that all projections of a population
            agree about its units.
        signs: (pre,) array of 1 and -1, in place of `excitatory`.
        pre, post and the rest: as for `Projection`. A weight that is drawn is balanced: what excites and what inhibits
            a unit sum to zero, and the sum of their squares is what it was.

    Raises:
        ArgumentError: neither or both of `excitatory` and `signs`, or values that they cannot have.
        NetworkError: at the network: a weight that was given has other signs.
    """

    signs: Float[Array, " pre"] | None
    excitatory: float | None = eqx.field(static=True)

    def __init__(
        self, pre: str, post: str, *, excitatory: float | None = None, signs: Any = None, **options: Any
    ) -> None:
        super().__init__(pre, post, **options)
        if (excitatory is None) == (signs is None):
            raise ArgumentError(f"projection {self.name!r}: give either excitatory= or signs=.")
        self.excitatory = None if excitatory is None else share(self.name, "excitatory", excitatory)
        self.signs = None if signs is None else as_signs(self.name, signs)

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        signs = signs_of(self.name, self.signs, self.excitatory, shape[-1]).astype(dtype)
        # Before there is a balance, signs are not yet those that `constrain` wants.
        built = Projection.build(self.replace(signs=None), key, shape, dtype)
        assert built.weight is not None
        if self.given:
            check_signs(self.name, built.weight, signs)
            return built.replace(signs=signs)
        return built.replace(signs=signs, weight=balanced(built.weight, signs)).constrain()

    def constrain(self, key: PRNGKeyArray | None = None) -> "Projection":
        weight = self.effective()
        if self.signs is not None:
            weight = jnp.where(weight * jnp.broadcast_to(self.signs, weight.shape) > 0, weight, 0)
        return self.replace(weight=weight)


def share(name: str, argument: str, x: Any) -> float:
    """A number in [0, 1]."""
    if isinstance(x, bool) or not isinstance(x, int | float) or not 0 <= x <= 1:
        raise ArgumentError(f"projection {name!r}: {argument} must lie in [0, 1], got {x!r}.")
    return float(x)


def as_signs(name: str, x: Any) -> Array:
    """An array of 1 and -1."""
    signs = _array(f"projection {name!r}: signs", x)
    if not bool(jnp.all(jnp.abs(signs) == 1)):
        raise ArgumentError(f"projection {name!r}: signs must hold 1 and -1 only.")
    return signs


def signs_of(name: str, signs: Array | None, excitatory: float | None, units: int) -> Array:
    """The signs of presynaptic units (pre,)."""
    if signs is None:
        assert excitatory is not None
        return jnp.where(jnp.arange(units) < round(excitatory * units), 1.0, -1.0)
    if signs.shape != (units,):
        raise NetworkError(f"projection {name!r}: signs must have shape ({units},), got {signs.shape}.")
    return signs


def check_signs(name: str, weight: Array, signs: Array) -> None:
    """Refuse a weight that was given and has other signs."""
    wrong = jnp.any(weight * jnp.broadcast_to(signs, weight.shape) < 0)
    if not isinstance(wrong, jax.core.Tracer) and bool(wrong):
        raise NetworkError(f"projection {name!r}: weight must have the signs of its presynaptic units.")


def balanced(weight: Float[Array, "*post pre"], signs: Array) -> Float[Array, "*post pre"]:
    """Absolute weights with these signs; rows that have both are made to sum to zero, and all keep their norm."""
    signed = jnp.abs(weight) * jnp.broadcast_to(signs, weight.shape)
    sums = [jnp.sum(jnp.maximum(s * signed, 0), axis=-1, keepdims=True) for s in (1, -1)]
    both = (sums[0] > 0) & (sums[1] > 0)
    ratio = jnp.where(both, sums[0] / jnp.where(both, sums[1], 1), 1)
    even = jnp.where(signed < 0, ratio * signed, signed)
    norms = [jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True)) for x in (weight, even)]
    return even * jnp.where(norms[1] > 0, norms[0] / jnp.where(norms[1] > 0, norms[1], 1), 1)
