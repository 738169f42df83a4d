"""The loops of `loops` on a GPU: a launch for a whole sequence or for each step, in either direction: `persistent`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton
from jaxtyping import Array

from ..errors import unknown
from . import persistent, sweeps
from .library import PRECISIONS
from .persistent import TRIALS, Join, Plan, Tile
from .steps import Form
from .units import COEFFICIENTS, Edge, End, Gradient, Signal, Start, Unit, unpacked

# Columns of a tile, a power of two and whole words of spikes: of all steps in one launch, and of what a step reads.
TILE, READ = 64, 128
# Units of a component, padded, whose states registers hold: of twice as many, the compiler puts kilobytes in memory.
UNITS = 512
# Steps of a loop's turn, whose launches need not wait for the loop.
UNROLLED = 16
# Bytes of weights that a program holds at most, and what it needs of shared memory beside them.
HELD, BESIDE = 128 * 1024, 16 * 1024
# Kilobytes of shared memory that a program may ask for, by compute capability; elsewhere the least of them.
SHARED = {"8.0": 163, "8.6": 99, "8.7": 163, "8.9": 99, "9.0": 227, "10.0": 227, "10.3": 227, "12.0": 99}


def fits(dtype: Any) -> bool:
    """Whether the device knows how to multiply numbers of a type."""
    # Before 8.0 there are no tensor cores for single precision; other makers' GPUs have names here.
    major = _capability().partition(".")[0]
    recent = major.isdecimal() and int(major) >= 8 and (jax.default_backend() != "gpu" or _listed())
    return recent and jnp.dtype(dtype) in (jnp.float32, jnp.float64)


def _listed() -> bool:
    """Whether JAX compiles Triton's kernels for this GPU: newer ones keep a list."""
    try:
        getattr(triton, "get_gpu_info", lambda: None)()
    except ValueError:
        return False
    return True


