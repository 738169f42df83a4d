"""The yardstick: gradients by JAX's own reverse mode through a plain step-by-step simulation.

It shares no code with the engines it checks: no hoisting, no tape, no adjoint, no traces; convolutions are matrices.
`local=True` stops the gradient wherever a local rule cuts it, and carries the error back from readouts by feedback
weights where given.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..events import dense
from ..losses import Loss
from ..network import Network, trainable_leaves
from ..network.graph import components
from ..neurons import variable
from ..parameter import resolve
from ..rules.rule import Rule, total_loss
from ..synapses import AveragePool, Convolution, Delayed, Projection
from ..trial import Trial


@jax.custom_vjp
def _broadcast(pre: Array, forward: Array, backward: Array) -> Array:
    return pre @ forward.T


def _broadcast_fwd(pre: Array, forward: Array, backward: Array) -> tuple[Array, tuple[Array, Array]]:
    return pre @ forward.T, (pre, backward)


def _broadcast_bwd(residual: tuple[Array, Array], g: Array) -> tuple[Array, Array, Array]:
    pre, backward = residual
    return g @ backward.T, g.T @ pre, jnp.zeros_like(backward)


_broadcast.defvjp(_broadcast_fwd, _broadcast_bwd)


def simulate(net: Network, inputs: dict[str, Any], local: bool) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs by label and every population's output, (time, batch, units), one step after the other.

    Where time is reversed somewhere, one part of the network after the other.
    """
    whole = not any(p.reverse for p in net.projections.values())
    parts = [net.order] if whole else components(net.order, [(e.pre, e.post) for e in net.edges])
    outputs: dict[str, Array] = {}
    activity = {n: dense(x, net.dtype) for n, x in inputs.items()}
    for part in parts:
        shown, sent = _simulate(net, part, activity, local)
        outputs, activity = outputs | shown, activity | sent
    return outputs, {n: activity[n] for n in net.populations}


