"""The backward engine: delta_j(t) = dE/dI_j(t) for every population, by one reverse scan per component of *paths*.

A path says which projections carry an error backwards and with which weight. BPTT has a path for every projection; a
local rule keeps those onto readouts alone and may replace their weights by feedback. Weight gradients are products of
delta and presynaptic activity (`synapses.outer`), or made block by block inside native loops.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..neurons import Neuron
from ..neurons.base import slots
from ..parameter import is_parameter, resolve
from ..synapses import Projection, transpose
from . import loops
from .engine import Tape, port_delta
from .graph import components
from .loops import Inner, Wanted
from .network import Network

# An error from a population this many times smaller is multiplied by the weights step by step inside the loop: as a
# sequence it would take more time to write and read than to compute.
NARROW = 8


class Path(NamedTuple):
    """An edge that carries errors from `projection.post` back to `projection.pre`, times `weight` (post, pre)."""

    projection: Projection
    weight: Array


class Sent(NamedTuple):
    """What a population felt, and `weight` (post, pre) sends back `delay` steps: (time, batch, post)."""

    weight: Array
    delta: Array
    delay: int


class Cotangents(NamedTuple):
    """What a loss says of a run: dE by outputs, by state variables after each step, by final states and histories.

    outputs[name]: (time, batch, units).  variables[name][variable]: the same.
    states[name]: float leaves of the final state (None elsewhere).  history[name]: (depth, batch, units).
    """

    outputs: dict[str, Array]
    variables: dict[str, dict[str, Array]]
    states: dict[str, PyTree]
    history: dict[str, Array]


class Adjoint(NamedTuple):
    """The answer: delta per population, cotangents of its own parameters, of the initial states and histories.

    weights, biases: gradients by each trainable projection's effective weight and bias, where asked for; delta is then
        only of populations whose loops are not native.
    """

    delta: dict[str, Array]
    parameters: dict[str, PyTree]
    states: dict[str, PyTree]
    history: dict[str, Array]
    weights: dict[str, Array]
    biases: dict[str, Array]


def split_parameters(neuron: Neuron) -> tuple[PyTree, PyTree]:
    """A model's trainable parameters (their values) and the rest, to be put together by `eqx.combine`."""
    marks = jax.tree.map(is_parameter, neuron, is_leaf=is_parameter)
    return eqx.partition(resolve(neuron), marks)


def split_state(state: PyTree) -> tuple[PyTree, PyTree]:
    """Float leaves of a state, which carry gradient, and the rest, which does not."""
    return eqx.partition(state, eqx.is_inexact_array)


def pull_parameters(neuron: Neuron, cotangent: PyTree) -> PyTree:
    """A cotangent of trainable parameters' values as one of their raw numbers: the neuron's tree, None elsewhere."""
    marks = jax.tree.map(
        lambda p: jax.tree.map(lambda _: True, p) if is_parameter(p) else False, neuron, is_leaf=is_parameter
    )
    raw, rest = eqx.partition(neuron, marks)
    _, vjp = jax.vjp(lambda r: split_parameters(eqx.combine(r, rest))[0], raw)
    return vjp(cotangent)[0]


def local_step(parameters: PyTree, rest: PyTree, counters: PyTree, local: bool, floats: PyTree, current: Array) -> Any:
    """One unit-by-unit step of one trial as a function of what carries gradient: float state and current."""
    neuron = eqx.combine(parameters, rest)
    state, output = (neuron.local_step if local else neuron.step)(eqx.combine(floats, counters), current)
    return split_state(state)[0], output


def _spread(parameters: PyTree, shape: tuple[int, int]) -> PyTree:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, shape), parameters)


def _variable_cotangent(like: PyTree, neuron: Neuron, given: dict[str, Array]) -> PyTree:
    """Cotangents of named state variables as a tree shaped as the float part of the state."""
    zero = jax.tree.map(jnp.zeros_like, like)
    if not given:
        return zero
    names = slots(neuron.init_state())
    leaves, treedef = jax.tree.flatten(zero, is_leaf=lambda x: x is None)
    for name, value in given.items():
        leaves[names.index(name)] = value
    return jax.tree.unflatten(treedef, leaves)


