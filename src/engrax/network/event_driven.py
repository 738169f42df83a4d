"""Event-driven: a network of units with closed forms, from spike to spike, at times that no grid rounds.

Inputs come on the grid, step k at time k dt; spikes come when voltages reach their thresholds. As dt falls `net.run`
comes to the same, where weights are scaled to what a step of input does.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PyTree

from ..errors import ArgumentError, NetworkError, unknown
from ..events import dense
from ..neurons.event_unit import EventUnit
from ..parameter import positive_integer, resolve
from ..synapses import Projection
from ..synapses.delayed import AxonDelayed, Delayed
from .event_loop import Limits, Wiring, simulate
from .network import Network
from .tape import delayed


class Spikes(eqx.Module):
    """Spikes of a population in the order of their times: (events, batch), infinite and -1 where there is none."""

    times: Float[Array, "events batch"]
    units: Int[Array, "events batch"]
    size: int = eqx.field(static=True)

    def first(self) -> Float[Array, "batch size"]:
        """The time of each unit's first spike, ms; infinite where it has none. Differentiable."""
        trials = jnp.broadcast_to(jnp.arange(self.times.shape[1]), self.units.shape)
        empty = jnp.full((self.times.shape[1], self.size), jnp.inf, self.times.dtype)
        return empty.at[trials, jnp.where(self.units < 0, self.size, self.units)].min(self.times, mode="drop")

    def counts(self, steps: int, dt: float) -> Float[Array, "steps batch size"]:
        """Spikes of each unit in each step of a grid."""
        fired = self.units >= 0
        step = jnp.clip(jnp.floor(jnp.where(fired, self.times, 0) / dt), 0, steps - 1).astype(jnp.int32)
        trials = jnp.broadcast_to(jnp.arange(self.times.shape[1]), self.units.shape)
        empty = jnp.zeros((steps, self.times.shape[1], self.size), self.times.dtype)
        return empty.at[step, trials, jnp.where(fired, self.units, self.size)].add(1, mode="drop")


class EventRecord(eqx.Module):
    """What an event-driven run gives: `outputs` and what was recorded, (time, batch, units): mean voltages over each
    step; of spiking units, how many spikes there were in it. `spikes["hidden"]`: when, exactly."""

    outputs: PyTree[Float[Array, "time batch _"]]
    spikes: dict[str, Spikes]
    recorded: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.recorded:
            raise unknown("recorded variable", name, self.recorded)
        return self.recorded[name]


class _Layout(NamedTuple):
    """Where the units of each population are among all."""

    places: dict[str, slice]
    size: int


def run_events(
    net: Network,
    inputs: PyTree[Num[Array, "time batch _"]],
    record: Iterable[str],
    max_spikes: int,
    pending: int,
) -> EventRecord:
    """See `Network.run_events`."""
    given = net.check_inputs(inputs)
    names = (record,) if isinstance(record, str) else tuple(record)
    limits = Limits(net.dt, positive_integer("max_spikes")(max_spikes), positive_integer("pending")(pending))
    for name in [*names, *(f"{o.population}.{o.variable}" if o.variable else o.population for o in net.output_specs)]:
        population, _, variable = name.partition(".")
        if population not in net.populations:
            raise unknown("population", population, net.populations)
        if variable not in ("", "voltage"):
            raise ArgumentError(f"{name!r}: an event-driven run gives outputs and voltages alone.")
    layout = _layout(net)
    unit = _units(net)
    wiring, drive = _wiring(net, layout, unit), _drive(net, layout, unit, given)
    voltages, events = simulate(unit, wiring, drive, limits)
    spikes = {}
    for name, place in layout.places.items():
        if net.populations[name].spiking:
            own = (events.units >= place.start) & (events.units < place.stop)
            spikes[name] = Spikes(
                jnp.where(own, events.times, jnp.inf),
                jnp.where(own, events.units - place.start, -1),
                place.stop - place.start,
            )
    steps = drive.shape[0]

    def shown(population: str, variable: str | None) -> Array:
        if variable or population not in spikes:
            return voltages[..., layout.places[population]]
        return spikes[population].counts(steps, net.dt)

    outputs = {o.label: shown(o.population, o.variable) for o in net.output_specs}
    recorded = {name: shown(name.partition(".")[0], name.partition(".")[2] or None) for name in names}
    return EventRecord(outputs[net.output_specs[0].label] if net.single_output else outputs, spikes, recorded)


