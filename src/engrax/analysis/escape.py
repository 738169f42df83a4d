"""The gradient of the expected loss under escape noise: what a spiking network's gradient is where it has one.

Where units spike with probability sigmoid((v - A) / T), the expectation of the loss over spikes is smooth in the
weights, and its gradient is E[L d log P(spikes) + dL] (the score function, Williams 1992; for spiking units Pfister et
al. 2006). It is drawn, not computed, so what is said of it comes with an interval. T -> 0 is the deterministic network.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_key, finite
from ..errors import ArgumentError
from ..events import dense
from ..losses import Loss, Terminal
from ..network import Network, trainable_leaves
from ..network.tape import add_current, zero_current
from ..neurons import variable
from ..parameter import positive_integer, resolve
from ..rules import Rule
from ..rules.rule import by_label, total_loss
from ..trial import Trial

# Draws that share a baseline: each is compared with the mean of the others.
GROUP = 8


class Slope(NamedTuple):
    """How the expected loss rises along a rule's gradient, per unit of length, with a 95 % interval.

    All are NaN where the rule's gradient is zero. cosine: the value over the estimated length of the expected loss's
    gradient; NaN where that cannot be told from 0.
    """

    value: float
    low: float
    high: float
    cosine: float


def escape_slopes(
    net: Network,
    trial: Trial,
    rule: Rule,
    key: PRNGKeyArray,
    draws: int = 512,
    temperature: float = 0.1,
) -> dict[str, Slope]:
    """Whether a rule's gradient, followed downhill, lowers the expected loss of the network with escape noise.

    Args:
        net: the network, bound to the rule. Every spiking population's model must define `escape`.
        trial: a batch of trials. The loss is the mean of the trials' own losses, without regularisers.
        rule: gives the loss, and the gradient of the deterministic network to be judged.
        key: draws the spikes.
        draws: spike trains drawn of every trial, rounded up to a multiple of 8, at least 16.
        temperature: T, in units of a population's (mean) threshold.

    Returns:
        by projection, and "all" for all trained projections together. A slope above 0: the rule's step goes downhill.

    Raises:
        ArgumentError: an argument is impossible, nothing spikes, or a model has no escape noise.
    """
    check_key(key)
    positive_integer("draws")(draws)
    temperature = finite("temperature", temperature, 0, exclusive=True)
    check_escape(net)
    bare = dataclasses.replace(rule, regularizers=())
    judged = bare.value_and_grad(net, trial, key)[1]
    moved = [name for name, p in net.projections.items() if p.trainable]
    directions = {name: judged.projections[name] for name in moved}
    groups = max(2, -(-draws // GROUP))
    total, squares, along = None, dict.fromkeys([*moved, "all"], 0.0), []
    for number in range(groups):
        found = _group(net, trial, bare, jax.random.fold_in(key, number), temperature)
        parts = {name: found.projections[name] for name in moved}
        total = parts if total is None else jax.tree.map(jnp.add, total, parts)
        along.append({name: float(_dot(parts[name], directions[name])) for name in moved})
        along[-1]["all"] = sum(along[-1].values())
        own = {name: float(_dot(parts[name], parts[name])) for name in moved}
        for name, value in {**own, "all": sum(own.values())}.items():
            squares[name] += value
    whole = {name: float(_dot(total[name], total[name])) for name in moved} if total else {}
    lengths = {name: float(_dot(d, d)) for name, d in directions.items()}
    whole["all"], lengths["all"] = sum(whole.values()), sum(lengths.values())
    return {
        name: _slope(
            np.array([a[name] for a in along]) / (np.sqrt(lengths[name]) if lengths[name] > 0 else np.nan),
            # Pairs of different groups only: a group's own square is its noise.
            (whole[name] - squares[name]) / (groups * (groups - 1)),
        )
        for name in squares
    }


def check_escape(net: Network) -> None:
    """Raise an ArgumentError unless the network spikes, by models that know escape noise."""
    spiking = [name for name, neuron in net.populations.items() if neuron.spiking]
    if not spiking:
        raise ArgumentError("net: nothing in it spikes, so its loss has a gradient already; BPTT gives it exactly.")
    for name in spiking:
        if not hasattr(net.populations[name], "escape"):
            model = type(net.populations[name]).__name__
            raise ArgumentError(f"net: {model} of population {name!r} defines no escape(state, current, spiked).")


def _slope(values: np.ndarray, square: float) -> Slope:
    from scipy.stats import t

    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Slope(mean, mean - half, mean + half, mean / np.sqrt(square) if square > 0 else float("nan"))


def _dot(a: Any, b: Any) -> Array:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum((jnp.sum(x * y) for x, y in pairs), jnp.zeros(()))


@eqx.filter_jit
def _group(net: Network, trial: Trial, rule: Rule, key: PRNGKeyArray, temperature: float) -> Network:
    """An unbiased estimate of the gradient from `GROUP` draws of every trial."""
    moved, fixed = eqx.partition(net, trainable_leaves(net))
    losses = rule.losses(net, trial)

    def objective(moved: Network) -> Array:
        whole = eqx.combine(moved, fixed)
        run = partial(_simulate, whole, trial, temperature)
        outputs, log_likelihood = jax.vmap(run)(jax.random.split(key, GROUP))
        each = jax.vmap(lambda y: _losses(whole, losses, y, trial))(outputs)
        told = jax.lax.stop_gradient(each)
        baseline = (jnp.sum(told, axis=0, keepdims=True) - told) / (GROUP - 1)
        return jnp.mean((told - baseline) * log_likelihood + each)

    return jax.grad(objective)(moved)


def _simulate(
    net: Network, trial: Trial, temperature: float, key: PRNGKeyArray
) -> tuple[dict[str, Array], Float[Array, " batch"]]:
    """Outputs by label, and the log-probability of the spikes that were drawn, of each trial."""
    if backwards := net.reversed():
        raise ArgumentError(f"escape noise goes by steps, and projection {backwards[0]!r} reads a trial from its end.")
    inputs = net.check_inputs(trial.inputs)
    batch, depth = trial.batch, max([1, *net.depths().values()])
    neurons = {n: resolve(p) for n, p in net.populations.items()}
    fans = {n: p.fan_out(p.effective()) for n, p in net.projections.items()}

    def body(carry: Any, step: Any) -> Any:
        states, past, told = carry
        states, now, number = dict(states), {n: dense(x, net.dtype) for n, x in step[0].items()}, step[1]
        for index, name in enumerate(net.order):
            neuron, current = neurons[name], zero_current(net, name, (batch,))
            for key_of, p in net.projections.items():
                if p.post == name:
                    sent = [now.get(p.pre), *past[p.pre]][p.delay or 0 : p.depth + 1]
                    seen = jnp.stack(sent[::-1]) if p.reach else sent[0]
                    added, bias = p.drive(fans[key_of], seen), p.effective_bias()
                    added = added[0] if p.reach else added
                    added = added if bias is None else added + jnp.broadcast_to(bias, added.shape)
                    current = add_current(net, p, current, added)
            if not neuron.spiking:
                states[name], now[name] = jax.vmap(neuron.step)(states[name], current)
                continue
            states[name], above, blocked = jax.vmap(neuron.escape)(states[name], current, past[name][0])
            x = above / (temperature * jnp.mean(neuron.threshold))
            draw = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, number), index), x.shape, x.dtype)
            spiked = jax.lax.stop_gradient(~blocked & (draw < jax.nn.sigmoid(x))).astype(x.dtype)
            # log sigmoid(x) of those that spiked, log sigmoid(-x) of those that did not but might have.
            told = told + jnp.sum(jnp.where(blocked, 0, jax.nn.log_sigmoid(x * (2 * spiked - 1))), axis=-1)
            now[name] = spiked
        shown = {
            o.label: now[o.population] if o.variable is None else variable(states[o.population], o.variable)
            for o in net.output_specs
        }
        return (states, {n: [now[n], *p[:-1]] for n, p in past.items()}, told), shown

    sizes = net.inputs | {n: p.size for n, p in net.populations.items()}
    past = {n: [jnp.zeros((batch, size), net.dtype)] * depth for n, size in sizes.items()}
    start = net.init_state(batch).neurons, past, jnp.zeros(batch, net.dtype)
    (_, _, told), outputs = jax.lax.scan(body, start, (inputs, jnp.arange(trial.steps, dtype=jnp.uint32)))
    return outputs, told


def _losses(net: Network, losses: dict[str, Loss], outputs: dict[str, Array], trial: Trial) -> Float[Array, " batch"]:
    """The loss of each trial by itself."""

    def target_axis(target: Array, label: str) -> int:
        whole = isinstance(losses[label], Terminal) and jnp.issubdtype(target.dtype, jnp.floating)
        return 0 if target.ndim == 1 or (target.ndim == 2 and whole) else 1

    targets = by_label(net, trial.targets, "targets")
    axes = {label: target_axis(jnp.asarray(target), label) for label, target in targets.items()}

    def one(index: Array) -> Array:
        def pick(x: Any, axis: int = 1) -> Array:
            return jax.lax.dynamic_slice_in_dim(jnp.asarray(x), index, 1, axis)

        own = {label: pick(target, axes[label]) for label, target in targets.items()}
        alone = Trial(
            jax.tree.map(pick, trial.inputs),
            own[net.output_specs[0].label] if net.single_output else own,
            None if trial.mask is None else pick(trial.mask),
            None if trial.lengths is None else pick(trial.lengths, 0),
        )
        return total_loss(losses, {label: pick(y) for label, y in outputs.items()}, alone, net)

    return jax.vmap(one)(jnp.arange(trial.batch))
