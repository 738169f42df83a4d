"""Loops over time as one call: a component of spiking and leaky populations, forwards (`ahead`) and backwards (`back`).

Spikes add their rows of weights to currents; errors are made only for units whose pseudo-derivative is not zero. The
native code is `native/loops.inc`; this file lists its arrays in the order in which `native/loops.cc` reads them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from . import library

# As `Coefficient`, `Kind` and `Reset` in native/loops.h.
COEFFICIENTS = ("alpha", "gain", "bias", "threshold", "rho", "jump", "beta", "height", "slope")
KINDS = ("spiking", "leaky")
RESETS = ("subtract", "threshold", "zero")
# As `Keep` and `Has` in native/loops.cc.
_KEEP = {"output": 1, "above": 2, "voltage": 4, "adaptation": 8}
_HAS = ("arriving", "at_voltage", "at_adaptation")
# Numbers that loops take at once; rows of weights are padded to whole multiples.
_PAD = 16


class Unit(NamedTuple):
    """The dynamics of a population, by the equations of `Coefficient` in native/loops.h.

    kind: "spiking" or "leaky". coefficients: by name, scalars or one number a unit; those left out are zero.
    reset: "subtract", "threshold" or "zero". adaptive: whether there is an adaptation.
    period: steps of the refractory period, or None.
    psi: the pseudo-derivative by voltage above threshold; None: a triangle by "height" and "slope".
    """

    kind: str
    coefficients: dict[str, Array]
    reset: str = "subtract"
    adaptive: bool = False
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


class Start(NamedTuple):
    """A population before a run: state variables (batch, units), and past outputs (depth, batch, units), oldest first.

    keep: what is wanted of every step: "output", "above" (voltage above threshold), "voltage", "adaptation".
    """

    unit: Unit
    bias: Array
    voltage: Array
    adaptation: Array | None
    waiting: Array | None
    history: Array | None
    keep: tuple[str, ...]


class End(NamedTuple):
    """A population after a run, as errors come back to it.

    tape: "above", and by reset: "spikes" and "first_spikes", "voltage" and "first_voltage", "adaptation".
    entering: dE at every step by "output" ("arriving"), by voltage ("at_voltage") and adaptation ("at_adaptation").
    voltage, adaptation: dE by the final state. depth: of the past outputs that errors reach.
    """

    unit: Unit
    size: int
    tape: dict[str, Array]
    entering: dict[str, Array]
    voltage: Array
    adaptation: Array | None
    depth: int
    local: bool


class Edge(NamedTuple):
    """Weights (post, pre) between two populations by their places, `delay` steps apart; one of them may be outside.

    pre, post: -1 is outside: `source` (steps, batch, units) is its output, or the error there.
    """

    pre: int
    post: int
    delay: int
    weight: Array
    source: Array | None


def available(dtype: Any) -> bool:
    """Whether loops run natively for numbers of a type."""
    return jax.default_backend() == "cpu" and library.target("ahead", dtype) is not None


def ahead(starts: Sequence[Start], edges: Sequence[Edge], steps: int) -> list[dict[str, Array]]:
    """Run a component.

    Returns:
        for each population what it keeps (steps, batch, units), and "last_voltage", "last_adaptation", "last_waiting".
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
        fields += [*_described(s.unit, size), depth, sum(_KEEP[n] for n in s.keep), 0, 0]
        arrays += [_rows(s.unit, size, dtype, s.bias), s.voltage]
        arrays += _present(s.adaptation, _period(s.unit, size), s.waiting, spikes, s.history if depth else None)
        for name in _KEEP:
            if name in s.keep:
                results.append(jax.ShapeDtypeStruct((steps, batch, size), dtype))
                names.append((place, name))
        for name, last in (("voltage", s.voltage), ("adaptation", s.adaptation), ("waiting", s.waiting)):
            if last is not None:
                results.append(jax.ShapeDtypeStruct(last.shape, last.dtype))
                names.append((place, f"last_{name}"))
    for e in edges:
        arrays += [_padded(e.weight.T), *_present(e.source)]
    units = [e.weight.shape[1] for e in edges]
    return _called("ahead", starts, edges, units, fields, arrays, results, names, steps, batch, dtype)