def backward(
    net: Network,
    tape: Tape,
    cotangents: Cotangents,
    paths: Sequence[Path],
    *,
    local: bool,
    gradients: bool = False,
) -> Adjoint:
    """Carry cotangents of a run back to every population's current.

    Args:
        net: the network that was run.
        tape: the run (`forward(..., tape=True)` or "lean").
        cotangents: where the error enters.
        paths: which projections carry it on.
        local: differentiate `local_step` instead of `step`.
        gradients: make those by weights and biases, too.
    """
    steps = next(iter(tape.outputs.values())).shape[0]
    arriving = dict(cotangents.outputs)
    history = {n: jnp.zeros_like(h) for n, h in tape.history.items()}
    for name, g in cotangents.history.items():
        # What a later stretch of time says of this one's latest outputs, or of its own history where it is that short.
        depth = g.shape[0]
        inside = min(depth, steps)
        if inside:
            late = jnp.zeros((steps - inside, *g.shape[1:]), g.dtype)
            _arrive(arriving, name, jnp.concatenate([late, g[depth - inside :]]))
        if depth > inside:
            history[name] = history[name].at[inside:].add(g[: depth - inside])

    delta: dict[str, Array] = {}
    parameters: dict[str, PyTree] = {}
    states: dict[str, PyTree] = {}
    weights: dict[str, Array] = {}
    biases: dict[str, Array] = {}
    groups = components(net.order, [(p.projection.pre, p.projection.post) for p in paths])
    # Populations whose delta others need.
    needed = {p.projection.post for p in paths for g in groups if p.projection.pre in g and p.projection.post not in g}
    for group in reversed(groups):
        narrow: dict[str, list[Sent]] = {n: [] for n in group}
        for path in paths:
            pre, post = path.projection.pre, path.projection.post
            if pre in group and post not in group:
                felt, delay = port_delta(net, path.projection, delta[post]), path.projection.delay or 0
                narrower = felt.ndim == 3 and NARROW * felt.shape[-1] <= net.populations[pre].size
                if pre in tape.kept and felt.ndim == 3:
                    _into_history(history, pre, transpose(path.weight, felt[:delay]), delay)
                    narrow[pre].append(Sent(path.weight, felt, delay))
                elif narrower:
                    _into_history(history, pre, transpose(path.weight, felt[:delay]), delay)
                    narrow[pre].append(Sent(path.weight, _earlier(felt, delay), 0))
                else:
                    back = transpose(path.weight, felt)
                    _into_history(history, pre, back[:delay], delay)
                    _arrive(arriving, pre, _earlier(back, delay))
        internal = [p for p in paths if p.projection.pre in group and p.projection.post in group]
        own = {n: arriving[n] for n in group if n in arriving}
        made = [p for p in net.projections.values() if gradients and p.trainable and p.post in group]
        if all(n in tape.kept for n in group):
            keep = needed & set(group) if gradients else set(group)
            result = _native(net, group, internal, tape, own, narrow, cotangents, local, made, keep)
        else:
            result = _component(net, group, internal, tape, own, narrow, cotangents, local, per_trial=False)
            for p in made:
                felt = port_delta(net, p, result.delta[p.post])
                weights[p.name] = tape.gradient(p, felt)
                if p.bias is not None:
                    biases[p.name] = jnp.sum(felt, axis=(0, 1))
        weights.update(result.weights)
        biases.update(result.biases)
        delta.update(result.delta)
        parameters.update(result.parameters)
        states.update(result.states)
        for name, pending in result.history.items():
            # Errors that reach outputs from before the run, latest first: they belong to the history.
            depth = history[name].shape[0]
            history[name] = history[name].at[depth - pending.shape[0] :].add(pending[::-1])
    return Adjoint(delta, parameters, states, history, weights, biases)


