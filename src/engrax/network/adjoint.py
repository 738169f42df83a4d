"""The backward engine: delta_j(t) = dE/dI_j(t) for every population, one component of *paths* after the other.

A path says which projections carry an error backwards and with which weight. BPTT has a path for every projection; a
local rule keeps those onto readouts alone and may replace their weights by feedback. Weight gradients are products of
delta and presynaptic activity (`Projection.gradient`), or made block by block inside native loops.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..synapses import Projection, transpose
from . import loops
from .cotangents import Adjoint, Cotangents, Path, Sent, no_state, split_parameters
from .graph import components
from .loops import Inner, Wanted
from .network import Network
from .reverse import scan_back
from .tape import Tape, port_delta

# An error from a population this many times smaller is multiplied by the weights step by step inside the loop: as a
# sequence it would take more time to write and read than to compute.
NARROW = 8


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
    weights: dict[str, Any] = {}
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
                felt = felt[::-1] if path.projection.reverse else felt
                matrix = path.projection.matrix and felt.ndim == 3
                narrower = matrix and NARROW * felt.shape[-1] <= net.populations[pre].size
                if matrix and pre in tape.kept:
                    _into_history(history, pre, transpose(path.weight, felt[:delay]), delay)
                    narrow[pre].append(Sent(path.weight, felt, delay))
                elif narrower:
                    _into_history(history, pre, transpose(path.weight, felt[:delay]), delay)
                    narrow[pre].append(Sent(path.weight, _earlier(felt, delay), 0))
                else:
                    back, deep = path.projection.transpose(path.weight, felt), path.projection.depth
                    _into_history(history, pre, back[:deep], deep)
                    _arrive(arriving, pre, _earlier(back, deep)[:steps])
        internal = [p for p in paths if p.projection.pre in group and p.projection.post in group]
        own = {n: arriving[n] for n in group if n in arriving}
        made = [p for p in net.projections.values() if gradients and p.trainable and p.post in group]
        if all(n in tape.kept for n in group):
            keep = needed & set(group) if gradients else set(group)
            result = _native(net, group, internal, tape, own, narrow, cotangents, local, made, keep)
        else:
            result = scan_back(net, group, internal, tape, own, narrow, cotangents, local, per_trial=False)
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
    return scan_back(net, (name,), [], tape, {name: outputs}, {name: []}, cotangents, True, per_trial=True)


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
        source = loops.signal(p, tape.outputs, tape.kept, tape.history)
        wanted.append(Wanted(p.name, p.post, p.delay or 0, source))
    found = loops.back(
        net, order, tape.kept, entering, last, inner, wanted, steps, local=local, delta=keep, parameters=True
    )
    parameters |= found.parameters
    biases = {p.name: found.total[p.post] for p in made if p.bias is not None}
    return Adjoint(found.delta, parameters, found.states, found.pending, found.weights, biases)
