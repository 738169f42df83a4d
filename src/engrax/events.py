"""Sparse inputs as lists of who sends: no raster of time x batch x units is ever made of them.

Each step of each trial has room for `capacity` events. All arrays are time-major, so that cutting, padding with zeros,
scanning and stacking do what they do to a raster.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .errors import ArgumentError

# Capacities are rounded up to multiples of this, so that batches that differ a little share a compiled program.
_ROOM = 8


class Events(eqx.Module):
    """Inputs (time, batch, units) of which most are zero, in place of an array of them.

    Make them with `Events.at` or `Events.of`.

    Args:
        places: 1 + the unit that sends, in ascending order; then 0, where there are no more events.
        values: what it sends; None: 1.
        units: number of units.

    Raises:
        ArgumentError: places that are not in order or beyond `units`, values of another shape.
    """

    places: Int[Array, "*time batch capacity"]
    values: Float[Array, "*time batch room"] | None
    units: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.values is not None and self.values.shape != self.places.shape:
            raise ArgumentError(f"Events: values are {self.values.shape}, places {self.places.shape}.")
        if isinstance(self.places, jax.core.Tracer | jax.ShapeDtypeStruct):
            return
        places = np.asarray(self.places)
        # None may follow a 0, nor one that is as large.
        ordered = (places[..., 1:] == 0) | ((places[..., :-1] < places[..., 1:]) & (places[..., :-1] > 0))
        if not ordered.all() or places.min(initial=0) < 0 or places.max(initial=0) > self.units:
            raise ArgumentError(
                f"Events: places must be ascending from 1 to at most {self.units}, then 0: use Events.at or Events.of."
            )

    @classmethod
    def at(
        cls,
        steps: Any,
        trials: Any,
        units: Any,
        shape: tuple[int, int, int],
        values: Any = None,
        capacity: int | None = None,
    ) -> "Events":
        """Events from lists of their steps, trials and units, in any order; the same one twice adds up.

        Args:
            steps, trials, units: integers from 0 on, one each an event.
            shape: (time, batch, units).
            values: real numbers, one an event; None: 1.
            capacity: events that a step of a trial has room for; None: as many as there are. Give a data set's largest
                number, and all its batches share a compiled program.

        Raises:
            ArgumentError: lists of unequal length, an event outside `shape`, more events than `capacity`.
        """
        at = [np.asarray(x, None if np.size(x) else int).ravel() for x in (steps, trials, units)]
        given = None if values is None else np.asarray(values, float).ravel()
        if len({len(x) for x in (*at, *([] if given is None else [given]))}) > 1:
            raise ArgumentError("Events.at: steps, trials, units and values must be equally long.")
        for name, x, size in zip(("steps", "trials", "units"), at, shape, strict=True):
            if len(x) and not np.issubdtype(x.dtype, np.integer):
                raise ArgumentError(f"Events.at: {name} must be integers, got {x.dtype}.")
            if len(x) and (x.min() < 0 or x.max() >= size):
                raise ArgumentError(f"Events.at: {name} must be from 0 to {size - 1}, got {x.min()} to {x.max()}.")
        row = at[0].astype(np.int64) * shape[1] + at[1]
        found, again = np.unique(row * shape[2] + at[2], return_inverse=True)
        if len(found) < len(row):
            given = np.bincount(again, given).astype(float)
        elif given is not None:
            given = given[np.argsort(again)]
        row, unit = found // shape[2], found % shape[2]
        starts = np.searchsorted(row, np.arange(shape[0] * shape[1]))
        slot = np.arange(len(row)) - starts[row] if len(row) else row
        most = int(slot.max(initial=-1)) + 1
        room = max(_ROOM, -(-most // _ROOM) * _ROOM) if capacity is None else capacity
        if most > room:
            raise ArgumentError(f"Events.at: a step of a trial has {most} events, more than capacity={capacity}.")
        places = np.zeros((shape[0] * shape[1], room), np.int32)
        places[row, slot] = unit + 1
        held = None
        if given is not None:
            held = np.zeros(places.shape)
            held[row, slot] = given
        laid = lambda x: jnp.asarray(x.reshape(shape[0], shape[1], room))
        return cls(laid(places), None if held is None else laid(held.astype(jnp.result_type(float))), shape[2])

    @classmethod
    def of(cls, raster: Any, capacity: int | None = None) -> "Events":
        """The events of a raster (time, batch, units): its numbers that are not zero."""
        x = np.asarray(raster)
        if x.ndim != 3:
            raise ArgumentError(f"Events.of: a raster is (time, batch, units), got shape {x.shape}.")
        steps, trials, units = np.nonzero(x)
        values = None if np.isin(x, (0, 1)).all() else x[steps, trials, units]
        return cls.at(steps, trials, units, x.shape, values, capacity)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the raster: (time, batch, units)."""
        return (*self.places.shape[:-1], self.units)

    @property
    def ndim(self) -> int:
        """Number of axes of the raster."""
        return self.places.ndim

    @property
    def dtype(self) -> Any:
        """Of the raster's numbers."""
        return jnp.result_type(float) if self.values is None else self.values.dtype

    def astype(self, dtype: Any) -> "Events":
        """The same events with values of a type."""
        return self if self.values is None else Events(self.places, self.values.astype(dtype), self.units)

    def __getitem__(self, window: Any) -> "Events":
        """Events of some steps."""
        return jax.tree.map(lambda x: x[window], self)

    def dense(self, dtype: Any = None) -> Float[Array, "*time batch units"]:
        """The raster."""
        values = jnp.ones((), dtype or self.dtype) if self.values is None else self.values.astype(dtype or self.dtype)
        flat = self.places.reshape(-1, self.places.shape[-1])
        sent = jnp.broadcast_to(values, self.places.shape).reshape(flat.shape)
        rows = jnp.broadcast_to(jnp.arange(flat.shape[0], dtype=flat.dtype)[:, None], flat.shape)
        # What stands nowhere goes to a place of its own.
        raster = jnp.zeros((flat.shape[0], self.units + 1), sent.dtype).at[rows, flat].add(sent)
        return raster[:, 1:].reshape(self.shape)


def dense(x: Any, dtype: Any = None) -> Any:
    """The raster of events; an array as it is."""
    return x.dense(dtype) if isinstance(x, Events) else x
