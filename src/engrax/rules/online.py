"""Local rules online: one step at a time, memory independent of the number of steps.

Everything carried from step to step is a `LocalState`. `advance` moves it on by one step and gives that step's share
of the gradient; `finish` adds what is known only at a trial's end (terminal losses, firing rates of whole trials).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import MemoryBudgetError, RuleError
from ..losses import Loss, Regularizer, Running, Terminal
from ..network import Network, NetworkState
from ..network.cotangents import Path
from ..network.engine import forward
from . import fixed_point, traces
from .feedback import readouts
from .rates import Activity, count, counted, no_activity, rate_cotangents

Gradient = dict[str, Array]


class LocalState(eqx.Module):
    """What a local rule carries from step to step.

    network: the network's own state.  eligibility[source]: eligibility vectors, d of (batch, port, unit or 1, pre).
    filtered["readout|source"]: traces through each variable of a readout.  terminal["label|source"]: weighted sums of
    traces for terminal losses, and totals[label] of outputs.  rates[source]: sums of unfiltered traces for rate
    regularisation.  activity: spikes counted so far.  key: of the next step's rounding, where traces have few bits.
    """

    network: NetworkState
    eligibility: dict[str, list[Array]]
    filtered: dict[str, list[Array]]
    terminal: dict[str, Array]
    totals: dict[str, Array]
    rates: dict[str, Array]
    activity: Activity
    key: PRNGKeyArray | None = None


class Plan:
    """What is fixed before the first step: sources, paths, losses. Made anew whenever a rule is traced."""

    def __init__(
        self,
        net: Network,
        paths: list[Path],
        losses: dict[str, Loss],
        regularizers: tuple[Regularizer, ...],
        stream: bool = False,
        bits: int | None = None,
    ) -> None:
        traces.check_direct(net, paths)
        self.net, self.paths, self.losses, self.bits = net, paths, losses, bits
        self.sources = traces.sources(net)
        self.regularizers = regularizers
        self.counted = counted(regularizers, net)
        self.late = tuple(r for r in regularizers if not r.running)
        self.prompt = tuple(r for r in regularizers if r.running)
        self.late_populations = tuple(dict.fromkeys(n for r in self.late for n in r.on(net)))
        # Sums over all trials serve a rate that is averaged over them; single trials' rates, and a stream that starts
        # trials anew one by one, need one sum a trial.
        self.per_sample = stream or any(not r.pooled for r in self.late)
        self.specs = {o.label: o for o in net.output_specs}

    def through(self, source: traces.Source) -> list[Path]:
        """Paths by which a source's population reaches readouts."""
        return [p for p in self.paths if p.projection.pre == source.population]

    def terminal(self, label: str) -> bool:
        """Whether an output's loss is known only at the end."""
        return isinstance(self.losses.get(label), Terminal)

    def weights(self, source: traces.Source, label: str) -> list[Array | None]:
        """How a trace of `source` reaches an output: None where that is its own population, else path weights."""
        population = self.specs[label].population
        if source.population == population:
            return [None]
        return [p.weight for p in self.through(source) if p.projection.post == population]

    def pre_size(self, source: traces.Source) -> int:
        """Width of a source's presynaptic axis."""
        if source.kind != "weight":
            return 1
        projection = self.net.projections[source.key]
        assert projection.weight is not None
        return projection.weight.shape[-1] * (projection.reach + 1)

    def start(self, batch: int, key: PRNGKeyArray | None = None) -> LocalState:
        """The state before the first step. `key` is for the rounding of traces."""
        net = self.net
        eligibility = {s.label: traces.start(net, s, batch, self.pre_size(s)) for s in self.sources}
        filtered, terminal, rates = {}, {}, {}
        for s in self.sources:
            size = net.populations[s.population].size
            tail = (len(s.ports), size, self.pre_size(s))
            for path in self.through(s):
                post = path.projection.post
                zero = jnp.zeros((batch, self.outputs(post), *tail), net.dtype)
                filtered[f"{post}|{s.label}"] = [zero] * traces.depth(net, post)
            for label, spec in self.specs.items():
                if self.terminal(label) and self.weights(s, label):
                    own = spec.population == s.population
                    terminal[f"{label}|{s.label}"] = jnp.zeros(
                        (batch, 1 if own else self.outputs(spec.population), *tail), net.dtype
                    )
            if s.population in self.late_populations:
                rates[s.label] = jnp.zeros((batch if self.per_sample else 1, *tail), net.dtype)
        totals = {
            label: jnp.zeros((batch, net.populations[spec.population].size), net.dtype)
            for label, spec in self.specs.items()
            if self.terminal(label)
        }
        return LocalState(
            net.init_state(batch), eligibility, filtered, terminal, totals, rates, no_activity(net, batch), key
        )

    def rounding(self, key: PRNGKeyArray | None) -> tuple[fixed_point.Rounding | None, PRNGKeyArray | None]:
        """How this step rounds traces, and the key of the next one."""
        if self.bits is None:
            return None, key
        assert key is not None
        here, after = jax.random.split(key)
        return fixed_point.Rounding(self.bits, here), after

    def outputs(self, readout: str) -> int:
        """Length of the outputs axis of a filtered trace: 1 where all of a readout's units filter alike."""
        alike = traces.shared(self.net, readout)
        return 1 if alike and all(alike) else self.net.populations[readout].size

    def check_step_by_step(self) -> None:
        """Raise a RuleError for rates of a readout: what they say of a learner has no trace of its own."""
        for name in self.counted:
            if any(p.projection.post == name for p in self.paths):
                who = next(type(r).__name__ for r in self.regularizers if name in r.on(self.net))
                raise RuleError(
                    f"{who} on the readout {name!r} cannot be evaluated online: leave it out of its "
                    "populations, or use "
                    "evaluation='offline' or 'chunked'."
                )

    def check_memory(self, batch: int, budget: float, remedy: str) -> None:
        """Raise a MemoryBudgetError if the traces of `batch` trials would not fit the budget (bytes)."""
        state = jax.eval_shape(lambda: self.start(batch))
        arrays = [state.eligibility, state.filtered, state.terminal, state.rates]
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))
        if size > budget:
            raise MemoryBudgetError(
                f"eligibility traces of {batch} trials need {size / 2**30:.2f} GiB, more than memory_budget = "
                f"{budget / 2**30:.2f} GiB. {remedy}"
            )

    def contribute(self, source: traces.Source, label: str, trace: Array, gradient: Array) -> Array:
        """The gradient that dE/dy (batch, outputs) makes of a trace (batch, outputs or 1, port, unit, pre)."""
        total = None
        for weight in self.weights(source, label):
            if weight is None:
                part = over_trials(gradient, trace[:, 0])
            elif trace.shape[1] == 1:
                part = over_trials(gradient @ weight, trace[:, 0])
            else:
                part = jnp.einsum("bk,kj,bkqji->qji", gradient, weight, trace)
            total = part if total is None else total + part
        assert total is not None
        return total


