"""How kernels go through the steps of a component: plans, access to memory, products and launches, in Triton.

A population is cut into tiles of columns, since Triton knows no parts of an array. Where a program can hold all weights
(`Plan.only` is None), one launch goes through all steps: a program takes some trials along, with states in registers
and weights read once. Elsewhere a launch takes one population one step further: a program does that for some trials
and a tile; states are in memory, and products are loops over tiles of weights, which the cache has.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from .steps import Form

# Trials of a program: the least that Triton multiplies at once.
TRIALS = 16
# Spikes in a word.
BITS = 32
# Of a number in single precision, of 8 bits each.
PARTS = 3
# Loads of a loop over tiles that are under way at a time.
STAGES = 3


class Join(NamedTuple):
    """An edge within the component, from place to place."""

    pre: int
    post: int
    delay: int


class Tile(NamedTuple):
    """Columns of the population at a place."""

    place: int
    start: int | Array
    width: int


class Plan(NamedTuple):
    """A component as its kernel sees it.

    coefficients: names of a population's rows. interpret: run without a GPU. only: the place of the population that a
    launch takes one step further, None where it goes through all steps.
    """

    steps: int
    batch: int
    sizes: tuple[int, ...]
    forms: tuple[Form, ...]
    joins: tuple[Join, ...]
    coefficients: tuple[str, ...]
    tiles: tuple[Tile, ...]
    interpret: bool
    only: int | None = None

    def parts(self, place: int) -> list[Tile]:
        """The tiles of a population."""
        return [tile for tile in self.tiles if tile.place == place]

    def width(self, place: int) -> int:
        """Columns of a population, padded."""
        return sum(tile.width for tile in self.parts(place))

    def columns(self, place: int) -> int:
        """Those of a program that takes the population a step further: whole words of spikes."""
        return min(BITS, self.parts(place)[0].width)

    def targets(self) -> list[Tile]:
        """The tiles of a program."""
        if self.only is None:
            return list(self.tiles)
        columns = self.columns(self.only)
        # Indices of one read or write must all be of the type that JAX gives to a number.
        return [Tile(self.only, pl.program_id(1).astype(int) * columns, columns)]

    def carried(self, place: int, end: str) -> bool:
        """Whether what a population sent last is at hand: it is the "pre" or "post" of joins with a delay of one."""
        return self.only is None and any(getattr(join, end) == place and join.delay == 1 for join in self.joins)


class Access:
    """How the kernel of a plan reads and writes columns of its trials in arrays (..., trials, units)."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._first = pl.program_id(0) * TRIALS

    def load(self, ref: Any, tile: Tile, *index: Any, when: Array | None = None) -> Array:
        """A tile, whose start may be computed; zeros outside, and everywhere unless `when`."""
        mask = self._mask(tile) if when is None else self._mask(tile) & when
        part = ref.at[(*index, slice(None), pl.ds(tile.start, tile.width))]
        return triton.load(part, mask=mask, other=jnp.zeros((), ref.dtype))

    def store(self, ref: Any, tile: Tile, value: Array, *index: Any) -> None:
        """Write a tile."""
        triton.store(ref.at[(*index, slice(None), pl.ds(tile.start, tile.width))], value, mask=self._mask(tile))

    def load_bits(self, ref: Any, tile: Tile, t: Any, dtype: Any, when: Array) -> Array:
        """Spikes that were written as bits."""
        words, mask = self._words(ref, tile, t)
        return _unpacked(triton.load(words, mask=mask & when, other=jnp.uint32(0)), tile.width, dtype)

    def store_bits(self, ref: Any, tile: Tile, spikes: Array, t: Any) -> None:
        """Write spikes of a tile as bits."""
        words, mask = self._words(ref, tile, t)
        triton.store(words, _packed(spikes), mask=mask)

    def rows(self, refs: dict[str, Any], tile: Tile) -> dict[str, Array]:
        """A tile's coefficients, (1, units) each, and its "period"."""
        part = pl.ds(tile.start, tile.width)
        found = {name: refs["rows"][pl.ds(k, 1), part] for k, name in enumerate(self.plan.coefficients)}
        return found | ({"period": refs["period"][:, part]} if "period" in refs else {})

    def _mask(self, tile: Tile) -> Array:
        unit = jnp.int32(tile.start) + jax.lax.broadcasted_iota(jnp.int32, (TRIALS, tile.width), 1)
        return self._trials(tile.width) & (unit < self.plan.sizes[tile.place])

    def _trials(self, width: int) -> Array:
        trial = jax.lax.broadcasted_iota(jnp.int32, (TRIALS, width), 0)
        return self._first + trial < self.plan.batch

    def _words(self, ref: Any, tile: Tile, t: Any) -> tuple[Any, Array]:
        first, count = tile.start // BITS, -(-tile.width // BITS)
        word = jnp.int32(first) + jax.lax.broadcasted_iota(jnp.int32, (TRIALS, count), 1)
        mask = self._trials(count) & (word < -(-self.plan.sizes[tile.place] // BITS))
        return ref.at[t, :, pl.ds(first, count)], mask


class Weights:
    """Products with weights (from, to) of joins, tile by tile; `read(tile)` reads what is multiplied."""

    def __init__(self, plan: Plan, refs: Sequence[Any], source: str):
        self._plan, self._refs, self._source = plan, refs, source
        self._held: dict[tuple[int, Tile, Tile], list[Array]] = {}
        if plan.only is None:
            for k, join in enumerate(plan.joins):
                target = join.post if source == "pre" else join.pre
                for a in plan.parts(getattr(join, source)):
                    for b in plan.parts(target):
                        self._held[k, a, b] = self._block(k, a, b)

    def add(self, total: Array, k: int, tile: Tile, read: Callable[[Tile], Array]) -> Array:
        """`total` and what a tile gets along a join."""
        place = getattr(self._plan.joins[k], self._source)
        parts = self._plan.parts(place)
        if self._plan.only is None:
            for a in parts:
                total = total + self._dot(read(a), self._held[k, a, tile], k)
            return total
        width = parts[0].width

        def more(n: Any, total: Array) -> Array:
            a = Tile(place, n * width, width)
            return total + self._dot(read(a), self._block(k, a, tile), k)

        return jax.lax.fori_loop(0, len(parts), more, total)

    def _block(self, k: int, a: Tile, b: Tile) -> list[Array]:
        """A tile of weights, in parts."""
        parts = self._refs[k].shape[0]
        return [self._refs[k][n, pl.ds(a.start, a.width), pl.ds(b.start, b.width)] for n in range(parts)]

    def _dot(self, x: Array, weights: list[Array], k: int) -> Array:
        """The product of all parts of either that are not lost in rounding, small ones first."""
        form = self._plan.forms[self._plan.joins[k].pre]
        exact = len(weights) < PARTS or (self._source == "pre" and form.kind == "spiking")
        mine = [x.astype(weights[0].dtype)] if exact else divided(x)
        pairs = [(x, w) for n in reversed(range(len(weights))) for x, w in zip(mine, reversed(weights[: n + 1]))]
        total = None
        for one, weight in pairs:
            # Numbers of 8 bits are multiplied exactly, and summed in single precision.
            product = triton.dot(one, weight, precision=jax.lax.Precision.HIGHEST)
            total = product if total is None else total + product
        assert total is not None
        return total.astype(x.dtype)


def divided(x: Array) -> list[Array]:
    """Three arrays of bfloat16 whose sum is `x`, in single precision: tensor cores multiply these fastest."""
    parts = []
    for _ in range(PARTS):
        # Rounding there and back is what compilers take the liberty to leave out.
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFF0000)
        high = jax.lax.bitcast_convert_type(bits, jnp.float32)
        parts.append(high.astype(jnp.bfloat16))
        x = x - high
    return parts


def _lanes(dimensions: int, count: int) -> Array:
    return jax.lax.broadcasted_iota(jnp.uint32, (1,) * dimensions + (count,), dimensions)


def _packed(spikes: Array) -> Array:
    lanes = min(BITS, spikes.shape[1])
    one = jnp.left_shift(jnp.uint32(1), _lanes(2, lanes))
    return jnp.sum(jnp.where(spikes.reshape(TRIALS, -1, lanes) > 0, one, jnp.uint32(0)), axis=2, dtype=jnp.uint32)


def _unpacked(words: Array, width: int, dtype: Any) -> Array:
    bits = jnp.right_shift(words[..., None], _lanes(2, min(BITS, width))) & jnp.uint32(1)
    return bits.reshape(TRIALS, width).astype(jnp.int32).astype(dtype)


def wait(plan: Plan) -> None:
    """Let every thread of a program see what the others wrote."""
    if not plan.interpret:
        triton.debug_barrier()


def call(
    kernel: Callable[..., None],
    plan: Plan,
    inputs: list[dict[str, Array]],
    weights: list[Array],
    shapes: list[dict[str, jax.ShapeDtypeStruct]],
) -> list[dict[str, Array]]:
    """Run `kernel(plan, inputs, weights, outputs)`, all by population but the weights, which are by join."""
    warps = 8 if sum(tile.width for tile in plan.tiles) > 64 else 4
    launch = pl.pallas_call(
        lambda given, held, *outputs: kernel(plan, given, held, outputs),
        out_shape=shapes,
        grid=(_groups(plan),),
        in_specs=[[_blocks(plan, i, mine) for i, mine in enumerate(inputs)], [_whole(w) for w in weights]],
        out_specs=[_blocks(plan, i, mine) for i, mine in enumerate(shapes)],
        # Triton reads ahead in innermost loops, as which the one over steps loads what it has stored.
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=plan.interpret,
    )
    return list(launch(inputs, weights))


def step(
    kernel: Callable[..., None],
    plan: Plan,
    t: Array,
    inputs: list[dict[str, Array]],
    weights: list[Array],
    made: list[dict[str, Array]],
) -> dict[str, Array]:
    """Take population `plan.only` from step `t` on, in place.

    Args:
        made: what was made so far of all that `call` returns; final states among it are those after the step before.

    Returns:
        what was made of this population.
    """
    place = plan.only
    assert place is not None
    # A read of what a launch writes goes by its output.
    others = [{} if i == place else mine for i, mine in enumerate(made)]
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in made[place].items()}

    def body(now: Any, given: Any, held: Any, others: Any, _: Any, output: Any) -> None:
        outputs = [output if i == place else mine for i, mine in enumerate(others)]
        kernel(plan, given, held, outputs, now[0].astype(int))

    arguments = (t[None], inputs, weights, others, made[place])
    before = len(jax.tree.leaves(arguments[:-1]))
    blocks = lambda arrays: [_blocks(plan, i, mine) for i, mine in enumerate(arrays)]
    launch = pl.pallas_call(
        body,
        out_shape=shapes,
        grid=(_groups(plan), plan.width(place) // plan.columns(place)),
        in_specs=(
            pl.BlockSpec((1,), lambda *_: (0,)),
            blocks(inputs),
            [_whole(w) for w in weights],
            blocks(others),
            _blocks(plan, place, made[place]),
        ),
        out_specs=_blocks(plan, place, shapes),
        input_output_aliases={before + n: n for n in range(len(shapes))},
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=STAGES),
        interpret=plan.interpret,
    )
    found: dict[str, Array] = launch(*arguments)
    return found


def _groups(plan: Plan) -> int:
    return -(-plan.batch // TRIALS)


def _whole(weight: Array) -> pl.BlockSpec:
    return pl.BlockSpec(weight.shape, lambda *_: (0, 0, 0))


def _blocks(plan: Plan, place: int, arrays: dict[str, Any]) -> dict[str, pl.BlockSpec]:
    return {name: _block(plan, place, name, x) for name, x in arrays.items()}


def _block(plan: Plan, place: int, name: str, x: Any) -> pl.BlockSpec:
    if name in ("rows", "period"):
        return pl.BlockSpec(x.shape, lambda *_: (0, 0))
    last = -(-plan.width(place) // BITS) if name in ("bits", "spikes") and len(x.shape) == 3 else plan.width(place)
    if len(x.shape) == 2:
        return pl.BlockSpec((TRIALS, last), lambda i, *_: (i, 0))
    return pl.BlockSpec((x.shape[0], TRIALS, last), lambda i, *_: (0, i, 0))