def back(ends: Sequence[End], edges: Sequence[Edge], steps: int) -> list[dict[str, Array]]:
    """Carry errors of a component's run back to its currents.

    Returns:
        for each population "delta" (steps, batch, units); dE by the initial "voltage" and "adaptation", its spikes
        taken into account; "pending" (depth, batch, units): what past outputs are told, latest first.
    """
    batch, dtype = ends[0].voltage.shape[0], ends[0].voltage.dtype
    arrays: list[Array] = []
    results: list[Any] = []
    names: list[tuple[int, str]] = []
    fields: list[int] = []
    for place, s in enumerate(ends):
        given, present = s.unit.psi is not None, [name for name in _HAS if name in s.entering]
        has = sum(1 << _HAS.index(name) for name in present)
        fields += [*_described(s.unit, s.size), s.depth, has, int(s.local), int(given)]
        arrays.append(_rows(s.unit, s.size, dtype))
        if s.unit.spiking:
            above = s.tape["above"]
            arrays.append(s.unit.slope(above) if given else above)
            wanted: tuple[str, ...] = () if s.unit.reset == "subtract" else ("spikes", "first_spikes")
            wanted += ("voltage", "first_voltage") if s.unit.reset == "zero" else ()
            wanted += ("adaptation",) if s.unit.adaptive and s.unit.reset == "threshold" else ()
            arrays += [s.tape[name] for name in wanted]
        arrays += [s.entering[name] for name in present]
        arrays += [s.voltage, *_present(s.adaptation)]
        for name, shape in (
            ("delta", (steps, batch, s.size)),
            ("voltage", (batch, s.size)),
            ("adaptation", (batch, s.size) if s.unit.adaptive else None),
            ("spikes", (batch, s.size) if s.unit.spiking else None),
            ("pending", (s.depth, batch, s.size) if s.depth else None),
        ):
            if shape is not None:
                results.append(jax.ShapeDtypeStruct(shape, dtype))
                names.append((place, name))
    for e in edges:
        arrays += [_padded(e.weight.T), _padded(e.weight), *_present(e.source)]
    units = [e.weight.shape[0] for e in edges]
    found = _called("back", ends, edges, units, fields, arrays, results, names, steps, batch, dtype)
    for s, mine in zip(ends, found, strict=True):
        if s.unit.spiking:
            _first_spikes(s, mine)
    return found


def _first_spikes(s: End, found: dict[str, Array]) -> None:
    """What the run says of the spikes before it is an error of the state that they came from."""
    g = found.pop("spikes") * s.unit.slope(s.tape["first_above"])
    found["voltage"] = found["voltage"] + g
    if s.unit.adaptive:
        found["adaptation"] = found["adaptation"] - jnp.broadcast_to(s.unit.coefficients["beta"], g.shape) * g


def _called(
    kind: str,
    populations: Sequence[Any],
    edges: Sequence[Edge],
    units: list[int],
    fields: list[int],
    arrays: list[Array],
    results: list[Any],
    names: list[tuple[int, str]],
    steps: int,
    batch: int,
    dtype: Any,
) -> list[dict[str, Array]]:
    target = library.target(kind, dtype)
    assert target is not None
    joins = [x for e, n in zip(edges, units, strict=True) for x in (e.pre, e.post, e.delay, n)]
    call = jax.ffi.ffi_call(target, results, vmap_method="sequential")
    found: list[dict[str, Array]] = [{} for _ in populations]
    listed = {"populations": np.array(fields, np.int64), "edges": np.array(joins, np.int64)}
    for (place, name), x in zip(
        names, call(*arrays, steps=np.int64(steps), batch=np.int64(batch), **listed), strict=True
    ):
        found[place][name] = x
    return found


def _described(unit: Unit, size: int) -> list[int]:
    return [size, KINDS.index(unit.kind), RESETS.index(unit.reset), int(unit.adaptive), int(unit.period is not None)]


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


def _padded(x: Array) -> Array:
    missing = -x.shape[-1] % _PAD
    return jnp.pad(x, ((0, 0), (0, missing))) if missing else x
