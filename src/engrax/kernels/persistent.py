"""How a kernel goes through all steps of a component in one launch: a program takes some trials along, in Triton.

A population is cut into tiles of columns, since Triton knows no parts of an array. States stay in registers, and so do
weights where they fit (`Plan.held`), read once. Where they do not, products are loops over tiles of weights, which the
cache has, and of outputs or deltas, read back from where they were written.
"""

from collections.abc import Callable, Sequence
from functools import partial
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


class Join(NamedTuple):
    """An edge within the component, from place to place."""

    pre: int
    post: int
    delay: int


class Tile(NamedTuple):
    """Columns of the population at a place."""

    place: int
    start: int
    width: int


class Plan(NamedTuple):
    """A component as its kernel sees it.

    coefficients: names of a population's rows. held: weights are read once. interpret: run without a GPU.
    """

    steps: int
    batch: int
    sizes: tuple[int, ...]
    forms: tuple[Form, ...]
    joins: tuple[Join, ...]
    coefficients: tuple[str, ...]
    tiles: tuple[Tile, ...]
    held: bool
    interpret: bool

    def parts(self, place: int) -> list[int]:
        """The tiles of a population."""
        return [j for j, tile in enumerate(self.tiles) if tile.place == place]

    def width(self, place: int) -> int:
        """Columns of a population, padded."""
        return sum(self.tiles[j].width for j in self.parts(place))

    def form(self, j: int) -> Form:
        """That of a tile."""
        return self.forms[self.tiles[j].place]

    def carried(self, place: int, end: str) -> bool:
        """Whether what a population sent last is at hand: it is the "pre" or "post" of joins with a delay of one."""
        return self.held and any(getattr(join, end) == place and join.delay == 1 for join in self.joins)


