"""What the online evaluation would cost on a chip: operations counted from a run, and bytes from the network's shape.

Counts need no traces, only where the entries of every unit's Jacobian are zero: one that is not costs one
multiply-accumulate for each of the unit's synapses, and a presynaptic event one accumulate. A variable that moves alike
in all units has one trace for each presynaptic unit. Where a row only scales its own trace, the unit's scale does it
(`fixed_point`): one multiply-accumulate a unit, none a synapse.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import RuleError
from ..meter import Learning, Work, observe
from ..network.engine import forward
from ..trial import Trial
from . import traces
from .feedback import readouts
from .fixed_point import enters, mixes
from .local import per_step
from .online import Plan, step_loss

KINDS = ("eligibility", "filtering", "signals", "gradients")
# Sums over a trial, and scales of traces, are 32-bit numbers.
WIDE = 4
Counts = dict[str, Array]


def work(plan: Plan, trial: Trial) -> Learning:
    """What learning costs on a mean trial. See `meter.Learning`."""
    net = plan.net
    plan.check_step_by_step()
    if delays := [n for n, p in net.projections.items() if p.reach and p.trainable]:
        raise RuleError(
            f"projection {delays[0]!r} learns delays, and what that costs on a chip is not counted: make it "
            "trainable=False."
        )
    spiking = [n for n, p in net.populations.items() if p.sends_events]
    activity = observe(net, trial, net.run(trial.inputs, record=spiking))
    events = {*spiking, *(n for n, count in activity.graded.items() if float(count) == 0)}
    where = {s.label: _links(plan, s) for s in plan.sources}
    made = jax.jit(lambda trial: _counts(plan, trial, events, where))(trial)
    counts = {n: float(np.asarray(x, np.float64).sum()) / trial.batch for n, x in made.items()}
    links = {label: float(x.sum()) for label, x in where.items()}
    late = _late(plan, links)
    items = {
        kind: Work(counts.get(f"{kind} ac", 0.0), counts.get(f"{kind} mac", 0.0) + late.get(kind, 0.0))
        for kind in KINDS
    }
    items["writes"] = Work(0.0, sum(links.values()))
    skipped, updated = counts.get("skipped", 0.0), counts.get("updated", 0.0)
    steps = float(activity.steps) / trial.batch
    return Learning(
        items=items,
        gated=skipped / (skipped + updated) if skipped else 0.0,
        held=_held(plan, where),
        bits=_bits(plan),
        tape=steps * _step_bytes(plan, events),
        steps=steps,
    )


def _bits(plan: Plan) -> int:
    return plan.bits or 8 * jnp.dtype(plan.net.dtype).itemsize


def _links(plan: Plan, s: traces.Source) -> np.ndarray:
    """Where a source has synapses, (port, unit, pre)."""
    shape = (len(s.ports), plan.net.populations[s.population].size, plan.pre_size(s))
    found = plan.net.projections[s.key].links() if s.kind == "weight" else np.ones(shape)
    return np.asarray(found, np.float64).reshape(shape)


def _counts(plan: Plan, trial: Trial, events: set[str], where: dict[str, np.ndarray]) -> Counts:
    """(time, batch) of each figure, zero beyond a trial's length."""
    net = plan.net
    stepped, running, terminal = per_step(plan.net, plan.losses, trial)
    needed = dict.fromkeys([*readouts(net), *(s.population for s in plan.sources)])

    def body(state: Any, xs: Any) -> Any:
        inputs, valid, targets, running, terminal = xs
        outputs, state, _, tape = forward(net, {n: x[None] for n, x in inputs.items()}, state, tape=True)
        _, errors = step_loss(net, plan.losses, targets, running)({label: y[0] for label, y in outputs.items()})
        blocks = {
            n: traces.jacobian(net, n, jax.tree.map(lambda x: x[0], tape.states[n]), tape.currents[n][0])
            for n in needed
        }
        found: Counts = {}
        for label, g in errors.items():
            if not plan.terminal(label):
                _add(found, "signals mac", _fan(plan, label) * _ones(jnp.any(g != 0, axis=-1), net.dtype))
        for s in plan.sources:
            event = s.kind == "weight" and net.projections[s.key].pre in events
            links, block = jnp.asarray(where[s.label], net.dtype), blocks[s.population]
            each = jnp.sum(links, axis=-1)[None]
            pre = traces.presynaptic(net, s, tape)[0] if event else None
            _eligibility(plan, s, block, pre, links, found)
            _filtering(plan, s, blocks, each, found)
            _gradients(plan, s, block, errors, terminal, each, found)
        return state, {name: x * valid.astype(x.dtype) for name, x in found.items()}

    xs = (net.check_inputs(trial.inputs), trial.valid(), stepped, running, terminal)
    return jax.lax.scan(body, net.init_state(trial.batch), xs)[1]