def backward_population(
    net: Network,
    name: str,
    tape: Tape,
    outputs: Array,
    variables: dict[str, Array],
    state: PyTree,
) -> Adjoint:
    """`backward` for one population by itself, with no path onwards, local, one parameter cotangent a trial and unit.

    Args:
        outputs: dE/dz, (time, batch, units).
        variables: dE by state variables after each step.
        state: dE by the float leaves of the final state.
    """
    cotangents = Cotangents({}, {name: variables}, {name: state}, {})
    return _component(net, (name,), [], tape, {name: outputs}, {name: []}, cotangents, True, per_trial=True)


def native_population(
    net: Network,
    name: str,
    tape: Tape,
    outputs: Array | None,
    sent: Sequence[Sent],
    variables: dict[str, Array],
    state: PyTree,
    wanted: list[Wanted],
    *,
    delta: bool,
    alike: bool = False,
) -> Adjoint:
    """`backward_population` of one that native loops ran, with gradients of each trial or all instead of delta.

    Args:
        outputs: None where no error comes in by outputs.
        sent: errors from other populations.
        delta: whether it is wanted, too.
        alike: errors enter by the final state alone, in variables that move alike in all units.
    """
    steps = next(iter(tape.outputs.values())).shape[0]
    if alike:
        started, made = loops.back_alike(net, name, state, wanted, steps)
        return Adjoint({}, {}, {name: started}, {}, made, {})
    entering = {f"at_{variable}": g for variable, g in variables.items()}
    entering |= {} if outputs is None else {"arriving": outputs}
    keep = {name} if delta else set()
    inner = [Inner(name, "", x.delay, x.weight, error=x.delta) for x in sent]
    found = loops.back(
        net, (name,), tape.kept, {name: entering}, {name: state}, inner, wanted, steps, local=True, delta=keep
    )
    return Adjoint(found.delta, {}, found.states, {}, found.weights, {})


def _arrive(arriving: dict[str, Array], name: str, g: Array) -> None:
    arriving[name] = arriving[name] + g if name in arriving else g


def _into_history(history: dict[str, Array], name: str, back: Array, delay: int) -> None:
    """Put an error that a projection felt in its first `delay` steps onto the outputs from before the run."""
    if delay:
        first = history[name].shape[0] - delay
        history[name] = history[name].at[first : first + back.shape[0]].add(back)


def _earlier(felt: Array, delay: int) -> Array:
    """A sequence (time, batch, units) moved to the steps at which its causes were sent, `delay` earlier."""
    late = felt[delay:]
    nothing = jnp.zeros((felt.shape[0] - late.shape[0], *felt.shape[1:]), felt.dtype)
    return jnp.concatenate([late, nothing]) if delay else felt


def _native(
    net: Network,
    group: tuple[str, ...],
    internal: list[Path],
    tape: Tape,
    arriving: dict[str, Array],
    sent: dict[str, list[Sent]],
    cotangents: Cotangents,
    local: bool,
    made: list[Projection],
    keep: set[str],
) -> Adjoint:
    order = tuple(n for n in net.order if n in group)
    steps, batch = next(iter(tape.outputs.values())).shape[:2]
    entering, last, parameters = {}, {}, {}
    for name in order:
        own = {f"at_{variable}": g for variable, g in cotangents.variables.get(name, {}).items()}
        entering[name] = own | ({"arriving": arriving[name]} if name in arriving else {})
        last[name] = cotangents.states.get(name)
        if last[name] is None:
            last[name] = no_state(net.populations[name], batch)
        parameters[name] = split_parameters(net.populations[name])[0]
    inner = [Inner(p.projection.pre, p.projection.post, p.projection.delay or 0, p.weight) for p in internal]
    inner += [Inner(n, "", x.delay, x.weight, error=x.delta) for n in order for x in sent[n]]
    wanted = []
    for p in made:
        delay = p.delay or 0
        wanted.append(Wanted(p.name, p.post, delay, loops.signal(p.pre, delay, tape.outputs, tape.kept, tape.history)))
    found = loops.back(net, order, tape.kept, entering, last, inner, wanted, steps, local=local, delta=keep)
    biases = {p.name: found.total[p.post] for p in made if p.bias is not None}
    return Adjoint(found.delta, parameters, found.states, found.pending, found.weights, biases)


