"""Components of a network whose populations have native loops (`Neuron.loop`), run and differentiated by these."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..kernels import loops as native
from ..kernels.loops import End, Start, Unit
from ..parameter import is_parameter, resolve
from .network import Network


class Kept(NamedTuple):
    """What a native run keeps of a population for errors to come back: `End.tape`, less what `Tape.outputs` holds."""

    tape: dict[str, Array]


class Inner(NamedTuple):
    """A projection within a component, or into it (`source`: what it saw at each step, (time, batch, pre))."""

    pre: str
    post: str
    delay: int
    weight: Array
    source: Array | None


def units(net: Network, group: tuple[str, ...], wanted: set[str], tape: bool | str) -> dict[str, Unit] | None:
    """How native loops step every population of a component; None where they do not."""
    if tape is True or not native.available(net.dtype):
        return None
    found: dict[str, Unit] = {}
    for name in group:
        neuron = net.populations[name]
        if tape and any(is_parameter(x) for x in jax.tree.leaves(neuron, is_leaf=is_parameter)):
            return None
        unit = resolve(neuron).loop()
        if unit is None or not {w.partition(".")[2] for w in wanted if w.startswith(f"{name}.")} <= _recorded(unit):
            return None
        found[name] = unit
    return found


def _recorded(unit: Unit) -> set[str]:
    return {"voltage", "adaptation"} if unit.adaptive else {"voltage"}


def ahead(
    order: tuple[str, ...],
    units: dict[str, Unit],
    states: dict[str, PyTree],
    histories: dict[str, Array],
    biases: dict[str, Array],
    projections: list[Inner],
    steps: int,
    wanted: set[str],
    tape: bool,
) -> tuple[dict[str, PyTree], dict[str, Array], dict[str, Array], dict[str, Kept]]:
    """Run a component.

    Args:
        order: its populations, in the order in which they run.
        states: before the run. histories: past outputs, oldest first. biases: constant currents (units,).
        wanted: "population.variable" to record. tape: keep what `back` needs.

    Returns:
        final states, outputs, what was recorded, and what was kept.
    """
    starts = []
    for name in order:
        unit, state = units[name], states[name]
        keep = {"output", *(w.partition(".")[2] for w in wanted if w.startswith(f"{name}."))}
        if tape and unit.spiking:
            keep |= {"above"}
            keep |= {"voltage"} if unit.reset == "zero" else set()
            keep |= {"adaptation"} if unit.reset == "threshold" and unit.adaptive else set()
        starts.append(
            Start(
                unit,
                biases.get(name, jnp.zeros(state.voltage.shape[1], state.voltage.dtype)),
                state.voltage,
                getattr(state, "adaptation", None),
                getattr(state, "refractory", None),
                histories.get(name),
                tuple(keep),
            )
        )
    found = native.ahead(starts, _edges(order, projections), steps)
    last, outputs, recorded, kept = {}, {}, {}, {}
    for name, start, mine in zip(order, starts, found, strict=True):
        now = {"voltage": mine["last_voltage"], "adaptation": mine.get("last_adaptation")}
        now["refractory"] = mine.get("last_waiting")
        state = states[name]
        last[name] = state._replace(**{n: now[n] for n in state._fields})
        outputs[name] = mine["output"]
        recorded.update({w: mine[w.partition(".")[2]] for w in wanted if w.startswith(f"{name}.")})
        if tape:
            held: dict[str, Array] = {n: mine[n] for n in ("above", "voltage", "adaptation") if n in mine}
            if start.unit.spiking:
                held["first_above"] = start.unit.above(start.voltage, start.adaptation, start.waiting)
                held["first_voltage"] = start.voltage
            kept[name] = Kept(held)
    return last, outputs, recorded, kept


def back(
    net: Network,
    order: tuple[str, ...],
    kept: dict[str, Kept],
    outputs: dict[str, Array],
    entering: dict[str, dict[str, Array]],
    last: dict[str, PyTree],
    projections: list[Inner],
    local: bool,
) -> tuple[dict[str, Array], dict[str, PyTree], dict[str, Array]]:
    """Carry errors back through a component.

    Args:
        outputs: of each population. entering: dE, by names as in `End.entering`. last: dE by the final states' floats.
        projections: those that errors go along; `source`: errors of a population outside, (time, batch, post).

    Returns:
        delta, dE by the initial states' floats, and by past outputs, latest first.
    """
    ends, steps = [], next(iter(outputs.values())).shape[0]
    for name in order:
        neuron = resolve(net.populations[name])
        unit = neuron.loop()
        tape = dict(kept[name].tape)
        if unit.spiking and unit.reset != "subtract":
            above = tape["first_above"]
            first = ((above > 0) & ~jnp.isinf(above)).astype(above.dtype)
            tape |= {"spikes": outputs[name], "first_spikes": first}
        depth = max((p.delay for p in projections if p.pre == name and p.source is None), default=0)
        final = last[name]
        ends.append(
            End(
                unit,
                neuron.size,
                tape,
                entering[name],
                final.voltage,
                final.adaptation if unit.adaptive else None,
                depth,
                local,
            )
        )
    found = native.back(ends, _edges(order, projections), steps)
    delta, states, pending = {}, {}, {}
    for name, mine in zip(order, found, strict=True):
        delta[name] = mine["delta"]
        floats = {"voltage": mine["voltage"], "adaptation": mine.get("adaptation"), "refractory": None}
        states[name] = last[name]._replace(**{n: floats[n] for n in last[name]._fields})
        if "pending" in mine:
            pending[name] = mine["pending"]
    return delta, states, pending


def _edges(order: tuple[str, ...], projections: list[Inner]) -> list[native.Edge]:
    place = {name: i for i, name in enumerate(order)}
    return [native.Edge(place.get(p.pre, -1), place.get(p.post, -1), p.delay, p.weight, p.source) for p in projections]
