"""Loops over time as one call: a component of spiking and leaky populations, forwards (`ahead`) and backwards (`back`).

Spikes add their rows of weights to currents; errors are made only for units whose pseudo-derivative is not zero. The
native code is `native/ahead.inc` and `back.inc`; this file lists its arrays as `native/loops.cc` reads them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..events import Events
from . import library

# As `Coefficient`, `Kind`, `Reset` and `Activation` in native/loops.h.
COEFFICIENTS = (
    *("alpha", "gain", "bias", "threshold", "rho", "jump", "beta", "height", "slope"),
    *("synapse", "intake"),
)
KINDS = ("spiking", "leaky", "rate")
RESETS = ("subtract", "threshold", "zero")
ACTIVATIONS = ("tanh", "relu", "sigmoid")
# As `Keep` and `Has` in native/loops.cc.
_KEEP = {"above": 1, "voltage": 2, "adaptation": 4, "synaptic": 8, "phi": 16, "slopes": 32}
_HAS = ("arriving", "at_voltage", "at_adaptation", "at_synaptic", "delta")
# Rows of weights are padded as by `padded` in native/loops.h.
_PAD, _BAD = 16, 512


class Unit(NamedTuple):
    """The dynamics of a population, by the equations of `Coefficient` in native/loops.h.

    kind: "spiking", "leaky" or "rate". coefficients: by name, scalars or one number a unit; those left out are zero.
    reset: "subtract", "threshold" or "zero". activation: "tanh", "relu" or "sigmoid".
    adaptive, synaptic: whether there is an adaptation, and whether currents pass a synapse.
    period: steps of the refractory period, or None.
    psi: the pseudo-derivative by voltage above threshold; None: a triangle by "height" and "slope".

    State variables are voltage, or rate, adaptation, synaptic and refractory.
    """

    kind: str
    coefficients: dict[str, Array]
    reset: str = "subtract"
    activation: str = "tanh"
    adaptive: bool = False
    synaptic: bool = False
    period: Array | None = None
    psi: Callable[[Array], Array] | None = None

    @property
    def spiking(self) -> bool:
        """Whether the unit has a threshold."""
        return self.kind == "spiking"

    def above(self, voltage: Array, adaptation: Array | None, waiting: Array | None) -> Array:
        """Voltage above threshold in a state, infinite where the unit must not spike."""
        high = jnp.broadcast_to(self.coefficients["threshold"], voltage.shape)
        if adaptation is not None:
            high = high + jnp.broadcast_to(self.coefficients["beta"], voltage.shape) * adaptation
        x = voltage - high
        return x if waiting is None else jnp.where(waiting > 0, jnp.inf, x)

    def slope(self, above: Array) -> Array:
        """The pseudo-derivative there."""
        if self.psi is not None:
            # Refractory units: no function needs to know what it is at infinity.
            x = jnp.where(jnp.isinf(above), 0, above)
            return jnp.where(jnp.isinf(above), 0, self.psi(x))
        height, slope = (jnp.broadcast_to(self.coefficients[n], above.shape) for n in ("height", "slope"))
        return height * jnp.maximum(0, 1 - jnp.abs(above) * slope)


class Signal(NamedTuple):
    """What units send: `numbers` (steps, batch, units), `bits` (steps, batch, words), 32 to a word, or `events`.

    history: what they sent before, (depth, batch, units), oldest first, where a delay reaches it.
    """

    units: int
    numbers: Array | None
    bits: Array | None = None
    events: Events | None = None
    history: Array | None = None

    def fields(self) -> list[int]:
        """Units, form, depth and capacity, as native/loops.cc reads them."""
        form = 0 if self.numbers is not None else 1 if self.bits is not None else 2
        capacity = 0
        if self.events is not None:
            form, capacity = 2 if self.events.values is None else 3, self.events.places.shape[-1]
        return [self.units, form, 0 if self.history is None else self.history.shape[0], capacity]

    def arrays(self) -> list[Array]:
        """As listed there."""
        events = (None, None) if self.events is None else (self.events.places, self.events.values)
        return _present(self.numbers, self.bits, *events, self.history)


class Start(NamedTuple):
    """A population before a run: state variables (batch, units), and past outputs (depth, batch, units), oldest first.

    keep: what is wanted of every step: "above" (voltage above threshold), "voltage", "adaptation", "synaptic",
        "phi" (derivative of a rate's nonlinearity), "slopes" (pseudo-derivatives that are not zero).
    """

    unit: Unit
    bias: Array
    voltage: Array
    adaptation: Array | None
    synaptic: Array | None
    waiting: Array | None
    history: Array | None
    keep: tuple[str, ...]


class End(NamedTuple):
    """A population after a run, as errors come back to it.

    tape: "phi"; "above" or "slopes", "first_above"; by reset: "spikes" (bits) and "first_spikes", "voltage" and
        "first_voltage", "adaptation".
    entering: dE at every step by "output" ("arriving"), by voltage ("at_voltage"), adaptation ("at_adaptation") and
        synaptic current ("at_synaptic").
    voltage, adaptation, synaptic: dE by the final state. depth: of the past outputs that errors reach.
    local: hold the reset constant. delta: whether it is wanted, step by step.
    """

    unit: Unit
    size: int
    tape: dict[str, Array]
    entering: dict[str, Array]
    voltage: Array
    adaptation: Array | None
    synaptic: Array | None
    depth: int
    local: bool
    delta: bool


class Edge(NamedTuple):
    """Weights (post, pre) between two populations by their places, `delay` steps apart; one of them may be outside.

    pre, post: -1 is outside. source: what it sends, ahead. error: (steps, batch, units) there, back.
    """

    pre: int
    post: int
    delay: int
    weight: Array
    source: Signal | None = None
    error: Array | None = None


class Gradient(NamedTuple):
    """The gradient by the weights through which `pre` reaches a population, by its place, `delay` steps later.

    trial_units: None, or: each trial's own, of the first so many units of `post`.
    """

    post: int
    delay: int
    pre: Signal
    trial_units: int | None = None


def unpacked(bits: Array, units: int, dtype: Any) -> Array:
    """Spikes (..., units), 0 or 1, from bits (..., words), 32 to a word."""
    places = jnp.broadcast_to(jnp.arange(32, dtype=jnp.uint32), (*bits.shape, 32))
    spikes = jnp.broadcast_to(bits[..., None], places.shape) >> places & jnp.ones_like(places)
    return spikes.reshape(*bits.shape[:-1], -1)[..., :units].astype(dtype)


def available(dtype: Any) -> bool:
    """Whether loops run natively for numbers of a type."""
    return jax.default_backend() == "cpu" and library.loops() and library.target("ahead", dtype) is not None


def ahead(starts: Sequence[Start], edges: Sequence[Edge], steps: int) -> list[dict[str, Array]]:
    """Run a component.

    Returns:
        for each population what it keeps (steps, batch, units), its spikes as "bits", or "voltage" where it is leaky;
        "last_voltage", "last_adaptation", "last_synaptic", "last_waiting"; slopes as "slope_bits", "slope_values" and
        "slope_ends".
    """
    batch, dtype = starts[0].voltage.shape[0], starts[0].voltage.dtype
    arrays: list[Array] = []
    results: list[Any] = []
    names: list[tuple[int, str]] = []
    fields: list[int] = []
    for place, s in enumerate(starts):
        size = s.voltage.shape[1]
        depth = 0 if s.history is None else s.history.shape[0]
        spikes = _spikes(s) if s.unit.spiking else None
        keep = {*s.keep} if s.unit.spiking else {*s.keep, "voltage"}
        fields += [*_described(s.unit, size), depth, sum(_KEEP[n] for n in keep), 0, 0]
        arrays += [_rows(s.unit, size, dtype, s.bias), s.voltage]
        arrays += _present(
            s.adaptation, s.synaptic, _period(s.unit, size), s.waiting, spikes, s.history if depth else None
        )
        bits = jax.ShapeDtypeStruct((steps, batch, -(-size // 32)), jnp.uint32)
        if s.unit.spiking:
            results.append(bits)
            names.append((place, "bits"))
        for name in _KEEP:
            if name in keep and name != "slopes":
                results.append(jax.ShapeDtypeStruct((steps, batch, size), dtype))
                names.append((place, name))
        if "slopes" in keep:
            results += [bits, jax.ShapeDtypeStruct((steps * batch * size,), dtype)]
            results.append(jax.ShapeDtypeStruct((batch,), jnp.int32))
            names += [(place, f"slope_{name}") for name in ("bits", "values", "ends")]
        for name in ("voltage", "adaptation", "synaptic", "waiting"):
            last = getattr(s, name)
            if last is not None:
                results.append(jax.ShapeDtypeStruct(last.shape, last.dtype))
                names.append((place, f"last_{name}"))
    joins: list[int] = []
    for e in edges:
        joins += [e.pre, e.post, e.delay, *(e.source.fields() if e.source else [e.weight.shape[1], 0, 0, 0])]
        arrays += [_padded(e.weight.T), *(e.source.arrays() if e.source else [])]
    found = _called("ahead", arrays, results, dtype, steps=steps, batch=batch, populations=fields, edges=joins)
    return _named(len(starts), names, found)


def back(
    ends: Sequence[End], edges: Sequence[Edge], gradients: Sequence[Gradient], steps: int
) -> tuple[list[dict[str, Array]], list[Array]]:
    """Carry errors of a component's run back to its currents.

    Returns:
        for each population "total" (units,), the sum of its delta, and "delta" (steps, batch, units) where wanted; dE
        by the initial "voltage" and "adaptation", its spikes taken into account; "pending" (depth, batch, units): what
        past outputs are told, latest first.
        The gradients (post, pre), or of each trial (batch, pre, trial_units).
    """
    batch, dtype = ends[0].voltage.shape[0], ends[0].voltage.dtype
    arrays: list[Array] = []
    results: list[Any] = []
    names: list[tuple[int, str]] = []
    fields: list[int] = []
    for place, s in enumerate(ends):
        present = [name for name in _HAS if name in s.entering]
        has = sum(1 << _HAS.index(name) for name in [*present, *(["delta"] if s.delta else [])])
        given = "above" in s.tape
        fields += [*_described(s.unit, s.size), s.depth, has, int(s.local), int(given)]
        arrays.append(_rows(s.unit, s.size, dtype))
        if s.unit.spiking:
            slopes = [] if given else [s.tape[f"slope_{name}"] for name in ("bits", "values", "ends")]
            arrays += [s.unit.slope(s.tape["above"])] if given else slopes
            wanted: tuple[str, ...] = () if s.unit.reset == "subtract" else ("spikes", "first_spikes")
            wanted += ("voltage", "first_voltage") if s.unit.reset == "zero" else ()
            wanted += ("adaptation",) if s.unit.adaptive and s.unit.reset == "threshold" else ()
            arrays += [s.tape[name] for name in wanted]
        elif s.unit.kind == "rate":
            arrays.append(s.tape["phi"])
        arrays += [s.entering[name] for name in present]
        arrays += [s.voltage, *_present(s.adaptation, s.synaptic)]
        for name, shape in (
            ("delta", (steps, batch, s.size) if s.delta else None),
            ("total", (_width(s.size),)),
            ("voltage", (batch, s.size)),
            ("adaptation", (batch, s.size) if s.unit.adaptive else None),
            ("synaptic", (batch, s.size) if s.unit.synaptic else None),
            ("spikes", (batch, s.size) if s.unit.spiking else None),
            ("pending", (s.depth, batch, s.size) if s.depth else None),
        ):
            if shape is not None:
                results.append(jax.ShapeDtypeStruct(shape, dtype))
                names.append((place, name))
    joins: list[int] = []
    for e in edges:
        joins += [e.pre, e.post, e.delay, e.weight.shape[0], 0, 0, 0]
        arrays += [_padded(e.weight.T), _padded(e.weight), *_present(e.error)]
    sums: list[int] = []
    for g in gradients:
        sums += [g.trial_units or 0, g.post, g.delay, *g.pre.fields()]
        arrays += g.pre.arrays()
        shape = (g.pre.units, _width(g.trial_units or ends[g.post].size))
        results.append(jax.ShapeDtypeStruct((batch, *shape) if g.trial_units else shape, dtype))
    more = {"populations": fields, "edges": joins, "gradients": sums}
    called = _called("back", arrays, results, dtype, steps=steps, batch=batch, **more)
    found = _named(len(ends), names, called)
    for s, mine in zip(ends, found, strict=True):
        mine["total"] = mine["total"][: s.size]
        if s.unit.spiking:
            _first_spikes(s, mine)
    made = [
        x[..., : g.trial_units] if g.trial_units else x[:, : ends[g.post].size].T
        for g, x in zip(gradients, called[len(names) :], strict=True)
    ]
    return found, made


def _first_spikes(s: End, found: dict[str, Array]) -> None:
    """What the run says of the spikes before it is an error of the state that they came from."""
    g = found.pop("spikes") * s.unit.slope(s.tape["first_above"])
    found["voltage"] = found["voltage"] + g
    if s.unit.adaptive:
        found["adaptation"] = found["adaptation"] - jnp.broadcast_to(s.unit.coefficients["beta"], g.shape) * g


def _called(
    kind: str, arrays: list[Array], results: list[Any], dtype: Any, **described: int | list[int]
) -> list[Array]:
    target = library.target(kind, dtype)
    assert target is not None
    call = jax.ffi.ffi_call(target, results, vmap_method="sequential")
    listed = {n: np.int64(x) if isinstance(x, int) else np.array(x, np.int64) for n, x in described.items()}
    return list(call(*arrays, **listed))


def _named(count: int, names: list[tuple[int, str]], arrays: list[Array]) -> list[dict[str, Array]]:
    found: list[dict[str, Array]] = [{} for _ in range(count)]
    for (place, name), x in zip(names, arrays, strict=False):
        found[place][name] = x
    return found


def _described(unit: Unit, size: int) -> list[int]:
    places = [KINDS.index(unit.kind), RESETS.index(unit.reset), ACTIVATIONS.index(unit.activation)]
    return [size, *places, int(unit.adaptive), int(unit.synaptic), int(unit.period is not None)]


def _rows(unit: Unit, size: int, dtype: Any, bias: Array | None = None) -> Array:
    given = unit.coefficients if bias is None else {**unit.coefficients, "bias": bias}
    nothing = jnp.zeros(size, dtype)
    rows = [jnp.broadcast_to(given[n], (size,)).astype(dtype) if n in given else nothing for n in COEFFICIENTS]
    return _padded(jnp.stack(rows))


def _period(unit: Unit, size: int) -> Array | None:
    return None if unit.period is None else _padded(jnp.broadcast_to(unit.period, (1, size)).astype(jnp.int32))


def _spikes(s: Start) -> Array:
    above = s.unit.above(s.voltage, s.adaptation, s.waiting)
    return ((above > 0) & ~jnp.isinf(above)).astype(s.voltage.dtype)


def _present(*arrays: Array | None) -> list[Array]:
    return [x for x in arrays if x is not None]


def _width(size: int) -> int:
    width = size + -size % _PAD
    return width if width % _BAD else width + _PAD


def _padded(x: Array) -> Array:
    missing = _width(x.shape[-1]) - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, missing))) if missing else x
