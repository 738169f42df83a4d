"""Unbiased online recurrent optimisation: the influence as a random product of two vectors (Tallec & Ollivier 2018)."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from . import traces
from .influence import Influence, Plan, groups
from .tangent import Change, Step, nothing


class UORO(Influence):
    """Unbiased online recurrent optimisation: RTRL's gradient on average, at the price of noise.

    For the weights of each population M(t) is kept as a b', a change of the state and a number for each weight. With
    signs nu of its currents, drawn anew at each step,

        a <- p0 J a + p1 D nu,    b <- b / p0 + U' nu / p1,
        p0 = sqrt(|b| / |J a|),   p1 = sqrt(|U' nu| / |D nu|)

    has M on average, whatever p0 and p1, which keep its variance small. Both start at zero, so that only the steps'
    draws make noise (the paper's own runs start from random vectors). Where J a is zero, b starts anew.

    Cost for n units, p parameters and k populations that learn: time k n^2 + p a step and trial, memory p a trial.

    Source: Tallec & Ollivier 2018; Marschall et al. 2020, with signs of currents in place of states, where it makes no
    difference to units that are one state variable each.
    """

    draws: ClassVar[bool] = True

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        assert key is not None
        found = {}
        for name, group in groups(plan).items():
            rows = {s.label: jnp.zeros((batch, *plan.shape(s)), plan.net.dtype) for s in group}
            change = nothing(plan.net, batch, plan.sums)
            states = dict(change.states)
            for s in group:
                if s.kind != "parameter":
                    continue
                # What parameters do to the state before the first step, as one more product.
                mine = jax.random.fold_in(key, plan.sources.index(s))
                signs = jax.random.rademacher(mine, (batch, plan.net.populations[name].size), plan.net.dtype)
                moved = jnp.stack(traces.start(plan.net, s, batch, 1))[:, :, 0, :, 0]
                states[name] = states[name] + moved * signs[None]
                rows[s.label] = jnp.where(jnp.any(moved != 0), signs, 0)[:, None, :, None]
            found[name] = (change._replace(states=states), rows)
        return found

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, dict[str, Any]]:
        batch = next(iter(pre.values())).shape[0]
        signs = draw(plan, key, batch)
        after, seen = {}, {}
        for name, group in groups(plan).items():
            change, rows = before[name]
            fresh = {s.label: _signed(plan, s, signs, pre[s.label]) for s in group}
            kept, outputs = step.push(change, {})
            new, also = step.push(nothing(plan.net, batch, plan.sums), {name: signs[name]})
            p0, p1 = scale(size_of(rows), reach(kept)), scale(size_of(fresh), size_of(new))
            left = alive(kept) / p0
            rows = jax.tree.map(lambda b, u, q=left, p=p1: wide(q, b.ndim) * b + u / wide(p, b.ndim), rows, fresh)
            after[name] = (blend(p0, kept, p1, new), rows)
            seen[name] = ({n: wide(p0, 2) * y + wide(p1, 2) * also[n] for n, y in outputs.items()}, rows)
        return after, seen

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for outputs, rows in seen.values():
            told = jnp.zeros(next(iter(rows.values())).shape[0], plan.net.dtype)
            for label, error in errors.items():
                told = told + jnp.sum(error * outputs[label], axis=1)
            found |= {label: jnp.einsum("b,bqji->qji", told, b) for label, b in rows.items()}
        return found

    def sums(self, influence: Any) -> Any:
        return {name: (change.sums, rows) for name, (change, rows) in influence.items()}


def draw(plan: Plan, key: PRNGKeyArray | None, batch: int) -> dict[str, Array]:
    """Random signs of all that enters units: (ports + parameters, batch, units) by population."""
    assert key is not None
    names = {s.population: None for s in plan.sources}
    return {
        n: jax.random.rademacher(
            jax.random.fold_in(key, i), (plan.entries(n), batch, plan.net.populations[n].size), plan.net.dtype
        )
        for i, n in enumerate(names)
    }


def _signed(plan: Plan, source: traces.Source, signs: dict[str, Array], pre: Array) -> Array:
    """U' nu of a source: (batch, port, unit, pre)."""
    mine = jnp.stack([signs[source.population][c] for c in plan.columns(source)], axis=1)
    return mine[..., None] * pre[:, None, None, :]


def size_of(x: Any) -> Array:
    """The norm of what a trial has of arrays and changes: (batch,)."""
    total: Any = 0.0
    for leaf in jax.tree.leaves(x, is_leaf=lambda y: isinstance(y, Change)):
        if isinstance(leaf, Change):
            # Sums are of any scale that their loss likes.
            parts = [jnp.moveaxis(y, 1, 0) for y in (*leaf.states.values(), *leaf.history.values())]
        else:
            parts = [leaf]
        for y in parts:
            total = total + jnp.sum(y.reshape(y.shape[0], -1) ** 2, axis=1)
    return jnp.sqrt(total)


def reach(kept: Change) -> Array:
    """The norm of what is left of past influence: of states, or where none is left of sums, (batch,)."""
    states = size_of(kept)
    return jnp.where(states > 0, states, size_of(list(kept.sums.values())))


def alive(kept: Change) -> Array:
    """0 where nothing is left of past influence, (batch,): what it was a product with would only make noise."""
    left = reach(kept)
    return (left > 0).astype(left.dtype)


def scale(above: Array, below: Array) -> Array:
    """sqrt(above / below), (batch,); 1 where there is nothing to scale."""
    some = (above > 0) & (below > 0)
    return jnp.where(some, jnp.sqrt(jnp.where(some, above, 1) / jnp.where(some, below, 1)), 1)


def wide(x: Array, rank: int, axis: int = 0) -> Array:
    """(batch,) along an axis of an array of a rank."""
    return x.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))


def blend(p: Array, a: Change, q: Array, b: Change) -> Change:
    """p a + q b, trial by trial."""
    late = lambda x, y: wide(p, x.ndim, 1) * x + wide(q, y.ndim, 1) * y
    first = lambda x, y: wide(p, x.ndim) * x + wide(q, y.ndim) * y
    return Change(
        jax.tree.map(late, a.states, b.states),
        jax.tree.map(late, a.history, b.history),
        jax.tree.map(first, a.sums, b.sums),
    )
