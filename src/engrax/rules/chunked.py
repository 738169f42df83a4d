"""A local rule on whole trials, chunk by chunk: reverse scans inside a chunk, traces across chunk borders only.

Each population is differentiated once a chunk, along several *lanes* at the same time: one for the loss, one for every
state variable of its own at the chunk's end (their products with presynaptic activity are the new eligibility vectors),
one for every state variable of each readout it reaches (the new filtered traces). What happened before the chunk comes
in through the old traces, multiplied by the lane's cotangent of the chunk's first state.

What is known only at the end of the trials (terminal losses, firing rates) is found by one more forward pass before.
Memory: one chunk of activity, and batch x pre x post x (d + 1) numbers of traces, here (batch, port, pre, unit or 1):
presynaptic units before units, as sums over a chunk come.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..events import dense
from ..kernels.products import weighted
from ..kernels.units import Signal
from ..losses import Terminal
from ..network.adjoint import backward_population, native_population
from ..network.cotangents import Path, Sent, no_state
from ..network.engine import forward
from ..network.loops import Wanted, signal
from ..network.tape import Tape, port_delta
from ..synapses import transpose
from ..trial import Trial
from . import traces
from .chunks import in_chunks
from .feedback import readouts
from .local import per_step
from .online import Gradient, LocalState, Plan, step_loss, traces_shape
from .rates import Activity, count, no_activity, penalty, rate_cotangents
from .rule import add, by_label, enter

LOSS = "loss"


class Felt(NamedTuple):
    """What a population's lanes come to, stacked: delta, cotangents of the first state and of parameters; gradients of
    weights and biases by source and lane, where native loops make them instead of delta."""

    delta: Array | None
    states: PyTree
    parameters: PyTree
    gradients: list[dict[str, Array]]


class Lanes(NamedTuple):
    """Cotangents of a population: position of each lane, and what enters along it: by outputs (None: nothing), from
    readouts, by variables and by the final state."""

    position: dict[Any, int]
    outputs: list[Array | None]
    sent: list[list[Sent]]
    variables: list[dict[str, Array]]
    states: list[PyTree]


def chunked(plan: Plan, trial: Trial, size: int) -> tuple[Array, Gradient]:
    """Loss and gradient (by source label) of a batch of trials."""
    net = plan.net
    targets, running, terminal = per_step(plan.net, plan.losses, trial)
    inputs, valid = net.check_inputs(trial.inputs), trial.valid().astype(net.dtype)
    value, gradients, total = _ahead(plan, trial, (inputs, valid, terminal), size)
    zero = {s.label: jnp.zeros(traces_shape(plan, s), net.dtype) for s in plan.sources}

    def body(carry: Any, xs: Any, last: bool) -> Any:
        state, value, sums = carry
        inputs, valid, targets, running, terminal = xs
        # Events are a raster of this chunk here.
        rasters = {name: dense(x, net.dtype) for name, x in inputs.items()}
        outputs, after, _, tape = forward(net, rasters, state.network, tape="lean")
        more, entering = _running(plan, outputs, targets, running)
        for label, g in gradients.items():
            entering[label] = terminal[label].astype(net.dtype)[:, :, None] * g[None]
        spikes = {n: tape.outputs[n] for n in plan.counted}
        rates = rate_cotangents(plan.regularizers, net, spikes, valid, total, state.activity)
        activity = count(state.activity, spikes, valid, plan.counted)
        eligibility, filtered, found = _chunk(plan, state, tape, entering, rates, last)
        state = LocalState(after, eligibility, filtered, {}, {}, {}, activity)
        return state, value + more, jax.tree.map(jnp.add, sums, found)

    start = plan.start(trial.batch)
    turned = lambda tree: jax.tree.map(lambda x: jnp.swapaxes(x, -1, -2), tree)
    start = LocalState(start.network, turned(start.eligibility), turned(start.filtered), {}, {}, {}, start.activity)
    state, value, sums = in_chunks(body, (start, value, zero), (inputs, valid, targets, running, terminal), size)
    return value + penalty(plan.regularizers, net, state.activity), sums


def _running(plan: Plan, outputs: dict[str, Array], targets: Any, weights: Any) -> tuple[Array, dict[str, Array]]:
    steps = jax.vmap(lambda y, t, w: step_loss(plan.net, plan.losses, t, w)(y))(outputs, targets, weights)
    return jnp.sum(steps[0]), steps[1]


def _ahead(
    plan: Plan, trial: Trial, given: tuple[Any, Array, dict[str, Array]], size: int
) -> tuple[Array, dict[str, Array], Activity]:
    """Terminal losses, their gradients by each output's weighted sum, and the whole trials' activity.

    given: inputs, valid steps, and the steps' weights in the terminal losses.
    """
    net, (_, valid, weights) = plan.net, given
    value = jnp.zeros((), net.dtype)
    nothing = no_activity(net, trial.batch)
    if not weights and not plan.late:
        return value, {}, nothing._replace(steps=jnp.sum(valid, axis=0))

    def body(carry: Any, xs: Any, last: bool) -> Any:
        state, activity, totals = carry
        inputs, valid, weights = xs
        outputs, state, recorded, _ = forward(net, inputs, state, record=plan.counted)
        activity = count(activity, recorded, valid, plan.counted)
        more = {n: jnp.einsum("tb,tbk->bk", w.astype(net.dtype), outputs[n]) for n, w in weights.items()}
        return state, activity, jax.tree.map(jnp.add, totals, more)

    totals = {n: jnp.zeros((trial.batch, net.populations[plan.specs[n].population].size), net.dtype) for n in weights}
    start = (net.init_state(trial.batch), nothing, totals)
    _, activity, totals = in_chunks(body, start, given, size)
    targets, gradients = by_label(net, trial.targets, "targets"), {}
    for label, total in totals.items():
        loss = plan.losses[label]
        assert isinstance(loss, Terminal)
        more, gradients[label] = jax.value_and_grad(loss.final)(total, targets[label])
        value = value + more
    return value, gradients, activity


def _chunk(
    plan: Plan, state: LocalState, tape: Tape, entering: dict[str, Array], rates: dict[str, Array], last: bool
) -> tuple[dict[str, list[Array]], dict[str, list[Array]], Gradient]:
    """Traces at the chunk's end, unless it is the last one, and its gradient."""
    net, ends = plan.net, readouts(plan.net)
    outputs, variables = enter(net, entering)
    outputs = add(outputs, rates)
    adjoints: dict[str, Felt] = {}
    indices: dict[str, dict[Any, int]] = {}
    for name in ends:
        lanes = _own_lanes(plan, name, tape, outputs, variables, last=last)
        adjoints[name], indices[name] = _run(plan, name, state, tape, lanes, delta=True), lanes.position
    for name in dict.fromkeys(s.population for s in plan.sources):
        if name in ends:
            continue
        paths, sent = [p for p in plan.paths if p.projection.pre == name], []
        for path in paths:
            post = path.projection.post
            felt = port_delta(net, path.projection, _delta(adjoints[post])[indices[post][LOSS]])
            if felt.ndim == 3:
                sent.append(Sent(path.weight, felt, 0))
            else:
                outputs = add(outputs, {name: transpose(path.weight, felt)})
        lanes = _own_lanes(plan, name, tape, outputs, variables, sent, last=last)
        for path in paths if not last else ():
            _readout_lanes(plan, path, adjoints, indices, lanes)
        adjoints[name], indices[name] = _run(plan, name, state, tape, lanes, delta=False), lanes.position
    return _traces(plan, state, tape, adjoints, indices, last)


