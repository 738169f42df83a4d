"""Components of a network whose populations have native loops (`Neuron.loop`), run and differentiated by these."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..events import Events
from ..kernels import loops as native
from ..kernels.units import Edge, End, Gradient, Signal, Start, Unit, unpacked
from ..parameter import resolve
from ..synapses import Projection
from . import loop_parameters
from .network import Network

# Numbers whose places are no longer 32-bit integers.
_LONG = 1 << 31
_SLOPES = ("slope_bits", "slope_values", "slope_ends")


class Kept(NamedTuple):
    """What a native run keeps of a population: what it sent, and `End.tape`, less what it sent."""

    sent: Signal
    tape: dict[str, Array]


class Inner(NamedTuple):
    """A projection within a component; into it, from `source`; or out of it, from where `error` (time, batch, post)
    comes back."""

    pre: str
    post: str
    delay: int
    weight: Array
    source: Signal | None = None
    error: Array | None = None


class Wanted(NamedTuple):
    """A projection's gradient that is wanted: by its name, of what `pre` sent; `trial_units` as in `Gradient`."""

    name: str
    post: str
    delay: int
    pre: Signal
    trial_units: int | None = None


class Returned(NamedTuple):
    """What errors come to: delta where it is wanted and its sums, dE by initial states and past outputs, gradients by
    weights, and by the values of a model's parameters."""

    delta: dict[str, Array]
    total: dict[str, Array]
    states: dict[str, PyTree]
    pending: dict[str, Array]
    weights: dict[str, Array]
    parameters: dict[str, PyTree]


def available(dtype: Any) -> bool:
    """Whether there are native loops for a type of numbers."""
    return native.available(dtype)


def signal(p: Projection, outputs: dict[str, Any], kept: dict[str, Kept], history: dict[str, Array]) -> Signal:
    """What a projection's source sent, and before that as far back as its delay reaches."""
    name = p.pre
    source = outputs[name][::-1] if p.reverse else outputs[name]
    if name in kept and not p.reverse:
        sent = kept[name].sent
    elif isinstance(source, Events):
        sent = Signal(source.units, None, events=source)
    else:
        sent = Signal(source.shape[-1], source)
    return sent._replace(history=history[name] if p.delay else None)


def listed(numbers: Array) -> Signal:
    """What an input sends, and where it is not zero."""
    return native.listed(numbers)


def units(
    net: Network, group: tuple[str, ...], wanted: set[str], tape: bool, parameters: bool
) -> dict[str, Unit] | None:
    """How native loops step every population of a component; None where they do not.

    They read weights that are matrices: a population that a convolution reaches is left to JAX's loop, whose currents
    from outside of it are made before. With `parameters` errors will be carried to those that train, too.
    """
    if not (available(net.dtype) and native.fits(net.dtype)):
        return None
    if any(p.post in group and not p.matrix for p in net.projections.values()):
        return None
    found: dict[str, Unit] = {}
    for name in group:
        neuron = net.populations[name]
        unit = resolve(neuron).loop()
        if unit is None or not native.knows(unit):
            return None
        learnt = parameters and native.learns() and loop_parameters.known(neuron, unit)
        if tape and loop_parameters.trained(neuron) and not learnt:
            return None
        if not {w.partition(".")[2] for w in wanted if w.startswith(f"{name}.")} <= _recorded(unit):
            return None
        found[name] = unit
    return found


def _recorded(unit: Unit) -> set[str]:
    there = {"adaptation": unit.adaptive, "synaptic": unit.synaptic}
    return {"rate" if unit.kind == "rate" else "voltage", *(name for name, has in there.items() if has)}


def _named(unit: Unit, name: str) -> str:
    """A state variable's name in native loops."""
    return "voltage" if name == "rate" and unit.kind == "rate" else name


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
    learn: set[str],
) -> tuple[dict[str, PyTree], dict[str, Array], dict[str, Array], dict[str, Kept]]:
    """Run a component.

    Args:
        order: its populations, in the order in which they run.
        states: before the run. histories: past outputs, oldest first. biases: constant currents (units,).
        wanted: "population.variable" to record. tape: keep what `back` needs. learn: populations with parameters that
            train.

    Returns:
        final states, outputs, what was recorded, and what was kept.
    """
    starts = []
    for name in order:
        unit, state = units[name], states[name]
        voltage = getattr(state, "rate" if unit.kind == "rate" else "voltage")
        keep = {_named(unit, w.partition(".")[2]) for w in wanted if w.startswith(f"{name}.")}
        if tape and unit.kind == "rate":
            keep |= {"phi"}
        if tape and unit.spiking:
            keep |= {"slopes"} if unit.psi is None and steps * voltage.size < _LONG else {"above"}
            keep |= {"voltage"} if unit.reset == "zero" else set()
            keep |= {"adaptation"} if unit.reset == "threshold" and unit.adaptive else set()
        if tape and name in learn:
            keep |= {"voltage", "adaptation"} if unit.adaptive else {"voltage"}
        starts.append(
            Start(
                unit,
                biases.get(name, jnp.zeros(voltage.shape[1], voltage.dtype)),
                voltage,
                getattr(state, "adaptation", None),
                getattr(state, "synaptic", None),
                getattr(state, "refractory", None),
                histories.get(name),
                tuple(keep),
            )
        )
    found = native.ahead(starts, _edges(order, projections), steps)
    last, outputs, recorded, kept = {}, {}, {}, {}
    for name, start, mine in zip(order, starts, found, strict=True):
        now = {n: mine.get(f"last_{_named(start.unit, n)}") for n in states[name]._fields}
        last[name] = states[name]._replace(**now | _counter(now, mine.get("last_waiting")))
        size, dtype = start.voltage.shape[1], start.voltage.dtype
        spiking = start.unit.spiking
        sent = Signal(size, None, mine["bits"]) if spiking else Signal(size, mine["voltage"])
        outputs[name] = unpacked(mine["bits"], size, dtype) if spiking else mine["voltage"]
        own = {w: _named(start.unit, w.partition(".")[2]) for w in wanted if w.startswith(f"{name}.")}
        recorded.update({w: mine[n] for w, n in own.items()})
        held: dict[str, Array] = {}
        if tape and spiking:
            held = {n: mine[n] for n in ("above", "voltage", "adaptation", *_SLOPES) if n in mine}
            held["first_above"] = start.unit.above(start.voltage, start.adaptation, start.waiting)
            held["first_voltage"] = start.voltage
        elif tape and "phi" in mine:
            held = {"phi": mine["phi"]}
        elif tape and name in learn:
            held = {"voltage": mine["voltage"], "first_voltage": start.voltage}
        if tape and name in learn and start.adaptation is not None:
            held["first_adaptation"] = start.adaptation
        kept[name] = Kept(sent, held)
    return last, outputs, recorded, kept