def over_trials(each: Array, trace: Array) -> Array:
    """(port, unit, pre): sum over trials of a number for each unit (batch, unit) times a trace."""
    return jnp.sum(each[:, None, :, None] * trace, axis=0)


def advance(
    plan: Plan,
    state: LocalState,
    inputs: dict[str, Any],
    valid: Array,
    loss: Any,
    terminal_weights: dict[str, Array],
    total_steps: Array | None,
    keep: dict[str, float],
) -> tuple[LocalState, Array, dict[str, Array], Gradient]:
    """One step.

    Args:
        plan, state: as made by `Plan` and `Plan.start`.
        inputs: (batch, units) by name.
        valid: (batch,) 1 within each trial.
        loss: function of the outputs by label -> (loss, dE/dy by label) of this step.
        terminal_weights: (batch,) this step's weight in each terminal loss, by label.
        total_steps: (batch,) steps of the whole trials, for running rates; None: this step alone, a stream's share.
        keep: by label, how much of a terminal sum is kept: 1, or 0 where only the last step counts.

    Returns:
        The next state, this step's loss, its outputs by label, and its gradient by source label.
    """
    net = plan.net
    outputs, network, _, tape = forward(net, {n: x[None] for n, x in inputs.items()}, state.network, tape=True)
    outputs = {label: y[0] for label, y in outputs.items()}
    value, gradients = loss(outputs)
    needed = dict.fromkeys([*readouts(net), *(s.population for s in plan.sources)])
    blocks = {
        n: traces.jacobian(net, n, jax.tree.map(lambda x: x[0], tape.states[n]), tape.currents[n][0]) for n in needed
    }
    spikes = {n: tape.outputs[n] for n in plan.counted}
    activity = count(state.activity, spikes, valid[None], plan.counted)
    whole = Activity(activity.counts, valid.astype(net.dtype) if total_steps is None else total_steps)
    prompt = rate_cotangents(plan.prompt, net, spikes, valid[None], whole, state.activity)
    eligibility, filtered = dict(state.eligibility), dict(state.filtered)
    terminal, rates, found = dict(state.terminal), dict(state.rates), {}
    rounding, key = plan.rounding(state.key)
    for i, s in enumerate(plan.sources):
        rounded = None if rounding is None else rounding.fold(i)
        pre = traces.presynaptic(net, s, tape)[0]
        columns, block = traces.columns_of(net, s), blocks[s.population]
        before = state.eligibility[s.label]
        eligibility[s.label], trace, entering = fixed_point.advance(
            block, before, columns, pre, traces.depth(net, s.population), rounded
        )
        seen = {}
        for k, path in enumerate(plan.through(s)):
            post, column = path.projection.post, traces.depth(net, path.projection.post) + traces.path_port(net, path)
            # Apart from the keys of the eligibility vectors, one for each state variable.
            again = None if rounded is None else rounded.fold(1000 + k)
            name = f"{post}|{s.label}"
            for label, spec in plan.specs.items():
                if spec.population == post:
                    row = traces.output_row(net, post, spec.variable)
                    filtered[name], seen[label] = fixed_point.filter_trace(
                        blocks[post], state.filtered[name], column, trace, row, entering, again
                    )
        for label, spec in plan.specs.items():
            if spec.population == s.population:
                row = traces.output_row(net, spec.population, spec.variable)
                seen[label] = traces.advance(block, before, columns, pre, row)[1][:, None]
        tail = (len(s.ports), net.populations[s.population].size, pre.shape[-1])
        total = jnp.zeros(tail, net.dtype)
        for label, y in seen.items():
            if plan.terminal(label):
                name, weight = f"{label}|{s.label}", terminal_weights[label].astype(net.dtype)
                terminal[name] = keep[label] * terminal[name] + weight[:, None, None, None, None] * y
            else:
                total = total + plan.contribute(s, label, y, gradients[label])
        if s.population in prompt:
            total = total + over_trials(prompt[s.population][0], trace)
        if s.label in rates:
            counted_trace = valid.astype(net.dtype)[:, None, None, None] * trace
            rates[s.label] = rates[s.label] + (
                counted_trace if plan.per_sample else jnp.sum(counted_trace, 0, keepdims=True)
            )
        found[s.label] = total
    totals = {
        label: keep[label] * m + terminal_weights[label].astype(net.dtype)[:, None] * outputs[label]
        for label, m in state.totals.items()
    }
    after = LocalState(network, eligibility, filtered, terminal, totals, rates, activity, key)
    return after, value, outputs, found


