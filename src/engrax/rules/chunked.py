"""A local rule on whole trials, chunk by chunk: reverse scans inside a chunk, traces across chunk borders only.

Each population is differentiated once a chunk, along several *lanes* at the same time: one for the loss, one for every
state variable of its own at the chunk's end (their products with presynaptic activity are the new eligibility vectors),
one for every state variable of each readout it reaches (the new filtered traces), one for its spikes (rates). What
happened before the chunk comes in through the old traces, multiplied by the lane's cotangent of the chunk's first state.
Memory: one chunk of activity, and batch x pre x post x (d + 1) numbers of traces.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..losses import Terminal
from ..network.adjoint import Adjoint, Path, backward_population, split_state
from ..network.engine import Tape, forward, port_delta
from ..synapses import transpose
from ..trial import Trial
from . import traces
from .chunks import cut, padded
from .feedback import readouts
from .local import per_step
from .online import Gradient, LocalState, Plan, rate_gradient, step_loss, traces_shape
from .rates import count, penalty, rate_cotangents
from .rule import by_label, enter

LOSS, RATE = "loss", "rate"


class Lanes(NamedTuple):
    """Cotangents of a population, stacked: position of each lane, and what enters along it."""

    index: dict[Any, int]
    outputs: list[Array]
    variables: list[dict[str, Array]]
    states: list[PyTree]


def chunked(plan: Plan, trial: Trial, size: int) -> tuple[Array, Gradient]:
    """Loss and gradient (by source label) of a batch of trials."""
    net = plan.net
    targets, running, terminal = per_step(plan, trial)
    size = min(size, trial.steps)
    inputs = cut(padded(net.check_inputs(trial.inputs), size), size)
    valid = cut(padded(trial.valid().astype(net.dtype), size), size)
    terminal = cut(padded(terminal, size), size)
    value, gradients = _terminal_gradients(plan, trial, inputs, terminal)
    steps = jnp.sum(trial.valid(), axis=0).astype(net.dtype)
    zero = {s.label: jnp.zeros(traces_shape(plan, s), net.dtype) for s in plan.sources}

    def body(carry: Any, xs: Any) -> Any:
        state, value, sums = carry
        inputs, valid, targets, running, terminal = xs
        outputs, after, _, tape = forward(net, inputs, state.network, tape=True)
        more, entering = _running(plan, outputs, targets, running)
        for label, g in gradients.items():
            entering[label] = terminal[label].astype(net.dtype)[:, :, None] * g[None]
        spikes = {n: tape.sources[n][-size:] for n in plan.counted}
        activity = count(state.activity, spikes, valid, plan.counted)
        prompt = rate_cotangents(
            plan.prompt, net, spikes, valid, activity._replace(steps=steps), state.activity
        )
        state, found = _chunk(plan, state, tape, entering, prompt, valid)
        state = LocalState(after, state.eligibility, state.filtered, {}, {}, state.rates, activity)
        return (state, value + more, jax.tree.map(jnp.add, sums, found)), None

    start = plan.start(trial.batch)
    start = LocalState(start.network, start.eligibility, start.filtered, {}, {}, start.rates, start.activity)
    xs = (inputs, valid, cut(padded(targets, size), size), cut(padded(running, size), size), terminal)
    (state, value, sums), _ = jax.lax.scan(body, (start, value, zero), xs)
    for s in plan.sources:
        if s.label in state.rates:
            for r in plan.late:
                each = r.cotangent(state.activity.counts[s.population], state.activity.steps, net.dt)
                sums[s.label] = sums[s.label] + rate_gradient(state.rates[s.label], each)
    return value + penalty(plan.regularizers, net, state.activity), sums


def _running(plan: Plan, outputs: dict[str, Array], targets: Any, weights: Any) -> tuple[Array, dict[str, Array]]:
    steps = jax.vmap(lambda y, t, w: step_loss(plan.net, plan.losses, t, w)(y))(outputs, targets, weights)
    return jnp.sum(steps[0]), steps[1]


def _terminal_gradients(plan: Plan, trial: Trial, inputs: Any, weights: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    # A terminal loss is a function of sums over the whole trial: one forward pass finds them and their gradients first.
    net = plan.net
    value = jnp.zeros((), net.dtype)
    if not weights:
        return value, {}

    def body(carry: Any, xs: Any) -> Any:
        state, totals = carry
        inputs, weights = xs
        outputs, state, _, _ = forward(net, inputs, state)
        more = {n: jnp.einsum("tb,tbk->bk", w.astype(net.dtype), outputs[n]) for n, w in weights.items()}
        return (state, jax.tree.map(jnp.add, totals, more)), None

    totals = {n: jnp.zeros((trial.batch, net.populations[plan.specs[n].population].size), net.dtype) for n in weights}
    (_, totals), _ = jax.lax.scan(body, (net.init_state(trial.batch), totals), (inputs, weights))
    targets, gradients = by_label(net, trial.targets, "targets"), {}
    for label, total in totals.items():
        loss = plan.losses[label]
        assert isinstance(loss, Terminal)
        more, gradients[label] = jax.value_and_grad(loss.final)(total, targets[label])
        value = value + more
    return value, gradients


def _chunk(
    plan: Plan,
    state: LocalState,
    tape: Tape,
    entering: dict[str, Array],
    prompt: dict[str, Array],
    valid: Array,
) -> tuple[LocalState, Gradient]:
    net, ends = plan.net, readouts(plan.net)
    outputs, variables = enter(net, entering)
    for name, g in prompt.items():
        outputs[name] = outputs[name] + g if name in outputs else g
    adjoints: dict[str, Adjoint] = {}
    indices: dict[str, dict[Any, int]] = {}
    for name in ends:
        lanes = _own_lanes(plan, name, tape, outputs, variables, valid)
        adjoints[name], indices[name] = _run(plan, name, tape, lanes), lanes.index
    for name in dict.fromkeys(s.population for s in plan.sources):
        if name in ends:
            continue
        paths = [p for p in plan.paths if p.projection.pre == name]
        for path in paths:
            post = path.projection.post
            back = transpose(path.weight, port_delta(net, path.projection, adjoints[post].delta[post][indices[post][LOSS]]))
            outputs[name] = outputs[name] + back if name in outputs else back
        lanes = _own_lanes(plan, name, tape, outputs, variables, valid)
        for path in paths:
            _readout_lanes(plan, name, path, adjoints, indices, lanes)
        adjoints[name], indices[name] = _run(plan, name, tape, lanes), lanes.index
    return _traces(plan, state, tape, adjoints, indices)


def _own_lanes(plan: Plan, name: str, tape: Tape, outputs: Any, variables: Any, valid: Array) -> Lanes:
    net = plan.net
    steps, batch = valid.shape
    like = jax.tree.map(lambda x: x[0], split_state(tape.states[name])[0])
    zero_state = jax.tree.map(jnp.zeros_like, like)
    zero = jnp.zeros((steps, batch, net.populations[name].size), net.dtype)
    given = variables.get(name, {})
    none = jax.tree.map(jnp.zeros_like, given)
    lanes = Lanes({LOSS: 0}, [outputs.get(name, zero)], [given], [zero_state])
    leaves, treedef = jax.tree.flatten(zero_state)
    for c in range(len(leaves)):
        one = [jnp.ones_like(x) if i == c else x for i, x in enumerate(leaves)]
        _append(lanes, c, zero, none, jax.tree.unflatten(treedef, one))
    if name in plan.late_populations:
        _append(lanes, RATE, jnp.broadcast_to(valid[:, :, None], zero.shape), none, zero_state)
    return lanes


def _append(lanes: Lanes, key: Any, outputs: Array, variables: dict[str, Array], state: PyTree) -> None:
    lanes.index[key] = len(lanes.outputs)
    lanes.outputs.append(outputs)
    lanes.variables.append(variables)
    lanes.states.append(state)


def _readout_lanes(plan: Plan, name: str, path: Path, adjoints: Any, indices: Any, lanes: Lanes) -> None:
    net, post = plan.net, path.projection.post
    traces.path_port(net, path)
    none = jax.tree.map(jnp.zeros_like, lanes.variables[0])
    zero_state = jax.tree.map(jnp.zeros_like, lanes.states[0])
    for c in range(traces.depth(net, post)):
        reach = port_delta(net, path.projection, adjoints[post].delta[post][indices[post][c]])
        for k in range(plan.outputs(post)):
            g = jnp.broadcast_to(reach[:, :, k : k + 1], lanes.outputs[0].shape)
            _append(lanes, (post, c, k), g, none, zero_state)


def _run(plan: Plan, name: str, tape: Tape, lanes: Lanes) -> Adjoint:
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)  # noqa: E731
    return jax.vmap(lambda o, v, s: backward_population(plan.net, name, tape, o, v, s))(
        jnp.stack(lanes.outputs), stack(lanes.variables), stack(lanes.states)
    )


def _traces(plan: Plan, state: LocalState, tape: Tape, adjoints: Any, indices: Any) -> tuple[LocalState, Gradient]:
    net = plan.net
    eligibility, filtered, rates, found = {}, {}, dict(state.rates), {}
    for s in plan.sources:
        adjoint, index = adjoints[s.population], indices[s.population]
        pre = traces.presynaptic(net, s, tape)
        delta = adjoint.delta[s.population]
        delta = delta[..., jnp.array(s.ports), :] if net.populations[s.population].ports else delta[..., None, :]
        firsts = jax.tree.leaves(adjoint.states[s.population])
        before = state.eligibility[s.label]

        def border(lane: int, firsts: Any = firsts, before: Array = before) -> Array:
            parts = [g[lane][:, None, :, None] * before[c] for c, g in enumerate(firsts)]
            return sum(parts[1:], parts[0])

        def inside(lane: int, s: Any = s, adjoint: Adjoint = adjoint, delta: Array = delta, pre: Array = pre) -> Array:
            if s.kind == "parameter":
                return jax.tree.leaves(adjoint.parameters[s.population])[int(s.key)][lane][:, None, :, None]
            return jnp.einsum("tbqj,tbi->bqji", delta[lane], pre)

        def summed(lane: int, s: Any = s, inside: Any = inside, delta: Array = delta, pre: Array = pre) -> Array:
            if s.kind == "parameter":
                return jnp.sum(inside(lane), axis=0)
            return jnp.einsum("tbqj,tbi->qji", delta[lane], pre)

        units = before.shape[3]
        eligibility[s.label] = jnp.stack([(inside(index[c]) + border(index[c]))[..., :units, :] for c in range(len(firsts))])
        total = summed(index[LOSS]) + jnp.sum(border(index[LOSS]), axis=0)
        for path in plan.through(s):
            post = path.projection.post
            name, own = f"{post}|{s.label}", jax.tree.leaves(adjoints[post].states[post])
            old, outs = state.filtered[name], plan.outputs(post)
            for c, g in enumerate(own):
                total = total + _through(path, g[indices[post][LOSS]], old[c])
            rows = []
            for c in range(len(own)):
                lanes = [index[post, c, k] for k in range(outs)]
                new = jnp.stack([inside(lane) + border(lane) for lane in lanes], axis=1)
                for before_c, g in enumerate(own):
                    new = new + g[indices[post][c]][:, :outs, None, None, None] * old[before_c]
                rows.append(new)
            filtered[name] = jnp.stack(rows)
        if s.label in rates:
            if plan.per_sample:
                rates[s.label] = rates[s.label] + inside(index[RATE]) + border(index[RATE])
            else:
                more = summed(index[RATE]) + jnp.sum(border(index[RATE]), axis=0)
                rates[s.label] = rates[s.label] + more[None]
        found[s.label] = total
    return LocalState(state.network, eligibility, filtered, {}, {}, rates, state.activity), found


def _through(path: Path, gradient: Array, trace: Array) -> Array:
    if trace.shape[1] == 1:
        return jnp.einsum("bj,bqji->qji", gradient @ path.weight, trace[:, 0])
    return jnp.einsum("bk,kj,bkqji->qji", gradient, path.weight, trace)