def _own_lanes(
    plan: Plan, name: str, tape: Tape, outputs: Any, variables: Any, sent: Sequence[Sent] = (), *, last: bool
) -> Lanes:
    zero_state = no_state(plan.net.populations[name], tape.outputs[name].shape[1])
    lanes = Lanes({LOSS: 0}, [outputs.get(name)], [list(sent)], [variables.get(name, {})], [zero_state])
    leaves, treedef = jax.tree.flatten(zero_state)
    for c in range(0 if last else len(leaves)):
        one = [jnp.ones_like(x) if i == c else x for i, x in enumerate(leaves)]
        _append(lanes, c, [], jax.tree.unflatten(treedef, one))
    return lanes


def _append(lanes: Lanes, key: Any, sent: list[Sent], state: PyTree) -> None:
    lanes.position[key] = len(lanes.outputs)
    lanes.outputs.append(None)
    lanes.sent.append(sent)
    lanes.variables.append({})
    lanes.states.append(state)


def _readout_lanes(plan: Plan, path: Path, adjoints: Any, indices: Any, lanes: Lanes) -> None:
    net, post = plan.net, path.projection.post
    traces.path_port(net, path)
    if (post, 0, 0) in lanes.position:  # a parallel projection: what the readout does to a trace is known
        return
    zero_state = jax.tree.map(jnp.zeros_like, lanes.states[0])
    size = net.populations[path.projection.pre].size
    for c in range(traces.depth(net, post)):
        reach = port_delta(net, path.projection, _delta(adjoints[post])[indices[post][c]])
        for k in range(plan.outputs(post)):
            _append(lanes, (post, c, k), [Sent(jnp.ones((1, size), net.dtype), reach[:, :, k : k + 1], 0)], zero_state)


