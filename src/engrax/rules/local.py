"""A local rule on whole trials by the online evaluation: one scan over time that carries traces and sums gradients."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..losses import Loss, Running, Terminal
from ..network import Network
from ..network.cotangents import pull_parameters, split_parameters
from ..trial import Trial
from . import traces
from .online import Gradient, Plan, advance, finish, step_loss, traces_shape
from .rule import by_label


def per_step(
    net: Network, losses: dict[str, Loss], trial: Trial
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Array]]:
    """Targets and weights of running losses, and weights of terminal ones, by label with a leading time axis."""
    targets = by_label(net, trial.targets, "targets")
    running = {n: loss.weights(trial) for n, loss in losses.items() if isinstance(loss, Running)}
    terminal = {n: loss.weights(trial) for n, loss in losses.items() if isinstance(loss, Terminal)}
    return {n: targets[n] for n in running}, running, terminal


def online(plan: Plan, trial: Trial, key: PRNGKeyArray | None = None) -> tuple[Array, Gradient]:
    """Loss and gradient (by source label) of a batch of trials; memory does not grow with their length."""
    net = plan.net
    plan.check_step_by_step()
    stepped, running, terminal = per_step(net, plan.losses, trial)
    valid = trial.valid()
    steps = jnp.sum(valid, axis=0).astype(net.dtype)
    keep = dict.fromkeys(terminal, 1.0)

    def body(carry: Any, xs: Any) -> Any:
        state, value, sums = carry
        inputs, valid, targets, running, terminal = xs
        loss = step_loss(net, plan.losses, targets, running)
        state, more, _, found = advance(plan, state, inputs, valid, loss, terminal, steps, keep)
        return (state, value + more, jax.tree.map(jnp.add, sums, found)), None

    zero = {s.label: jnp.zeros(traces_shape(plan, s), net.dtype) for s in plan.sources}
    start = (plan.start(trial.batch, key), jnp.zeros((), net.dtype), zero)
    xs = (net.check_inputs(trial.inputs), valid, stepped, running, terminal)
    (state, value, sums), _ = jax.lax.scan(body, start, xs)
    ones = dict.fromkeys(terminal, jnp.ones(trial.batch, net.dtype))
    late, found = finish(plan, state, by_label(net, trial.targets, "targets"), ones)
    return value + late, jax.tree.map(jnp.add, sums, found)


def assemble(
    net: Network, sources: Iterable[traces.Source], found: Gradient
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
    """Gradients by source as ones by effective weight, bias and raw parameters of populations."""
    weights: dict[str, Any] = {}
    biases: dict[str, Array] = {}
    leaves: dict[str, dict[int, Array]] = {}
    for s in sources:
        gradient = traces.as_gradient(net, s, found[s.label])
        if s.kind == "parameter":
            leaves.setdefault(s.population, {})[int(s.key)] = gradient
        else:
            (weights if s.kind == "weight" else biases)[s.key] = gradient
    parameters = {}
    for name, values in leaves.items():
        own = split_parameters(net.populations[name])[0]
        cotangent = jax.tree.unflatten(jax.tree.structure(own), [values[i] for i in range(len(values))])
        parameters[name] = pull_parameters(net.populations[name], cotangent)
    return weights, biases, parameters
