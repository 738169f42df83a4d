"""A local rule as a stream: one step in, one gradient out, for ever."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..losses import Loss, Terminal
from .online import Gradient, LocalState, Plan, advance, finish, step_loss
from .rule import by_label


def reset_trials(plan: Plan, state: LocalState, reset: Array) -> LocalState:
    """The state with the marked trials (batch,) as before their first step."""
    fresh = plan.start(reset.shape[0])

    def pick(axis: int) -> Any:
        def one(new: Array, old: Array) -> Array:
            mark = reset.reshape((1,) * axis + (-1,) + (1,) * (old.ndim - axis - 1))
            return jnp.where(mark, new, old)

        return one

    network = eqx.tree_at(
        lambda n: (n.neurons, n.history),
        state.network,
        (
            jax.tree.map(pick(0), fresh.network.neurons, state.network.neurons),
            jax.tree.map(pick(1), fresh.network.history, state.network.history),
        ),
    )
    return LocalState(
        network,
        jax.tree.map(pick(0), fresh.eligibility, state.eligibility),
        jax.tree.map(pick(0), fresh.filtered, state.filtered),
        jax.tree.map(pick(0), fresh.terminal, state.terminal),
        jax.tree.map(pick(0), fresh.totals, state.totals),
        jax.tree.map(pick(0), fresh.rates, state.rates),
        jax.tree.map(pick(0), fresh.activity, state.activity),
        state.key,
    )


def update(
    plan: Plan,
    state: LocalState,
    x: Any,
    losses: dict[str, Loss],
    targets: dict[str, Any],
    mask: Any,
    reset: Array | None,
    signal: Any,
) -> tuple[LocalState, Array, Gradient]:
    """One step of a stream; see `EProp.update`."""
    net = plan.net
    inputs = {n: a[0] for n, a in net.check_inputs(jax.tree.map(lambda a: jnp.asarray(a)[None], x)).items()}
    if reset is not None:
        state = reset_trials(plan, state, reset)
    batch = next(iter(inputs.values())).shape[0]
    weight = jnp.broadcast_to(jnp.asarray(mask, net.dtype), (batch,))
    weights = {}
    for label, loss in losses.items():
        total = jnp.where(jnp.sum(weight) > 0, jnp.sum(weight), 1)
        weights[label] = loss.scale * (weight / total if loss.reduction == "mean" else weight)
    loss = (
        _given(plan, by_label(net, signal, "signal"))
        if signal is not None
        else step_loss(net, losses, targets, weights)
    )
    terminal = dict.fromkeys(state.totals, weight)
    keep = {n: _kept(plan.losses[n]) for n in terminal}
    state, value, _, found = advance(plan, state, inputs, jnp.ones(batch, net.dtype), loss, terminal, None, keep)
    return state, value, found


def _kept(loss: Loss) -> float:
    return 0.0 if isinstance(loss, Terminal) and loss.over == "last" else 1.0


def _given(plan: Plan, signal: dict[str, Any]) -> Any:
    gradients = {n: jnp.asarray(g, plan.net.dtype) for n, g in signal.items()}
    return lambda outputs: (jnp.zeros((), plan.net.dtype), gradients)


def close(plan: Plan, state: LocalState, targets: dict[str, Any]) -> tuple[Array, Gradient]:
    """The end of a stream's trials; see `EProp.finish`."""
    steps = jnp.maximum(state.activity.steps, 1)
    divide = {}
    for label in state.totals:
        loss = plan.losses[label]
        mean = isinstance(loss, Terminal) and loss.over == "mean"
        divide[label] = steps if mean else jnp.ones_like(steps)
    value, found = finish(plan, state, targets, divide)
    return value, found
