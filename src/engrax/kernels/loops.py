"""Loops over time as one call: a component of spiking and leaky populations, forwards (`ahead`) and backwards (`back`).

Spikes add their rows of weights to currents; errors are made only for units whose pseudo-derivative is not zero. The
native code is `native/ahead.inc` and `back.inc`; this file lists its arrays as `native/loops.cc` reads them.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from . import library
from .units import ACTIVATIONS, COEFFICIENTS, KINDS, RESETS, TRACES, Edge, End, Gradient, Signal, Start, Unit, those

# Coefficients of which `back` has gradients, as the rows of `learn` in native/back.inc.
LEARNED = ("alpha", "gain", "rho", "jump")
# As `Keep` and `Has` in native/loops.cc.
_KEEP = {"above": 1, "voltage": 2, "adaptation": 4, "synaptic": 8, "phi": 16, "slopes": 32}
_HAS = ("arriving", "at_voltage", "at_adaptation", "at_synaptic", "delta", "learned")
# Rows of weights are padded as by `padded` in native/loops.h.
_PAD, _BAD = 16, 512


def available(dtype: Any) -> bool:
    """Whether loops run natively for numbers of a type."""
    if not library.loops():
        return False
    return on_gpu() or (jax.default_backend() == "cpu" and library.target("ahead", dtype) is not None)


def on_gpu() -> bool:
    """Whether the kernels of `gpu` are asked for, rather than the library, and this JAX knows Triton."""
    wanted = jax.default_backend() == "gpu" and library.mode() == "on"
    return wanted and importlib.util.find_spec("jax.experimental.pallas.triton") is not None


def knows(unit: Unit) -> bool:
    """Whether loops compute what a unit says of itself."""
    return unit.trace == "full" or not on_gpu()


def learns() -> bool:
    """Whether `back` has dE by coefficients."""
    return not on_gpu()


def fits(dtype: Any) -> bool:
    """Whether the device has loops for numbers of a type."""
    if not on_gpu():
        return True
    # Pallas takes long to import.
    from . import gpu

    return gpu.fits(dtype)


def listed(numbers: Array) -> Signal:
    """What is sent, (steps, batch, units), with a list of what is not zero: numbers that are read more than once."""
    units = numbers.shape[-1]
    # Few units are looked through as fast; places are 32-bit integers.
    if on_gpu() or units < _PAD or numbers.size >= 1 << 31:
        return Signal(units, numbers)
    length = numbers.size // units
    shapes = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1,), (length, 2), (numbers.size,))]
    found = _called("list", [numbers], shapes, numbers.dtype)
    return Signal(units, numbers, where=tuple(found))


def ahead(starts: Sequence[Start], edges: Sequence[Edge], steps: int) -> list[dict[str, Array]]:
    """Run a component.

    Returns:
        for each population what it keeps (steps, batch, units), its spikes as "bits", or "voltage" where it is leaky;
        "last_voltage", "last_adaptation", "last_synaptic", "last_waiting"; slopes as "slope_bits", "slope_values" and
        "slope_ends".
    """
    batch, dtype = starts[0].voltage.shape[0], starts[0].voltage.dtype
    if on_gpu():
        from . import gpu

        return gpu.ahead(starts, edges, steps, precision=_precision(dtype))
    arrays: list[Array] = []
    results: list[Any] = []
    names: list[tuple[int, str]] = []
    fields: list[int] = []
    for place, s in enumerate(starts):
        size = s.voltage.shape[1]
        depth = 0 if s.history is None else s.history.shape[0]
        spikes = s.spikes() if s.unit.spiking else None
        keep = {*s.keep} if s.unit.spiking else {*s.keep, "voltage"}
        fields += [*_described(s.unit, size), depth, sum(_KEEP[n] for n in keep), 0, 0, 0]
        arrays += [_rows(s.unit, size, dtype, s.bias), s.voltage]
        arrays += those(
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
        past outputs are told, latest first; "by_alpha" and so on (units,), dE by coefficients that are learned.
        The gradients (post, pre), or of each trial (batch, pre, trial_units).
    """
    batch, dtype = ends[0].voltage.shape[0], ends[0].voltage.dtype
    if on_gpu():
        from . import gpu

        told = gpu.back(ends, edges, gradients, steps, precision=_precision(dtype))
        for s, mine in zip(ends, told[0], strict=True):
            if s.unit.spiking:
                _first_spikes(s, mine)
        return told
    arrays: list[Array] = []
    results: list[Any] = []
    names: list[tuple[int, str]] = []
    fields: list[int] = []
    for place, s in enumerate(ends):
        present = [name for name in _HAS if name in s.entering]
        asked = [name for name, wanted in (("delta", s.delta), ("learned", s.learned)) if wanted]
        has = sum(1 << _HAS.index(name) for name in (*present, *asked))
        given = "above" in s.tape
        trace = TRACES.index(s.unit.trace if s.local else "full")
        fields += [*_described(s.unit, s.size), s.depth, has, int(s.local), int(given), trace]
        arrays.append(_rows(s.unit, s.size, dtype))
        if s.unit.spiking:
            slopes = [] if given else [s.tape[f"slope_{name}"] for name in ("bits", "values", "ends")]
            arrays += [s.unit.slope(s.tape["above"])] if given else slopes
            wanted: tuple[str, ...] = () if s.unit.reset == "subtract" and not s.learned else ("spikes", "first_spikes")
            wanted += ("voltage", "first_voltage") if s.unit.reset == "zero" or s.learned else ()
            if s.unit.adaptive:
                wanted += ("adaptation",) if s.unit.reset == "threshold" or s.learned else ()
                wanted += ("first_adaptation",) if s.learned else ()
            arrays += [s.tape[name] for name in wanted]
        elif s.learned:
            arrays += [s.tape["voltage"], s.tape["first_voltage"]]
        elif s.unit.kind == "rate":
            arrays.append(s.tape["phi"])
        arrays += [s.entering[name] for name in present]
        arrays += [s.voltage, *those(s.adaptation, s.synaptic)]
        for name, shape in (
            ("delta", (steps, batch, s.size) if s.delta else None),
            ("total", (_width(s.size),)),
            ("learned", (len(LEARNED), _width(s.size)) if s.learned else None),
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
        arrays += [_padded(e.weight.T), _padded(e.weight), *those(e.error)]
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
        if s.learned:
            _coefficients(s, mine)
        if s.unit.spiking:
            _first_spikes(s, mine)
    made = [
        x[..., : g.trial_units] if g.trial_units else x[:, : ends[g.post].size].T
        for g, x in zip(gradients, called[len(names) :], strict=True)
    ]
    return found, made


def _precision(dtype: Any) -> str:
    """Of products on GPUs: a network in double precision keeps its own."""
    return library.precision() if dtype == jnp.float32 else "float32"


def _first_spikes(s: End, found: dict[str, Array]) -> None:
    """What the run says of the spikes before it is an error of the state that they came from."""
    g = found.pop("spikes") * s.unit.slope(s.tape["first_above"])
    found["voltage"] = found["voltage"] + g
    if s.unit.adaptive and not (s.local and s.unit.trace == "simplified"):
        found["adaptation"] = found["adaptation"] - jnp.broadcast_to(s.unit.coefficients["beta"], g.shape) * g


def _coefficients(s: End, found: dict[str, Array]) -> None:
    """dE by what is learned, of sums as native/back.inc makes them: of delta, gain dE/dv, and of rho dE/da."""
    sums = dict(zip(LEARNED, found.pop("learned")[:, : s.size], strict=True))
    gain, rho = (jnp.broadcast_to(s.unit.coefficients.get(n, 1.0), (s.size,)) for n in ("gain", "rho"))
    over = {"alpha": gain, "gain": gain**2, "rho": rho, "jump": rho}
    found |= {f"by_{n}": x / over[n] for n, x in sums.items() if s.unit.adaptive or n in ("alpha", "gain")}


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


def _width(size: int) -> int:
    width = size + -size % _PAD
    return width if width % _BAD else width + _PAD


def _padded(x: Array) -> Array:
    missing = _width(x.shape[-1]) - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, missing))) if missing else x