def no_state(neuron: Neuron, batch: int) -> PyTree:
    """Zeros for the float leaves of a population's state, (batch, units)."""
    floats = split_state(resolve(neuron).init_state())[0]
    return jax.tree.map(lambda x: jnp.zeros((batch, *x.shape), x.dtype), floats)


def _component(
    net: Network,
    group: tuple[str, ...],
    internal: list[Path],
    tape: Tape,
    arriving: dict[str, Array],
    narrow: dict[str, list[Sent]],
    cotangents: Cotangents,
    local: bool,
    *,
    per_trial: bool,
) -> Adjoint:
    order = [n for n in reversed(net.order) if n in group]
    split = {n: split_parameters(net.populations[n]) for n in group}
    batch = next(iter(tape.currents.values())).shape[1]
    floats, counters, extra, last = {}, {}, {}, {}
    for name in group:
        floats[name], counters[name] = split_state(tape.states[name])
        template = jax.tree.map(lambda x: x[0], floats[name])
        neuron = resolve(net.populations[name])
        given = cotangents.variables.get(name, {})
        if given:
            extra[name] = jax.vmap(partial(_variable_cotangent, template, neuron))(given)
        last[name] = cotangents.states.get(name)
        if last[name] is None:
            last[name] = jax.tree.map(jnp.zeros_like, template)
    axes = 0 if per_trial else None
    spread = {n: _spread(split[n][0], (batch, net.populations[n].size)) if per_trial else split[n][0] for n in group}
    own = jax.tree.map(jnp.zeros_like, spread)
    depth: dict[str, int] = {}
    for path in internal:
        if path.projection.delay:
            depth[path.projection.pre] = max(depth.get(path.projection.pre, 0), path.projection.delay)
    pending = {n: jnp.zeros((d, batch, net.populations[n].size), net.dtype) for n, d in depth.items()}

    def back(carry: Any, xs: Any) -> Any:
        g_state, g_own, pending = carry
        outputs = {}
        for n in group:
            terms = [xs["arriving"][n]] if n in arriving else []
            terms += [transpose(sent.weight, felt) for sent, felt in zip(narrow[n], xs["narrow"][n], strict=True)]
            terms += [pending[n][0]] if n in pending else []
            outputs[n] = sum(terms[1:], terms[0]) if terms else jnp.zeros((batch, net.populations[n].size), net.dtype)
        pending = {n: jnp.concatenate([p[1:], jnp.zeros_like(p[:1])]) for n, p in pending.items()}
        g_state, g_own, deltas = dict(g_state), dict(g_own), {}
        for name in order:
            step = jax.vmap(
                lambda theta, counters, floats, current, n=name: local_step(
                    theta, split[n][1], counters, local, floats, current
                ),
                in_axes=(axes, 0, 0, 0),
            )
            counter = xs["counters"][name]
            _, vjp = jax.vjp(
                lambda theta, f, i, s=step, c=counter: s(theta, c, f, i),
                spread[name],
                xs["floats"][name],
                xs["currents"][name],
            )
            after = g_state[name]
            if name in xs["extra"]:
                after = jax.tree.map(jnp.add, after, xs["extra"][name])
            g_theta, g_state[name], deltas[name] = vjp((after, outputs[name]))
            g_own[name] = jax.tree.map(jnp.add, g_own[name], g_theta)
            for path in internal:
                if path.projection.post != name:
                    continue
                pre, delay = path.projection.pre, path.projection.delay or 0
                value = transpose(path.weight, port_delta(net, path.projection, deltas[name]))
                if delay:
                    pending[pre] = pending[pre].at[delay - 1].add(value)
                else:
                    outputs[pre] = outputs[pre] + value
        return (g_state, g_own, pending), deltas

    xs = {
        "arriving": arriving,
        "narrow": {n: [sent.delta for sent in narrow[n]] for n in group},
        "floats": floats,
        "counters": counters,
        "currents": {n: tape.currents[n] for n in group},
        "extra": extra,
    }
    (states, parameters, pending), delta = jax.lax.scan(back, (last, own, pending), xs, reverse=True)
    return Adjoint(delta, parameters, states, pending, {}, {})