def ahead(
    starts: Sequence[Start],
    edges: Sequence[Edge],
    steps: int,
    *,
    precision: str = "float32",
    interpret: bool | None = None,
) -> list[dict[str, Array]]:
    """As `loops.ahead`.

    Args:
        precision: of products within the component: "bfloat16" rounds weights and outputs, and sums in float32.
        interpret: without a GPU; by default where there is none.
    """
    batch, dtype = starts[0].voltage.shape[0], starts[0].voltage.dtype
    forms = tuple(_form(s.unit) for s in starts)
    plan, inner = _plan([s.voltage.shape[1] for s in starts], forms, edges, steps, batch, dtype, precision, interpret)
    inputs: list[dict[str, Array]] = []
    shapes: list[dict[str, jax.ShapeDtypeStruct]] = []
    for place, s in enumerate(starts):
        spiking, size = s.unit.spiking, s.voltage.shape[1]
        state = {name: getattr(s, name) for name in ("voltage", "adaptation", "synaptic", "waiting")}
        given = {"rows": _rows(plan, place, s.unit, s.bias, dtype), "period": _period(plan, place, s.unit), **state}
        given |= {"current": _current(place, s, edges), "spikes": s.spikes() if spiking else None}
        if s.history is not None and s.history.shape[0]:
            given |= {"history": s.history, "latest": s.history[-1]}
        inputs.append(_present(given))
        # Slopes are a form that saves the memory of CPUs.
        keep = {"above" if name == "slopes" else name for name in s.keep} | (set() if spiking else {"voltage"})
        kept = {name: jax.ShapeDtypeStruct((steps, batch, size), dtype) for name in sorted(keep)}
        if spiking:
            words = -(-size // persistent.BITS)
            kept["bits"] = jax.ShapeDtypeStruct((steps, batch, words), jnp.dtype("uint32"))
        if plan.only is not None:
            state["spikes"] = given["spikes"]
        for name, x in _present(state).items():
            kept[f"last_{name}"] = jax.ShapeDtypeStruct(x.shape, x.dtype)
        shapes.append(kept)
    weights = [_weight(plan, e.weight.T, join.pre, join.post, precision) for join, e in inner]
    found = _called(sweeps.ahead, plan, inputs, weights, shapes)
    return [{name: x for name, x in mine.items() if name != "last_spikes"} for mine in found]


def back(
    ends: Sequence[End],
    edges: Sequence[Edge],
    gradients: Sequence[Gradient],
    steps: int,
    *,
    precision: str = "float32",
    interpret: bool | None = None,
) -> tuple[list[dict[str, Array]], list[Array]]:
    """As `loops.back`, but dE by the initial "spikes" is told apart, and every delta is there."""
    batch, dtype = ends[0].voltage.shape[0], ends[0].voltage.dtype
    forms = tuple(_form(s.unit, s.local) for s in ends)
    plan, inner = _plan([s.size for s in ends], forms, edges, steps, batch, dtype, precision, interpret)
    inputs: list[dict[str, Array]] = []
    shapes: list[dict[str, jax.ShapeDtypeStruct]] = []
    for place, s in enumerate(ends):
        final = {name: getattr(s, name) for name in ("voltage", "adaptation", "synaptic")}
        given = {"rows": _rows(plan, place, s.unit, None, dtype), **s.entering, "arriving": _arriving(place, s, edges)}
        given |= {f"last_{name}": x for name, x in final.items()} | {name: s.tape[name] for name in _needed(s.unit)}
        one = jax.ShapeDtypeStruct((batch, s.size), dtype)
        told = dict.fromkeys(_present(final), one)
        told["delta"] = jax.ShapeDtypeStruct((steps, batch, s.size), dtype)
        if s.unit.spiking:
            above = s.tape["above"]
            given["tape"] = above if s.unit.psi is None else s.unit.slope(above)
            told["spikes"] = one
        elif s.unit.kind == "rate":
            given["tape"] = s.tape["phi"]
        inputs.append(_present(given))
        shapes.append(told)
    weights = [_weight(plan, e.weight, join.post, join.pre, precision) for join, e in inner]
    found = _called(sweeps.back, plan, inputs, weights, shapes)
    for place, s in enumerate(ends):
        found[place]["total"] = jnp.sum(found[place]["delta"], (0, 1))
        if s.depth:
            found[place]["pending"] = _pending(place, s, edges, found)
    made = []
    for g in gradients:
        delta, sent = found[g.post]["delta"][..., : g.trial_units], _sent(g.pre, g.delay, dtype)
        made.append(jnp.einsum("tbj,tbi->bij" if g.trial_units else "tbj,tbi->ji", delta, sent))
    return found, made


def _called(
    kernel: Callable[..., None],
    plan: Plan,
    inputs: list[dict[str, Array]],
    weights: list[Array],
    shapes: list[dict[str, jax.ShapeDtypeStruct]],
) -> list[dict[str, Array]]:
    """What a kernel makes of a component: in one launch where a program can hold it, else step by step."""
    if plan.only is None and plan.steps:
        return persistent.call(kernel, plan, inputs, weights, shapes)
    forwards = kernel is sweeps.ahead
    made = [
        {name: _begin(name, x, given, forwards) for name, x in mine.items()}
        for given, mine in zip(inputs, shapes, strict=True)
    ]

    def turn(n: Any, made: list[dict[str, Array]]) -> list[dict[str, Array]]:
        made, places = list(made), range(len(made))
        t = jnp.asarray(n if forwards else plan.steps - 1 - n, jnp.int32)
        for place in places if forwards else reversed(places):
            made[place] = persistent.step(kernel, plan._replace(only=place), t, inputs, weights, made)
        return made

    return list(jax.lax.fori_loop(0, plan.steps, turn, made, unroll=UNROLLED)) if plan.steps else made


def _begin(name: str, x: jax.ShapeDtypeStruct, given: dict[str, Array], forwards: bool) -> Array:
    """What is there of an array before the first step: a state is the one to begin with."""
    first = name.removeprefix("last_") if forwards else f"last_{name}"
    return given[first] if first != name and first in given else jnp.zeros(x.shape, x.dtype)


def _plan(
    sizes: list[int],
    forms: tuple[Form, ...],
    edges: Sequence[Edge],
    steps: int,
    batch: int,
    dtype: Any,
    precision: str,
    interpret: bool | None,
) -> tuple[Plan, list[tuple[Join, Edge]]]:
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    inner = [(Join(e.pre, e.post, e.delay), e) for e in edges if e.pre >= 0 and e.post >= 0]
    without = jax.default_backend() != "gpu" if interpret is None else interpret
    joins = tuple(join for join, _ in inner)
    plan = Plan(steps, batch, tuple(sizes), forms, joins, COEFFICIENTS, _tiles(sizes, True), without)
    states = jnp.dtype(dtype).itemsize * sum(tile.width for tile in plan.tiles)
    if states > 4 * UNITS or _bytes(plan, dtype, precision) > min(HELD, _shared() - BESIDE):
        plan = plan._replace(only=0, tiles=_tiles(sizes, False))
    return plan, inner


def _shared() -> int:
    return 1024 * SHARED.get(_capability(), min(SHARED.values()))


def _capability() -> str:
    """The compute capability of the GPU, or of the one that is stood in for."""
    return str(getattr(jax.local_devices()[0], "compute_capability", "8.0"))


def _tiles(sizes: Sequence[int], held: bool) -> tuple[Tile, ...]:
    """Tiles of populations; loops over them want them to be equal."""
    wide = TILE if held else READ
    return tuple(Tile(i, a, w if held or not a else wide) for i, size in enumerate(sizes) for a, w in _cut(size, wide))


def _bytes(plan: Plan, dtype: Any, precision: str) -> int:
    """What all weights take; no more than three parts of two bytes, or one of eight."""
    weights = sum(plan.width(join.pre) * plan.width(join.post) for join in plan.joins)
    return (2 if precision == "bfloat16" else 8 if dtype == jnp.float64 else 6) * weights


def _cut(size: int, wide: int) -> list[tuple[int, int]]:
    """Columns of tiles, first and count: powers of two, at least as many as trials."""
    starts = range(0, size, wide)
    return [(a, max(TRIALS, 1 << (min(wide, size - a) - 1).bit_length())) for a in starts]


def _form(unit: Unit, local: bool = False) -> Form:
    kinds = (unit.kind, unit.reset, unit.activation)
    return Form(*kinds, unit.adaptive, unit.synaptic, unit.period is not None, unit.psi is not None, local)


def _needed(unit: Unit) -> tuple[str, ...]:
    if not unit.spiking:
        return ()
    names: tuple[str, ...] = () if unit.reset == "subtract" else ("spikes", "first_spikes")
    names += ("voltage", "first_voltage") if unit.reset == "zero" else ()
    return names + (("adaptation",) if unit.adaptive and unit.reset == "threshold" else ())


def _present(given: dict[str, Any]) -> dict[str, Array]:
    return {name: x for name, x in given.items() if x is not None}


def _pad(x: Array, shape: tuple[int, ...]) -> Array:
    return jnp.pad(x, [(0, n - m) for m, n in zip(x.shape, shape, strict=True)])


def _rows(plan: Plan, place: int, unit: Unit, bias: Array | None, dtype: Any) -> Array:
    size = plan.sizes[place]
    given = unit.coefficients if bias is None else {**unit.coefficients, "bias": bias}
    nothing = jnp.zeros(size, dtype)
    rows = [jnp.broadcast_to(given[n], (size,)).astype(dtype) if n in given else nothing for n in COEFFICIENTS]
    return _pad(jnp.stack(rows), (len(COEFFICIENTS), plan.width(place)))


def _period(plan: Plan, place: int, unit: Unit) -> Array | None:
    if unit.period is None:
        return None
    whole = jnp.broadcast_to(unit.period, (1, plan.sizes[place])).astype(jnp.int32)
    return _pad(whole, (1, plan.width(place)))


def _weight(plan: Plan, weight: Array, first: int, second: int, precision: str) -> Array:
    """In parts, (parts, from, to)."""
    padded = _pad(weight, (plan.width(first), plan.width(second)))
    if precision == "bfloat16":
        return padded.astype(jnp.bfloat16)[None]
    return padded[None] if padded.dtype == jnp.float64 else jnp.stack(persistent.divided(padded))


def _sent(signal: Signal, delay: int, dtype: Any) -> Array:
    """What was sent `delay` steps before each: (steps, batch, units)."""
    numbers = signal.numbers
    if signal.bits is not None:
        numbers = unpacked(signal.bits, signal.units, dtype)
    elif signal.events is not None:
        numbers = signal.events.dense(dtype)
    assert numbers is not None
    if not delay:
        return numbers
    assert signal.history is not None
    past = signal.history[signal.history.shape[0] - delay :]
    return jnp.concatenate([past, numbers])[: numbers.shape[0]]


def _current(place: int, s: Start, edges: Sequence[Edge]) -> Array | None:
    """What comes from outside, one product for all steps, and the bias with it; None: the bias alone."""
    total = None
    for e in edges:
        if e.post == place and e.pre < 0:
            assert e.source is not None
            current = _sent(e.source, e.delay, s.voltage.dtype) @ e.weight.T
            total = current + jnp.broadcast_to(s.bias, current.shape) if total is None else total + current
    return total


def _arriving(place: int, s: End, edges: Sequence[Edge]) -> Array | None:
    """Errors from outside, one product for all steps, moved to where their causes were sent."""
    total = s.entering.get("arriving")
    for e in edges:
        if e.pre == place and e.post < 0:
            assert e.error is not None
            felt = e.error[e.delay :] @ e.weight
            late = jnp.pad(felt, ((0, e.error.shape[0] - felt.shape[0]), (0, 0), (0, 0)))
            total = late if total is None else total + late
    return total


def _pending(place: int, s: End, edges: Sequence[Edge], found: list[dict[str, Array]]) -> Array:
    """What outputs from before the run are told, latest first: delta of a join's first steps."""
    total = jnp.zeros((s.depth, *s.voltage.shape), s.voltage.dtype)
    for e in edges:
        if e.pre == place and e.post >= 0 and e.delay:
            felt = found[e.post]["delta"][: e.delay] @ e.weight
            total = total.at[e.delay - felt.shape[0] : e.delay].add(felt[::-1])
    return total