def _add(counts: Counts, name: str, per_trial: Array) -> None:
    counts[name] = counts[name] + per_trial if name in counts else per_trial


def _ones(x: Array, dtype: Any) -> Array:
    return x.astype(dtype)


def _sum(x: Array) -> Array:
    """Over everything but the trials."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def _fan(plan: Plan, label: str) -> int:
    """Feedback weights that deal an output's error out to units that learn."""
    learners = {s.population for s in plan.sources}
    post = plan.specs[label].population
    return sum(p.weight.size for p in plan.paths if p.projection.post == post and p.projection.pre in learners)


def _eligibility(plan: Plan, s: traces.Source, block: Array, pre: Array | None, links: Array, found: Counts) -> None:
    """Eligibility vectors and, for units that send on, the trace.

    Args:
        block: the population's Jacobian at this step.
        pre: (batch, pre) where what enters are events, None where it is numbers.
        links: 1 at every synapse, (port, unit, pre).
        found: counts, added to.
    """
    net, depth = plan.net, traces.depth(plan.net, s.population)
    columns, alike = traces.columns_of(net, s), traces.shared(net, s.population)
    each = jnp.sum(links, axis=-1)[None]
    sent = None if pre is None else _ones(pre != 0, net.dtype)
    entering = "eligibility mac" if sent is None else "eligibility ac"
    sends = bool(plan.through(s)) or net.populations[s.population].sends_events
    for row in range(depth + 1 if sends else depth):
        terms = _ones(jnp.sum(block[row, :depth] != 0, axis=0), net.dtype)[:, None]
        entry = jnp.stack([_ones(block[row, c] != 0, net.dtype) for c in columns], axis=1)
        if row < depth and alike[row] and s.kind != "parameter":
            width = jnp.asarray(float(links.shape[-1]), net.dtype)
            _add(found, "eligibility mac", len(columns) * terms[:, 0, 0] * width)
            _add(found, entering, _sum(entry[..., 0] * (width if sent is None else jnp.sum(sent, -1)[:, None])))
            continue
        gate = _ones(enters(block, row, depth, columns), net.dtype)
        _add(found, "eligibility mac", _sum(gate * terms * each))
        _add(found, entering, _sum(entry * (each if sent is None else jnp.einsum("bi,qji->bqj", sent, links))))
        if row < depth:
            _scaled(gate, each, block[row, row][:, None], found, "eligibility mac")


def _scaled(gate: Array, each: Array, own: Array, found: Counts, name: str) -> None:
    """Trace updates that the gate lets through and leaves out, and what the scale takes instead."""
    _add(found, name, _sum((1 - gate) * _ones(own != 0, gate.dtype) * _ones(each > 0, gate.dtype)))
    _add(found, "updated", _sum(gate * each))
    _add(found, "skipped", _sum((1 - gate) * each))


def _filtering(plan: Plan, s: traces.Source, blocks: dict[str, Array], each: Array, found: Counts) -> None:
    """A source's traces through each readout that it reaches; `each`: synapses of a unit, (1, port, unit)."""
    net, block = plan.net, blocks[s.population]
    own = traces.depth(net, s.population)
    trace = _ones(enters(block, own, own, traces.columns_of(net, s)), net.dtype)[:, None]
    for post, path in {p.projection.post: p for p in plan.through(s)}.items():
        readout, depth = blocks[post], traces.depth(net, post)
        column = depth + traces.path_port(net, path)
        wide = lambda x, post=post: _ones(x, net.dtype)[:, : plan.outputs(post), None, None]
        for row in range(depth):
            into = wide(readout[row, column] != 0) * trace
            gate = jnp.maximum(wide(mixes(readout, row, depth)), into)
            terms = wide(jnp.sum(readout[row, :depth] != 0, axis=0))
            _add(found, "filtering mac", _sum((gate * terms + into) * each[None]))
            _scaled(gate, each[None], wide(readout[row, row]), found, "filtering mac")