def _layout(net: Network) -> _Layout:
    places, size = {}, 0
    for name, neuron in net.populations.items():
        places[name] = slice(size, size + neuron.size)
        size += neuron.size
    return _Layout(places, size)


def _units(net: Network) -> EventUnit:
    parts = []
    for name, neuron in net.populations.items():
        try:
            parts.append(resolve(neuron).event_unit())
        except NetworkError as problem:
            raise NetworkError(f"population {name!r}: {problem}") from None
    return EventUnit(*(jnp.concatenate(xs) for xs in zip(*parts, strict=True)))


def _wiring(net: Network, layout: _Layout, unit: EventUnit) -> Wiring:
    """Rows of what spikes do."""
    now = jnp.zeros((layout.size, layout.size), net.dtype)
    late, delays = [], []
    for p in net.projections.values():
        _check(net, p)
        if p.pre in net.inputs:
            continue
        pre, post = layout.places[p.pre], layout.places[p.post]
        rows = (p.synapses() if isinstance(p, Delayed) else p.effective()).T * unit.gain[post][None]
        whole = jnp.zeros_like(now).at[pre, post].set(rows)
        if not isinstance(p, Delayed) and not p.delay:
            now = now + whole
            continue
        none = jnp.full(layout.size, jnp.inf, net.dtype)
        if not isinstance(p, Delayed):
            late.append(whole)
            delays.append(none.at[pre].set((p.delay or 0) * net.dt))
        elif isinstance(p, AxonDelayed):
            assert p.delays is not None
            late.append(whole)
            delays.append(none.at[pre].set(p.delays * net.dt))
        else:
            assert p.delays is not None
            # A spike arrives at every unit by itself.
            for j in range(post.stop - post.start):
                alone = jnp.zeros_like(now).at[pre, post.start + j].set(rows[:, j])
                late.append(alone)
                delays.append(none.at[pre].set(p.delays[j] * net.dt))
    if not late:
        return Wiring(now, jnp.zeros((0, *now.shape), net.dtype), jnp.zeros((0, layout.size), net.dtype))
    return Wiring(now, jnp.stack(late), jnp.stack(delays))


def _check(net: Network, p: Projection) -> None:
    what = f"projection {p.name!r}"
    if not p.matrix and not isinstance(p, Delayed):
        raise NetworkError(f"{what}: an event-driven run cannot do {type(p).__name__}; net.run can.")
    if p.port or p.reverse:
        raise NetworkError(f"{what}: an event-driven run has no ports and no reversed time; net.run has.")
    if p.pre in net.inputs:
        if isinstance(p, Delayed):
            raise NetworkError(f"{what}: inputs come on the grid, so give it delay= in whole steps.")
    elif not net.populations[p.pre].spiking:
        raise NetworkError(f"{what}: {p.pre!r} sends graded outputs, which are no events.")


def _drive(net: Network, layout: _Layout, unit: EventUnit, given: dict[str, Any]) -> Float[Array, "time batch units"]:
    """What comes on the grid: inputs, and biases at every step as in `net.run`."""
    steps, batch = next(iter(given.values())).shape[:2]
    total = jnp.zeros((steps, batch, layout.size), net.dtype)
    for p in net.projections.values():
        place, bias = layout.places[p.post], p.effective_bias()
        if p.pre in net.inputs:
            x = dense(given[p.pre], net.dtype).astype(net.dtype)
            x = delayed(x, jnp.zeros((p.delay or 0, *x.shape[1:]), x.dtype), p.delay or 0)
            total = total.at[..., place].add(p.drive(p.fan_out(p.effective()), x))
        if bias is not None:
            total = total.at[..., place].add(bias[None, None])
    return total * unit.gain[None, None]
