"""Event binning: lists of events, each a time and a unit, as a raster of bins."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

from .._checks import finite
from ..errors import ArgumentError
from ..parameter import positive_integer


class EventBins(eqx.Module):
    """Bin k counts the events from k times its length on, up to the next.

    Args:
        bin: length of a bin, in the unit of the events' times.
        count: bins of a trial; events before the first and after the last are left out.
        units: of the raster; events of others are left out.
        pool: neighbouring senders that become one unit.
        binary: whether several events of a unit in one bin count as one, as Yin et al. 2021 have it.
    """

    bin: float = eqx.field(static=True)
    count: int = eqx.field(static=True)
    units: int = eqx.field(static=True)
    pool: int = eqx.field(static=True)
    binary: bool = eqx.field(static=True)

    def __init__(self, bin: float, count: int, units: int, pool: int = 1, binary: bool = True) -> None:
        self.bin = finite("EventBins: bin", bin, 0, exclusive=True)
        self.count, self.units = (
            positive_integer("EventBins: count")(count),
            positive_integer("EventBins: units")(units),
        )
        self.pool = positive_integer("EventBins: pool")(pool)
        if not isinstance(binary, bool):
            raise ArgumentError(f"EventBins: binary must be True or False, got {binary!r}.")
        self.binary = binary

    def __call__(
        self, when: Real[Array, "events *batch"], who: Int[Array, "events *batch"]
    ) -> Float[Array, "time *batch units"]:
        """The raster of lists that are padded to one length by times outside of the trial, such as infinity.

        Args:
            when: times.
            who: senders, from 0.

        Raises:
            ArgumentError: times and senders are not of one shape, or senders are no integers.
        """
        if when.shape != who.shape or not when.ndim or not jnp.issubdtype(who.dtype, jnp.integer):
            raise ArgumentError(
                f"EventBins: times and senders are (events, ...) of one shape, senders integers; got {when.shape} and "
                f"{who.dtype}{list(who.shape)}."
            )
        dtype = jnp.result_type(float)
        place = jnp.floor(when.astype(dtype) / self.bin)
        unit = who // self.pool
        there = (place >= 0) & (place < self.count) & (unit >= 0) & (unit < self.units)
        return self._raster(jnp.where(there, place, 0).astype(jnp.int32), jnp.where(there, unit, 0), there)

    def _raster(self, place: Array, unit: Array, there: Bool[Array, "events *batch"]) -> Array:
        batch = place.shape[1:]
        lists = [x.reshape(len(x), -1) for x in (place, unit, there)]
        trial = jnp.broadcast_to(jnp.arange(lists[0].shape[1], dtype=jnp.int32), lists[0].shape)
        empty = jnp.zeros((self.count, lists[0].shape[1], self.units), jnp.result_type(float))
        at, one = empty.at[lists[0], trial, lists[1]], lists[2].astype(empty.dtype)
        return (at.max(one) if self.binary else at.add(one)).reshape(self.count, *batch, self.units)