def _gradients(
    plan: Plan, s: traces.Source, block: Array, errors: Any, terminal: Any, each: Array, found: Counts
) -> None:
    """Signals times traces, and sums of traces for what is known only at the end."""
    net, depth = plan.net, traces.depth(plan.net, s.population)
    for label in plan.specs:
        for weight in plan.weights(s, label):
            outputs = 1 if weight is None else plan.outputs(plan.specs[label].population)
            if plan.terminal(label):
                held = outputs * jnp.sum(each)
                _add(found, "gradients ac", held * _ones(terminal[label] != 0, net.dtype))
            elif weight is None:
                _add(found, "gradients mac", _sum(_ones(errors[label] != 0, net.dtype)[:, None] * each))
            elif outputs == 1:
                signal = errors[label] @ weight
                _add(found, "gradients mac", _sum(_ones(signal != 0, net.dtype)[:, None] * each))
            else:
                felt = _ones(errors[label] != 0, net.dtype) @ _ones(weight != 0, net.dtype)
                _add(found, "gradients mac", _sum(felt[:, None] * each))
    trace = _ones(enters(block, depth, depth, traces.columns_of(net, s)), net.dtype)
    if s.population in plan.late_populations:
        _add(found, "gradients ac", _sum(trace * each))
    if any(s.population in r.on(net) for r in plan.prompt):
        _add(found, "gradients mac", _sum(trace * each))


def _late(plan: Plan, links: dict[str, float]) -> dict[str, float]:
    """Multiply-accumulates at a trial's end: sums of traces meet what is known then."""
    found = {"signals": 0.0, "gradients": 0.0}
    for label, spec in plan.specs.items():
        if not plan.terminal(label):
            continue
        found["signals"] += _fan(plan, label)
        for s in plan.sources:
            for weight in plan.weights(s, label):
                found["gradients"] += links[s.label] * (1 if weight is None else plan.outputs(spec.population))
    found["gradients"] += sum(links[s.label] for s in plan.sources if s.population in plan.late_populations)
    return found


def _held(plan: Plan, where: dict[str, np.ndarray]) -> dict[str, float]:
    """Bytes of one trial's traces, of their scales, and of sums over it."""
    links = {label: float(x.sum()) for label, x in where.items()}
    net, numbers, scales, sums = plan.net, 0.0, 0.0, sum(links.values())
    for s in plan.sources:
        ports, reached = len(s.ports), float(np.any(where[s.label], axis=-1).sum())
        for alike in traces.shared(net, s.population):
            shared = alike and s.kind != "parameter"
            numbers += ports * plan.pre_size(s) if shared else links[s.label]
            scales += ports if shared else reached
        for post in {p.projection.post for p in plan.through(s)}:
            wide = plan.outputs(post) * traces.depth(net, post)
            numbers, scales = numbers + wide * links[s.label], scales + wide * reached
        for label, spec in plan.specs.items():
            if plan.terminal(label) and (weights := plan.weights(s, label)):
                sums += links[s.label] * (1 if weights[0] is None else plan.outputs(spec.population))
        if s.population in plan.late_populations:
            sums += links[s.label]
    return {"traces": numbers * _bits(plan) / 8, "scales": WIDE * scales if plan.bits else 0.0, "sums": WIDE * sums}


def _step_bytes(plan: Plan, events: set[str]) -> float:
    """The least that BPTT must hold of a step: inputs, and state variables, or outputs where there are none."""
    net, size = plan.net, jnp.dtype(plan.net.dtype).itemsize
    # Spikes follow from the state.
    states = sum(size * p.size * max(traces.depth(net, n), 1) for n, p in net.populations.items())
    return states + sum(n / 8 if name in events else n * size for name, n in net.inputs.items())