def back(
    net: Network,
    order: tuple[str, ...],
    kept: dict[str, Kept],
    entering: dict[str, dict[str, Array]],
    last: dict[str, PyTree],
    projections: list[Inner],
    wanted: list[Wanted],
    steps: int,
    *,
    local: bool,
    delta: set[str],
    parameters: bool = False,
) -> Returned:
    """Carry errors back through a component.

    Args:
        entering: dE, by names as in `End.entering`. last: dE by the final states' floats.
        projections: those that errors go along. wanted: gradients. delta: populations whose delta is wanted, too.
        parameters: whether gradients by those that train are.
    """
    ends = []
    learn = {n for n in order if parameters and loop_parameters.trained(net.populations[n])}
    for name in order:
        neuron = resolve(net.populations[name])
        unit = neuron.loop()
        tape = dict(kept[name].tape)
        if unit.spiking and (unit.reset != "subtract" or name in learn):
            above = tape["first_above"]
            first = ((above > 0) & ~jnp.isinf(above)).astype(above.dtype)
            bits = kept[name].sent.bits
            assert bits is not None
            tape |= {"spikes": bits, "first_spikes": first}
        depth = max((p.delay for p in projections if p.pre == name and p.error is None), default=0)
        final = {_named(unit, n): getattr(last[name], n) for n in last[name]._fields}
        given = {f"at_{_named(unit, n[3:])}" if n.startswith("at_") else n: g for n, g in entering[name].items()}
        end = End(
            unit,
            neuron.size,
            tape,
            given,
            final["voltage"],
            final.get("adaptation"),
            final.get("synaptic"),
            depth,
            local=local,
            delta=name in delta,
            learned=name in learn,
        )
        ends.append(end)
    gradients = [Gradient(order.index(w.post), w.delay, w.pre, w.trial_units) for w in wanted]
    found, made = native.back(ends, _edges(order, projections), gradients, steps)
    returned = Returned({}, {}, {}, {}, {w.name: x for w, x in zip(wanted, made, strict=True)}, {})
    for name, end, mine in zip(order, ends, found, strict=True):
        if name in delta:
            returned.delta[name] = mine["delta"]
        if name in learn:
            returned.parameters[name] = loop_parameters.pulled(net.populations[name], mine)
        returned.total[name] = mine["total"]
        floats = {n: mine.get(_named(end.unit, n)) for n in last[name]._fields}
        returned.states[name] = last[name]._replace(**floats | _counter(floats, None))
        if "pending" in mine:
            returned.pending[name] = mine["pending"]
    return returned


def back_alike(
    net: Network, name: str, last: PyTree, wanted: list[Wanted], steps: int
) -> tuple[PyTree, dict[str, Array]]:
    """`back` of a population's variables that move alike in all units (`Neuron.uniform`), by its first unit.

    Args:
        last: dE by the final state, in these variables alone. wanted: gradients of each trial, of one unit.

    Returns:
        dE by the initial state, and the gradients.
    """
    unit = resolve(net.populations[name]).loop()
    # Neither spikes nor adaptation have a say in them.
    linear = {n: x for n, x in unit.coefficients.items() if n in ("alpha", "gain", "synapse", "intake")}
    one = Unit("leaky", {n: x[:1] if x.ndim else x for n, x in linear.items()}, synaptic=unit.synaptic)
    synaptic = last.synaptic[:, :1] if unit.synaptic else None
    end = End(one, 1, {}, {}, last.voltage[:, :1], None, synaptic, 0, local=True, delta=False)
    gradients = [Gradient(0, w.delay, w.pre, w.trial_units) for w in wanted]
    (found,), made = native.back([end], [], gradients, steps)
    alike = {n: jnp.broadcast_to(found[n], last.voltage.shape) for n in ("voltage", "synaptic") if n in found}
    started = jax.tree.map(jnp.zeros_like, last)._replace(**alike)
    return started, {w.name: x for w, x in zip(wanted, made, strict=True)}


def _counter(fields: dict[str, Any], waiting: Array | None) -> dict[str, Any]:
    """The refractory counter of a state that has one."""
    return {"refractory": waiting} if "refractory" in fields else {}


def _edges(order: tuple[str, ...], projections: list[Inner]) -> list[Edge]:
    place = {name: i for i, name in enumerate(order)}
    return [
        Edge(place.get(p.pre, -1), place.get(p.post, -1), p.delay, p.weight, p.source, p.error) for p in projections
    ]