class Access:
    """How the kernel of a plan reads and writes columns of its trials in arrays (..., trials, units)."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._first = pl.program_id(0) * TRIALS
        self._masks = [self._mask(tile) for tile in plan.tiles]

    def load(self, ref: Any, tile: int | Tile, *index: Any, when: Array | None = None) -> Array:
        """A tile, by its number or with a start that is computed; zeros outside, and everywhere unless `when`."""
        mask = self._masks[tile] if isinstance(tile, int) else self._mask(tile)
        mask = mask if when is None else mask & when
        tile = self.plan.tiles[tile] if isinstance(tile, int) else tile
        part = ref.at[(*index, slice(None), pl.ds(tile.start, tile.width))]
        return triton.load(part, mask=mask, other=jnp.zeros((), ref.dtype))

    def store(self, ref: Any, j: int, value: Array, *index: Any) -> None:
        """Write tile `j`."""
        tile = self.plan.tiles[j]
        triton.store(ref.at[(*index, slice(None), pl.ds(tile.start, tile.width))], value, mask=self._masks[j])

    def load_bits(self, ref: Any, tile: int | Tile, t: Any, dtype: Any, when: Array) -> Array:
        """Spikes that were written as bits."""
        tile = self.plan.tiles[tile] if isinstance(tile, int) else tile
        words, mask = self._words(ref, tile, t)
        return _unpacked(triton.load(words, mask=mask & when, other=jnp.uint32(0)), tile.width, dtype)

    def store_bits(self, ref: Any, j: int, spikes: Array, t: Any) -> None:
        """Write spikes of tile `j` as bits."""
        words, mask = self._words(ref, self.plan.tiles[j], t)
        triton.store(words, _packed(spikes), mask=mask)

    def rows(self, refs: dict[str, Any], j: int) -> dict[str, Array]:
        """A tile's coefficients, (1, units) each, and its "period"."""
        part = pl.ds(self.plan.tiles[j].start, self.plan.tiles[j].width)
        found = {name: refs["rows"][pl.ds(k, 1), part] for k, name in enumerate(self.plan.coefficients)}
        return found | ({"period": refs["period"][:, part]} if "period" in refs else {})

    def _mask(self, tile: Tile) -> Array:
        unit = tile.start + jax.lax.broadcasted_iota(jnp.int32, (TRIALS, tile.width), 1)
        return self._trials(tile.width) & (unit < self.plan.sizes[tile.place])

    def _trials(self, width: int) -> Array:
        trial = jax.lax.broadcasted_iota(jnp.int32, (TRIALS, width), 0)
        return self._first + trial < self.plan.batch

    def _words(self, ref: Any, tile: Tile, t: Any) -> tuple[Any, Array]:
        first, count = tile.start // BITS, -(-tile.width // BITS)
        word = first + jax.lax.broadcasted_iota(jnp.int32, (TRIALS, count), 1)
        mask = self._trials(count) & (word < -(-self.plan.sizes[tile.place] // BITS))
        return ref.at[t, :, pl.ds(first, count)], mask


class Weights:
    """Products with weights (from, to) of joins, tile by tile; `read(tile, join)` reads what is multiplied."""

    def __init__(self, plan: Plan, refs: Sequence[Any], source: str):
        self._plan, self._refs, self._source = plan, refs, source
        self._held: dict[tuple[int, int, int], Array] = {}
        if plan.held:
            for k, join in enumerate(plan.joins):
                target = join.post if source == "pre" else join.pre
                for a in plan.parts(getattr(join, source)):
                    for b in plan.parts(target):
                        self._held[k, a, b] = self._block(k, plan.tiles[a], plan.tiles[b])

    def add(self, total: Array, k: int, j: int, read: Callable[[int | Tile], Array]) -> Array:
        """`total` and what tile `j` gets along a join."""
        place = getattr(self._plan.joins[k], self._source)
        parts = self._plan.parts(place)
        if self._plan.held:
            for a in parts:
                total = total + self._dot(read(a), self._held[k, a, j])
            return total
        width = self._plan.tiles[parts[0]].width

        def more(n: Any, total: Array) -> Array:
            tile = Tile(place, n * width, width)
            return total + self._dot(read(tile), self._block(k, tile, self._plan.tiles[j]))

        return jax.lax.fori_loop(0, len(parts), more, total)

    def _block(self, k: int, a: Tile, b: Tile) -> Array:
        return self._refs[k][pl.ds(a.start, a.width), pl.ds(b.start, b.width)]

    def _dot(self, x: Array, weight: Array) -> Array:
        precision: Any = jax.lax.Precision.HIGHEST
        if weight.dtype == jnp.float32 and not self._plan.interpret:
            # Three products on tensor cores, as exact as one of single precision.
            precision = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
        return triton.dot(x.astype(weight.dtype), weight, precision=precision).astype(x.dtype)


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
    source: str,
    plan: Plan,
    inputs: list[dict[str, Array]],
    weights: list[Array],
    shapes: list[dict[str, jax.ShapeDtypeStruct]],
) -> list[dict[str, Array]]:
    """Run `kernel(plan, inputs, weights, *outputs)`, all by population but the weights, which are by join.

    source: the end of joins from which the kernel multiplies.
    """
    by_place = [{name: _block(plan, i, name, x) for name, x in mine.items()} for i, mine in enumerate(inputs)]
    results = [{name: _block(plan, i, name, x) for name, x in mine.items()} for i, mine in enumerate(shapes)]
    whole = [pl.BlockSpec(w.shape, lambda _: (0, 0)) for w in weights]
    warps = 8 if sum(tile.width for tile in plan.tiles) > 64 else 4
    # Triton reads ahead in innermost loops. Those over tiles want that; the loop over steps must not be one, since it
    # loads what it has stored. A loop over one tile is none.
    several = not plan.held and any(len(plan.parts(getattr(join, source))) > 1 for join in plan.joins)
    parameters = triton.CompilerParams(num_warps=warps, num_stages=2 if several else 1)
    launch = pl.pallas_call(
        partial(kernel, plan),
        out_shape=shapes,
        grid=(-(-plan.batch // TRIALS),),
        in_specs=[by_place, whole],
        out_specs=results,
        compiler_params=parameters,
        interpret=plan.interpret,
    )
    return list(launch(inputs, weights))


def _block(plan: Plan, place: int, name: str, x: Any) -> pl.BlockSpec:
    if name in ("rows", "period"):
        return pl.BlockSpec(x.shape, lambda _: (0, 0))
    last = -(-plan.width(place) // BITS) if name in ("bits", "spikes") and len(x.shape) == 3 else plan.width(place)
    if len(x.shape) == 2:
        return pl.BlockSpec((TRIALS, last), lambda i: (i, 0))
    return pl.BlockSpec((x.shape[0], TRIALS, last), lambda i: (0, i, 0))
