"""Traces as a chip would hold them: numbers of few bits, and one scale for all synapses of a unit.

    eps_ji is held as s_j m_ji,     m_ji = floor(eps_ji / s_j + u_ji),     u_ji uniform in [0, 1)
    s_j = bound_j / (2^(bits-1) - 1)

The bound is known before any trace is touched: the largest trace that was held and the largest presynaptic output, put
through the absolute values of the unit's Jacobian. So nothing ever overflows, one pass is enough, and the scale follows
the traces up and down. Where a unit's pseudo-derivative is zero nothing enters its traces, they only decay: the scale
takes the decay, and no trace is read or written (the gate). That is exact.

Rounding is stochastic because the decay of a slow trace is much less than a level a step (1 / 2000 for two seconds),
which rounding to the nearest would lose for ever. Its random numbers are one for each unit and one for each presynaptic
unit, added modulo 1: uniform for every synapse, and independent for every two.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from . import traces


class Rounding(NamedTuple):
    """How traces are rounded at one step."""

    bits: int
    key: PRNGKeyArray

    def fold(self, index: int) -> "Rounding":
        """The same with a key of its own."""
        return Rounding(self.bits, jax.random.fold_in(self.key, index))


class Entering(NamedTuple):
    """What is known of a trace before it is made: whether its unit's gate is open, and how large it can be."""

    gate: Bool[Array, "batch ports units"]
    bound: Float[Array, "batch ports units 1"]


def stored(
    trace: Float[Array, "batch *axes pre"],
    bound: Float[Array, "batch *axes 1"],
    gate: Bool[Array, "batch *axes"],
    rounding: Rounding,
) -> Float[Array, "batch *axes pre"]:
    """What is held of a trace.

    Args:
        trace: the new trace, all of a unit's synapses along the last axis.
        bound: of its absolute value.
        gate: False where it is the old one times a number, so that only the scale moves.
        rounding: bits and key.
    """
    full = 2 ** (rounding.bits - 1) - 1
    per_level = jnp.where(bound > 0, full / jnp.where(bound > 0, bound, 1), 0)
    unit, pre = jax.random.split(rounding.key)
    spread = jax.random.uniform(pre, (len(trace), *(1,) * (trace.ndim - 2), trace.shape[-1]), trace.dtype)
    both = jax.random.uniform(unit, bound.shape, trace.dtype) + spread
    dither = jnp.where(both < 1, both, both - 1)
    # What floating point adds to a sum may lift a trace past its bound.
    level = jnp.clip(jnp.floor(trace * per_level + dither), -full, full)
    return jnp.where(gate[..., None], level * (bound / full), trace)


def advance(
    block: Array, eps: list[Array], columns: list[int], pre: Array, row: int, rounding: Rounding | None
) -> tuple[list[Array], Array, Entering | None]:
    """`traces.advance`, what is carried on rounded; with rounding also what is known of the trace of `row`."""
    new, trace = traces.advance(block, eps, columns, pre, row)
    if rounding is None:
        return new, trace, None
    bounds, top = traces.advance(jnp.abs(block), _tops(eps), columns, _tops([pre])[0], row)
    held = []
    for r, (x, bound) in enumerate(zip(new, bounds, strict=True)):
        gate = enters(block, r, len(new), columns)[..., : x.shape[2]]
        held.append(stored(x, bound, gate, rounding.fold(r)))
    return held, trace, Entering(enters(block, row, len(new), columns), top)


def filter_trace(
    block: Array,
    filtered: list[Array],
    column: int,
    trace: Array,
    row: int,
    entering: Entering | None,
    rounding: Rounding | None,
) -> tuple[list[Array], Array]:
    """`traces.filter_trace`, what is carried on rounded."""
    new, seen = traces.filter_trace(block, filtered, column, trace, row)
    if rounding is None or entering is None:
        return new, seen
    bounds, _ = traces.filter_trace(jnp.abs(block), _tops(filtered), column, entering.bound, row)
    held = []
    for r, (x, bound) in enumerate(zip(new, bounds, strict=True)):
        outputs = slice(x.shape[1])
        others = mixes(block, r, len(new))[:, outputs, None, None]
        gate = others | ((block[r, column] != 0)[:, outputs, None, None] & entering.gate[:, None])
        held.append(stored(x, bound, gate, rounding.fold(r)))
    return held, seen


def _tops(arrays: list[Array]) -> list[Array]:
    return [jnp.max(jnp.abs(x), axis=-1, keepdims=True) for x in arrays]


def mixes(block: Array, row: int, depth: int) -> Bool[Array, "batch units"]:
    """Whether a row of a unit's Jacobian takes from state variables other than its own."""
    others = [block[row, c] != 0 for c in range(depth) if c != row]
    return jnp.any(jnp.stack(others), axis=0) if others else jnp.zeros(block.shape[2:], bool)


def enters(block: Array, row: int, depth: int, columns: list[int]) -> Bool[Array, "batch ports units"]:
    """Whether the gate of a row is open: anything moves it, but for the state variable itself (if it is one's row)."""
    return mixes(block, row, depth)[:, None] | jnp.stack([block[row, c] != 0 for c in columns], axis=1)