def _delta(felt: Felt) -> Array:
    assert felt.delta is not None
    return felt.delta


def _run(plan: Plan, name: str, state: LocalState, tape: Tape, lanes: Lanes, *, delta: bool) -> Felt:
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    if name in tape.kept:
        return _run_native(plan, name, state, tape, lanes, delta=delta)
    zero, first = jnp.zeros_like(tape.outputs[name]), lanes.variables[0]
    arriving = [
        sum((transpose(s.weight, s.delta) for s in sent), zero if x is None else x)
        for x, sent in zip(lanes.outputs, lanes.sent, strict=True)
    ]
    outputs = jnp.stack(arriving)
    variables = [{v: given.get(v, jnp.zeros_like(g)) for v, g in first.items()} for given in lanes.variables]
    found = jax.vmap(lambda o, v, s: backward_population(plan.net, name, tape, o, v, s))(
        outputs, stack(variables), stack(lanes.states)
    )
    return Felt(found.delta[name], found.states[name], found.parameters[name], [])


def _run_native(plan: Plan, name: str, state: LocalState, tape: Tape, lanes: Lanes, *, delta: bool) -> Felt:
    net, own = plan.net, [s for s in plan.sources if s.population == name]
    found = []
    for lane, entering in enumerate(zip(lanes.outputs, lanes.sent, lanes.variables, lanes.states, strict=True)):
        wanted = []
        for s in own:
            units = None if lane == 0 else _sizes(plan, state, s, len(lanes.states))[lane - 1]
            if s.kind == "weight":
                p = net.projections[s.key]
                sent = signal(p, tape.outputs, tape.kept, tape.history)
                wanted.append(Wanted(s.label, name, p.delay or 0, sent, units))
            else:
                wanted.append(Wanted(s.label, name, 0, Signal(1, traces.presynaptic(net, s, tape)), units))
        shared = traces.shared(net, name)
        alike = not delta and 0 < lane <= len(shared) and shared[lane - 1]
        found.append(native_population(net, name, tape, *entering, wanted, delta=delta, alike=alike))
    states = jax.tree.map(lambda *x: jnp.stack(x), *[x.states[name] for x in found])
    felt = jnp.stack([x.delta[name] for x in found]) if delta else None
    return Felt(felt, states, {}, [x.weights for x in found])


def _sizes(plan: Plan, state: LocalState, s: traces.Source, lanes: int) -> list[int]:
    """Units that each lane but the loss's has of its own: 1 where what it says is the same for all."""
    sizes = [x.shape[3] for x in state.eligibility[s.label]]
    return (sizes + [plan.net.populations[s.population].size] * (lanes - 1 - len(sizes)))[: lanes - 1]


