"""Gaussian population code: a real number as the activity of units that each prefer one value."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError


class PopulationCode(eqx.Module):
    """Each number becomes `units` activities exp(-((x - c) / width)^2 / 2), centres c evenly spaced.

    Args:
        low, high: range of each number; values outside count as its end.
        units: units a number, two at least.
        width: of the tuning curves, in distances of neighbouring centres.

    Source: Georgopoulos et al. 1986; as an input code of spiking networks, Eliasmith & Anderson 2003.
    """

    low: tuple[float, ...] = eqx.field(static=True)
    high: tuple[float, ...] = eqx.field(static=True)
    units: int = eqx.field(static=True)
    width: float = eqx.field(static=True)

    def __init__(self, low: Sequence[float], high: Sequence[float], units: int = 10, width: float = 1.0) -> None:
        self.low, self.high = tuple(float(x) for x in low), tuple(float(x) for x in high)
        if len(self.low) != len(self.high) or not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ArgumentError(f"PopulationCode: low must lie below high number by number, got {low!r} and {high!r}.")
        if isinstance(units, bool) or not isinstance(units, int) or units < 2:
            raise ArgumentError(f"PopulationCode: units must be an integer of at least 2, got {units!r}.")
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < float("inf"):
            raise ArgumentError(f"PopulationCode: width must be a number > 0, got {width!r}.")
        self.units, self.width = units, float(width)

    @property
    def size(self) -> int:
        """Activities in all."""
        return len(self.low) * self.units

    def __call__(self, x: Float[Array, "... numbers"]) -> Float[Array, "... activities"]:
        """Activities between 0 and 1, those of the first number first."""
        low, high = jnp.asarray(self.low, x.dtype), jnp.asarray(self.high, x.dtype)
        inside = (jnp.clip(x, low, high) - jnp.broadcast_to(low, x.shape)) / jnp.broadcast_to(high - low, x.shape)
        place = inside * (self.units - 1)
        centres = jnp.broadcast_to(jnp.arange(self.units, dtype=x.dtype), (*place.shape, self.units))
        away = (place[..., None] - centres) / self.width
        return jnp.exp(-0.5 * jnp.square(away)).reshape(*x.shape[:-1], self.size)
