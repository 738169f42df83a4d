"""Truncated backpropagation through time by a sliding window (Williams & Peng 1990): at every step that step's error
goes back over the last few steps, which are kept."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..parameter import positive_integer
from . import traces
from .influence import Influence, Plan
from .tangent import Change, Step, nothing


class SlidingBPTT(Influence):
    """Truncated backpropagation through time, each error over the same number of steps.

    Args:
        horizon: steps that an error goes back, its own included. BPTT, once it is as long as the trial.
        loss, reduction, scale: see `Rule`.

    `BPTT(truncation=)` cuts time into blocks, within which errors go back over 1 to all steps; it is `horizon` times as
    fast and gives a gradient at the end of a block only.

    Cost for n units: time horizon n^2 a step and trial, memory horizon n a trial.

    Source: Williams & Peng 1990, with an update at every step.
    """

    told: ClassVar[bool] = True

    horizon: int = eqx.field(static=True, default=10, converter=positive_integer("SlidingBPTT: horizon"))

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        net, blocks = plan.net, {}
        for name, population in net.populations.items():
            depth = traces.depth(net, name)
            shape = (depth + 1, depth + plan.entries(name), population.size)
            blocks[name] = jnp.zeros((batch, self.horizon, *shape), net.dtype)
        pre = {s.label: jnp.zeros((batch, self.horizon, plan.shape(s)[2]), net.dtype) for s in plan.sources}
        return blocks, pre

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        push = lambda kept, new: jnp.concatenate([kept[:, 1:], new[:, None]], axis=1)
        blocks = {n: jnp.moveaxis(block, 2, 0) for n, block in step.blocks.items()}
        return jax.tree.map(push, before, (blocks, pre)), step

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        net = plan.net
        # The newest step first.
        blocks, heard = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0)[::-1], influence)
        zero = nothing(net, seen.valid.shape[0], ())
        first = jnp.arange(self.horizon) == 0

        def back(carry: tuple[Change, dict[str, Array]], xs: Any) -> Any:
            after, total = carry
            blocks, heard, first = xs
            step = seen._replace(blocks={n: jnp.moveaxis(b, 0, 2) for n, b in blocks.items()}, weights={})
            outputs = {label: jnp.where(first, error, 0) for label, error in errors.items()}
            before, entering = step.pull(after, outputs)
            more = from_entering(plan, entering, heard)
            return (before, jax.tree.map(jnp.add, total, more)), None

        start = (zero, {s.label: jnp.zeros(plan.shape(s), net.dtype) for s in plan.sources})
        (_, total), _ = jax.lax.scan(back, start, (blocks, heard, first))
        return total


def from_entering(plan: Plan, entering: dict[str, Array], pre: dict[str, Array]) -> dict[str, Array]:
    """Gradients by source, (port, unit, pre), from dE by what enters, (ports + parameters, batch, units)."""
    found = {}
    for s in plan.sources:
        mine = jnp.stack([entering[s.population][c] for c in plan.columns(s)])
        found[s.label] = jnp.einsum("qbi,bj->qij", mine, pre[s.label])
    return found