def _simulate(
    net: Network, part: Sequence[str], inputs: dict[str, Array], local: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`simulate` for populations whose sources are among them or given whole."""
    depth = max(net.depths().values())
    batch = next(iter(inputs.values())).shape[1]
    neurons = {n: resolve(p) for n, p in net.populations.items()}
    ends = {o.population for o in net.output_specs}

    def body(carry: Any, x: tuple[dict[str, Array], dict[str, Array]]) -> Any:
        states, past = carry
        ahead, back = x
        states, now = dict(states), dict(ahead)
        for name in (n for n in net.order if n in part):
            neuron = neurons[name]
            shape = (batch, len(neuron.ports), neuron.size) if neuron.ports else (batch, neuron.size)
            current = jnp.zeros(shape, net.dtype)
            for projection in net.projections.values():
                if projection.post != name:
                    continue
                sent = [now.get(projection.pre), *past[projection.pre]]
                pre = back[projection.pre] if projection.reverse else sent[projection.delay or 0]
                if isinstance(projection, Delayed):
                    added = _late(net, projection, sent, local, ends)
                else:
                    added = _contribution(net, projection, pre, local, ends)
                if projection.port:
                    current = current.at[:, neuron.ports.index(projection.port)].add(added)
                else:
                    current = current + added
            states[name], now[name] = jax.vmap(neuron.local_step if local else neuron.step)(states[name], current)
        past = {n: [now[n], *p][: max(depth, 1)] for n, p in past.items()}
        shown = {
            o.label: now[o.population] if o.variable is None else variable(states[o.population], o.variable)
            for o in net.output_specs
            if o.population in part
        }
        return (states, past), (shown, {n: now[n] for n in part})

    sizes = net.inputs | {n: p.size for n, p in net.populations.items()}
    known = {*inputs, *part}
    first = {n: p.init_output().astype(net.dtype) for n, p in neurons.items()}
    past = {
        n: [jnp.broadcast_to(first.get(n, jnp.zeros((), net.dtype)), (batch, size))] * max(depth, 1)
        for n, size in sizes.items()
        if n in known
    }
    states = {n: s for n, s in net.init_state(batch).neurons.items() if n in part}
    return jax.lax.scan(body, (states, past), (inputs, {n: x[::-1] for n, x in inputs.items()}))[1]


def _contribution(net: Network, projection: Projection, pre: Array, local: bool, ends: set[str]) -> Array:
    weight = dense_matrix(projection) if isinstance(projection, Convolution) else projection.effective()
    onto_readout = projection.post in ends and projection.pre not in ends
    if local and not onto_readout and not _passes(net, projection):
        pre = jax.lax.stop_gradient(pre)
    key = f"{projection.post}->{projection.pre}"
    if local and onto_readout and key in net.feedback:
        current = _broadcast(pre, weight, jax.lax.stop_gradient(net.feedback[key].weight))
    elif weight.ndim == 2:
        current = pre @ weight.T
    else:
        current = jnp.stack([pre @ w.T for w in weight], axis=1)
    bias = projection.effective_bias()
    return current if bias is None else current + jnp.broadcast_to(bias, current.shape)


def _late(net: Network, projection: Delayed, sent: Sequence[Any], local: bool, ends: set[str]) -> Array:
    """What delays that learn contribute, term by term as the equation has them."""
    least, weight, delays, sigma = projection.delay or 0, projection.weight, projection.delays, projection.sigma
    assert weight is not None and delays is not None and sigma is not None
    steps = range(least, projection.max_delay + 1)
    shares = [jnp.exp(-((k - delays) ** 2) / (2 * sigma**2)) for k in steps]
    if projection.kernel == "linear":
        shares = [jnp.where(jnp.abs(k - delays) < 1, 1 - jnp.abs(k - delays), 0) for k in steps]
    whole, current = sum(shares), None
    if not projection.autapses:
        weight = weight * jnp.broadcast_to(1 - jnp.eye(weight.shape[-1], dtype=weight.dtype), weight.shape)
    onto_readout = projection.post in ends and projection.pre not in ends
    told = local and onto_readout and f"{projection.post}->{projection.pre}" in net.feedback
    for k, share in zip(steps, shares, strict=True):
        tap = weight * jnp.broadcast_to(share / whole, weight.shape)
        pre = jax.lax.stop_gradient(sent[k]) if local and (told or not onto_readout) else sent[k]
        more = pre @ tap.T if tap.ndim == 2 else jnp.stack([pre @ w.T for w in tap], axis=1)
        current = more if current is None else current + more
    assert current is not None
    if told:
        # Feedback weights take an error to the unit as it was the shortest delay ago.
        backward = jax.lax.stop_gradient(net.feedback[f"{projection.post}->{projection.pre}"].weight)
        current = current + _broadcast(sent[least], jnp.zeros_like(weight), backward)
    return current if projection.bias is None else current + jnp.broadcast_to(projection.bias, current.shape)


def _passes(net: Network, projection: Projection) -> bool:
    """Whether a local rule lets errors through: to what has no state, unless fixed feedback goes to the source."""
    if projection.pre not in net.populations or projection.depth:
        return False
    fixed = {name.split("->")[1] for name, f in net.feedback.items() if not f.trainable}
    state = resolve(net.populations[projection.post]).init_state()
    return not any(eqx.is_inexact_array(x) for x in jax.tree.leaves(state)) and projection.pre not in fixed


def dense_matrix(projection: Convolution) -> Float[Array, "post pre"]:
    """The matrix of a convolution or pooling: at each place of the target its kernel, where it lies in the source."""
    weight = projection.weight
    assert weight is not None
    source, target = projection.shape, projection.output_shape
    # Every pair of a place in the target and one in the kernel: (out, y, x, in, i, j), less the pairs of channels that
    # pooling keeps apart.
    out, y, x, channel, i, j = np.indices((*target, source[0], *projection.kernel)).reshape(6, -1)
    places = []
    for at, within, axis in ((y, i, 0), (x, j, 1)):
        size, stride, kernel = source[1 + axis], projection.stride[axis], projection.kernel[axis]
        around = (target[1 + axis] - 1) * stride + kernel - size if projection.padding == "same" else 0
        places.append(at * stride + within - max(around, 0) // 2)  # the odd zero lies behind
    row, column = places
    there = (row >= 0) & (row < source[1]) & (column >= 0) & (column < source[2])
    pooled = isinstance(projection, AveragePool)
    if pooled:
        there &= out == channel
    out, y, x, channel, i, j, row, column = (n[there] for n in (out, y, x, channel, i, j, row, column))
    post = np.ravel_multi_index((out, y, x), target)
    pre = np.ravel_multi_index((channel, row, column), source)
    values = weight[0 * out, 0 * channel, i, j] if pooled else weight[out, channel, i, j]
    return jnp.zeros((math.prod(target), math.prod(source)), weight.dtype).at[post, pre].set(values)


def reference_gradient(rule: Rule, net: Network, trial: Trial, local: bool) -> tuple[Array, Network]:
    """Loss and gradient of `rule`'s loss and regularisers by automatic differentiation of the plain simulation.

    Args:
        rule: gives loss and regularisers only.
        net: the network, bound where the rule needs feedback weights.
        trial: a batch of trials.
        local: cut what a local rule cuts.
    """
    losses = rule.losses(net, trial)
    moved, fixed = eqx.partition(net, trainable_leaves(net))

    def value(moved: Network) -> Array:
        whole = eqx.combine(moved, fixed)
        outputs, activity = simulate(whole, whole.check_inputs(trial.inputs), local)
        return _objective(rule, whole, losses, trial, outputs, activity)

    return eqx.filter_jit(jax.value_and_grad(value))(moved)


def _objective(
    rule: Rule,
    net: Network,
    losses: dict[str, Loss],
    trial: Trial,
    outputs: dict[str, Array],
    activity: dict[str, Array],
) -> Array:
    total = total_loss(losses, outputs, trial, net)
    valid = trial.valid().astype(net.dtype)
    for regularizer in rule.regularizers:
        for name in regularizer.on(net):
            counts = jnp.sum(valid[:, :, None] * activity[name], axis=0)
            total = total + regularizer.at(net, name).value(counts, jnp.sum(valid, axis=0), net.dt)
    return total


def finite_differences(value: Callable[[Array], Array], x: Array, step: float = 1e-6) -> Array:
    """Central differences of a scalar function of an array, entry by entry (float64)."""
    flat = x.reshape(-1)
    basis = step * jnp.eye(flat.size, dtype=flat.dtype)

    def slope(e: Array) -> Array:
        return (value((flat + e).reshape(x.shape)) - value((flat - e).reshape(x.shape))) / (2 * step)

    return jax.lax.map(slope, basis).reshape(x.shape)
