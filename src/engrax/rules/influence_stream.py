"""A rule that carries influence as a stream: one step in, one gradient out, for ever."""

from collections.abc import Sequence as Ordered
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..losses import as_loss
from ..network import Network
from .online import step_loss
from .rule import by_label
from .tangent import Change


@eqx.filter_jit
def update(
    rule: Any, net: Network, state: Any, x: Any, targets: Any, mask: Any, reset: Any, signal: Any
) -> tuple[Any, Array, Network]:
    """One step of a stream of `rule`, an `Influence`; see `Influence.update`."""
    plan = rule.plan(net, rule.streamed(net))
    inputs = {n: a[0] for n, a in net.check_inputs(jax.tree.map(lambda a: jnp.asarray(a)[None], x)).items()}
    batch = state.steps.shape[0]
    weight = jnp.broadcast_to(jnp.asarray(mask, net.dtype), (batch,))
    if reset is not None:
        state = _anew(rule.begin(plan, batch, state.key), state, reset)
    # Sums of the last step alone forget what came before.
    fresh = [n for n in plan.sums if plan.losses[n].over == "last"]
    if fresh:
        state = eqx.tree_at(lambda s: s.totals, state, {n: t * float(n not in fresh) for n, t in state.totals.items()})
        state = eqx.tree_at(lambda s: s.influence, state, forget(state.influence, fresh))
    losses = {n: as_loss(rule.chosen(n), jnp.asarray(t)[None], rule.reduction, rule.scale) for n, t in targets.items()}
    total = jnp.where(jnp.sum(weight) > 0, jnp.sum(weight), 1)
    weights = {n: f.scale * (weight / total if f.reduction == "mean" else weight) for n, f in losses.items()}
    if signal is None:
        loss = step_loss(net, losses, targets, weights)
    else:
        given = {n: jnp.asarray(g, net.dtype) for n, g in by_label(net, signal, "signal").items()}
        loss = lambda outputs: (jnp.zeros((), net.dtype), given)
    state, value, found = rule.advance(
        plan, state, inputs, loss, dict.fromkeys(plan.sums, weight), jnp.ones_like(weight)
    )
    return state, value, rule.tree(plan, found)


@eqx.filter_jit
def finish(rule: Any, net: Network, state: Any, targets: Any) -> tuple[Array, Network]:
    """The end of a stream's trials; see `Influence.finish`."""
    plan = rule.plan(net, rule.streamed(net))
    means = {n: plan.losses[n].over == "mean" for n in plan.sums}
    steps = jnp.maximum(state.steps, 1)
    divide = {n: steps if mean else jnp.ones_like(steps) for n, mean in means.items()}
    value, found = rule.end(plan, state, targets, divide)
    return value, rule.tree(plan, found)


def _is_change(x: Any) -> bool:
    return isinstance(x, Change)


def forget(influence: Any, labels: Ordered[str]) -> Any:
    """An influence without that on the sums of some outputs."""

    def one(x: Any) -> Any:
        return x._replace(sums={n: s * float(n not in labels) for n, s in x.sums.items()}) if _is_change(x) else x

    return jax.tree.map(one, influence, is_leaf=_is_change)


def _anew(fresh: Any, old: Any, reset: Array) -> Any:
    """The state with the marked trials (batch,) as before their first step."""

    def pick(axis: int) -> Any:
        def one(new: Array, old: Array) -> Array:
            return jnp.where(reset.reshape((1,) * axis + (-1,) + (1,) * (old.ndim - axis - 1)), new, old)

        return lambda a, b: jax.tree.map(one, a, b)

    def influence(new: Any, old: Any) -> Any:
        if not _is_change(new):
            return pick(0)(new, old)
        return Change(pick(1)(new.states, old.states), pick(1)(new.history, old.history), pick(0)(new.sums, old.sums))

    network = eqx.tree_at(
        lambda n: (n.neurons, n.history),
        old.network,
        (pick(0)(fresh.network.neurons, old.network.neurons), pick(1)(fresh.network.history, old.network.history)),
    )
    carried = jax.tree.map(influence, fresh.influence, old.influence, is_leaf=_is_change)
    totals, steps = pick(0)(fresh.totals, old.totals), pick(0)(fresh.steps, old.steps)
    return type(old)(network, carried, totals, steps, old.key)