def finish(plan: Plan, state: LocalState, targets: dict[str, Any], divide: dict[str, Array]) -> tuple[Array, Gradient]:
    """What is known only at the end of the trials: loss and gradient of terminal losses and whole-trial rates.

    Args:
        targets: by label.
        divide: (batch,) by label, what the weighted sums are still to be divided by.
    """
    net = plan.net
    value = jnp.zeros((), net.dtype)
    found = {s.label: jnp.zeros(traces_shape(plan, s), net.dtype) for s in plan.sources}
    for label, total in state.totals.items():
        loss = plan.losses[label]
        assert isinstance(loss, Terminal)
        part, gradient = jax.value_and_grad(lambda m, n=label, f=loss: f.final(m / divide[n][:, None], targets[n]))(
            total
        )
        value = value + part
        for s in plan.sources:
            if f"{label}|{s.label}" in state.terminal:
                found[s.label] = found[s.label] + plan.contribute(
                    s, label, state.terminal[f"{label}|{s.label}"], gradient
                )
    for r in plan.regularizers:
        for name in r.on(net):
            value = value + r.at(net, name).value(state.activity.counts[name], state.activity.steps, net.dt)
            if r.running:
                continue
            each = r.at(net, name).cotangent(state.activity.counts[name], state.activity.steps, net.dt)
            for s in plan.sources:
                if s.population == name:
                    found[s.label] = found[s.label] + rate_gradient(state.rates[s.label], each)
    return value, found


def rate_gradient(sums: Array, each: Array) -> Array:
    """Gradient from summed unfiltered traces (batch or 1, port, unit, pre) and dE/dz of a spike (batch or 1, unit)."""
    if each.shape[0] == 1:
        return jnp.einsum("j,qji->qji", each[0], jnp.sum(sums, axis=0))
    assert sums.shape[0] == each.shape[0], "rates of single trials need sums of single trials"
    return jnp.einsum("bj,bqji->qji", each, sums)


def traces_shape(plan: Plan, source: traces.Source) -> tuple[int, int, int]:
    """(port, unit, pre) of a source."""
    return len(source.ports), plan.net.populations[source.population].size, plan.pre_size(source)


def step_loss(net: Network, losses: dict[str, Loss], targets: dict[str, Any], weights: dict[str, Array]) -> Any:
    """The loss of one step as `advance` wants it: running losses only; terminal ones contribute nothing yet."""

    def function(outputs: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        def total(outputs: dict[str, Array]) -> Array:
            value = jnp.zeros((), net.dtype)
            for label, loss in losses.items():
                if isinstance(loss, Running):
                    value = value + loss.step(outputs[label], targets[label], weights[label])
            return value

        return jax.value_and_grad(total)(outputs)

    return function