def _traces(
    plan: Plan, state: LocalState, tape: Tape, adjoints: Any, indices: Any, last: bool
) -> tuple[dict[str, list[Array]], dict[str, list[Array]], Gradient]:
    eligibility: dict[str, list[Array]] = {}
    filtered: dict[str, list[Array]] = {}
    found: Gradient = {}
    for s in plan.sources:
        adjoint, index = adjoints[s.population], indices[s.population]
        before, sizes = state.eligibility[s.label], _sizes(plan, state, s, len(index))
        inside, total = _inside(plan, s, tape, adjoint, sizes)
        # What lies before the chunk reaches every lane through the chunk's first state.
        firsts = jax.tree.leaves(adjoint.states)
        met = [_met(g[0], x) for g, x in zip(firsts, before, strict=True)]
        for path in plan.through(s):
            own, old = jax.tree.leaves(adjoints[path.projection.post].states), state.filtered[_name(path, s)]
            met += [_through(path, g[0], x) for g, x in zip(own, old, strict=True)]
        found[s.label] = total + jnp.swapaxes(sum(met[1:], met[0]), 1, 2)
        if last:
            continue
        new = list(inside)
        for g, x in zip(firsts, before, strict=True):
            for lane, units in enumerate(sizes):
                if x.shape[3] <= units:  # what is the same for all units depends on nothing else
                    new[lane] = new[lane] + g[lane + 1][:, None, None, :units] * x
        eligibility[s.label] = new[: len(firsts)]
        for path in plan.through(s):
            post = path.projection.post
            own, old, outs = jax.tree.leaves(adjoints[post].states), state.filtered[_name(path, s)], plan.outputs(post)
            rows = []
            for c in range(len(own)):
                lanes = jnp.stack([new[index[post, c, k] - 1] for k in range(outs)], axis=1)
                carried = [x[indices[post][c]][:, :outs, None, None, None] * old[i] for i, x in enumerate(own)]
                rows.append(sum(carried, lanes))
            filtered[_name(path, s)] = rows
    return eligibility, filtered, found


def _name(path: Path, s: traces.Source) -> str:
    return f"{path.projection.post}|{s.label}"


def _inside(plan: Plan, s: traces.Source, tape: Tape, felt: Felt, sizes: list[int]) -> tuple[list[Array], Array]:
    """What happened in this chunk: traces of every lane but the first, each (batch, port, pre, unit or 1) by `sizes`,
    and the first lane's, the loss's, summed over trials: (port, unit, pre)."""
    if s.kind == "parameter":
        own = jax.tree.leaves(felt.parameters)[int(s.key)][:, :, None, None, :]
        return list(own[1:]), jnp.swapaxes(jnp.sum(own[0], axis=0), 1, 2)
    if felt.gradients:
        total, *each = [made[s.label] for made in felt.gradients]
        return [x[:, None] for x in each], total[None]
    pre, delta = traces.presynaptic(plan.net, s, tape), _delta(felt)
    delta = delta[..., jnp.array(s.ports), :] if plan.net.populations[s.population].ports else delta[..., None, :]
    per_trial = [jnp.einsum("tbqj,tbi->bqij", x[..., :units], pre) for x, units in zip(delta[1:], sizes, strict=True)]
    return per_trial, jnp.einsum("tbqj,tbi->qji", delta[0], pre)


def _through(path: Path, gradient: Array, trace: Array) -> Array:
    if trace.shape[1] == 1:
        return _met(gradient @ path.weight, trace[:, 0])
    return jnp.einsum("bk,kj,bkqij->qij", gradient, path.weight, trace)


def _met(gradient: Array, trace: Array) -> Array:
    """Sum over trials of numbers for each unit (batch, unit) times traces (batch, port, pre, unit or 1)."""
    if trace.shape[3] == 1:
        return jnp.einsum("bj,bqi->qij", gradient, trace[..., 0])
    ports = [weighted(gradient, trace[:, q]) for q in range(trace.shape[1])]
    return jnp.stack(ports)
