"""Updates within trials: the optimiser steps while time goes on, as online learning has it.

A rule's stream (`init`, `update`, `finish`) gives a gradient at every step; those of `every` steps are averaged, and
move the network, on which the next step is made.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..errors import ArgumentError, RuleError
from ..losses import Running, Terminal
from ..network import Network, trainable_leaves
from ..rules.rule import by_label
from ..trial import Trial


def updates_within(
    net: Network,
    state: PyTree,
    trial: Any,
    rule: Any,
    optimizer: Any,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    every: int,
) -> tuple[Network, PyTree, Array]:
    """Train on one batch of trials, with an update after each `every` steps and at the end.

    Args:
        net, state: the network and the optimiser's state.
        trial: the trials; their losses are averaged over steps, and terminal ones come at the end.
        keys: for the rule, and for the network's constraints.

    Returns:
        network, optimiser's state, the loss of the trials as it was while the network moved.

    Raises:
        RuleError: the rule has no stream.  ArgumentError: there are no trials but episodes.
    """
    if not isinstance(trial, Trial):
        raise ArgumentError("update_every is for tasks of trials; an environment's episodes are updated once each.")
    if not hasattr(rule, "update"):
        raise RuleError(f"{type(rule).__name__} gives no gradient before a trial's end: leave out update_every.")
    losses, targets = rule.losses(net, trial), by_label(net, trial.targets, "targets")
    running = {n: targets[n] for n, loss in losses.items() if isinstance(loss, Running)}
    terminal = {n: targets[n] for n, loss in losses.items() if isinstance(loss, Terminal)}
    known = trial.valid().astype(net.dtype)
    if trial.mask is not None:
        if trial.mask.ndim == 3:
            raise ArgumentError("update_every: masks by output are for whole trials; leave it out.")
        known = known * trial.mask.astype(net.dtype)
    steps = trial.steps
    arrays, rest = eqx.partition((net, state), eqx.is_array)
    moving = lambda net: eqx.filter(net, trainable_leaves(net))
    carried = rule.init(net, trial.batch, keys[0])
    kept, fixed = eqx.partition(carried, eqx.is_array)

    def move(net: Network, state: PyTree, gradient: Network, count: Array, at: Array) -> tuple[Network, PyTree]:
        mean = jax.tree.map(lambda g: g / count, gradient)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = optimizer.update(mean, state, moving(net))
        return eqx.apply_updates(net, updates).constrain(jax.random.fold_in(keys[1], at)), state

    def body(carry: Any, xs: Any) -> Any:
        arrays, kept, gradient, value = carry
        at, inputs, target, mask = xs
        net, state = eqx.combine(arrays, rest)
        answer = None if not running else target[net.output_specs[0].label] if net.single_output else target
        carried, loss, more = rule.update(net, eqx.combine(kept, fixed), inputs, answer, mask)
        gradient = jax.tree.map(jnp.add, gradient, more)
        due = (at + 1) % every == 0
        if terminal:
            due = due & (at + 1 < steps)
        else:
            due = due | (at + 1 == steps)
        count = (at % every + 1).astype(net.dtype)
        pair = eqx.filter((net, state), eqx.is_array)

        def now(pair: Any) -> Any:
            net, state = eqx.combine(pair, rest)
            return eqx.filter(move(net, state, gradient, count, at), eqx.is_array)

        pair = jax.lax.cond(due, now, lambda pair: pair, pair)
        gradient = jax.tree.map(lambda g: jnp.where(due, 0, g), gradient)
        return (pair, eqx.filter(carried, eqx.is_array), gradient, value + loss), None

    zero = jax.tree.map(jnp.zeros_like, moving(net))
    xs = (jnp.arange(steps), trial.inputs, running, known)
    (arrays, kept, gradient, value), _ = jax.lax.scan(body, (arrays, kept, zero, jnp.zeros((), net.dtype)), xs)
    net, state = eqx.combine(arrays, rest)
    value = value / steps
    if terminal:
        answer = terminal[net.output_specs[0].label] if net.single_output else terminal
        late, more = rule.finish(net, eqx.combine(kept, fixed), answer)
        left = jnp.asarray((steps - 1) % every + 1, net.dtype)
        gradient = jax.tree.map(lambda g, m: g + m * left, gradient, more)
        net, state = move(net, state, gradient, left, jnp.asarray(steps))
        value = value + late
    return net, state, value
