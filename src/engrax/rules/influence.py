"""Rules that carry influence forwards: what each weight has done to the state, exactly or by an approximation of it.

Exact, it is RTRL (Williams & Zipser 1989):

    M(t) = J M(t-1) + D U(t),    dE(t)/dw = dE/dy (Y M(t-1) + Z U(t))

with U(t) what weights do to currents at once: a presynaptic output, each at its own unit. A rule says how it writes M
down, and gives a gradient at every step. Terminal losses read weighted sums of outputs, which are carried like states.
"""

from collections.abc import Sequence as Ordered
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..errors import LossError, RuleError
from ..losses import Loss, Running, Sequence, Terminal, as_loss, named
from ..network import Network, NetworkState
from ..network.engine import forward
from ..trial import Trial
from . import traces
from .arguments import check_init, check_update
from .local import assemble, per_step
from .online import step_loss
from .rule import Rule, by_label, gradient_tree
from .tangent import Change, Step, linearise, matrices


class Plan(NamedTuple):
    """What is fixed before the first step: what trains, and the losses of whole trials."""

    net: Network
    sources: Ordered[traces.Source]
    losses: dict[str, Loss]

    @property
    def sums(self) -> tuple[str, ...]:
        """Outputs whose loss is known only at a trial's end."""
        return tuple(label for label, loss in self.losses.items() if isinstance(loss, Terminal))

    def shape(self, source: traces.Source) -> tuple[int, int, int]:
        """(port, unit, pre) of a source."""
        width = 1
        if source.kind == "weight":
            projection = self.net.projections[source.key]
            matrix = jax.eval_shape(lambda: projection.unfold(projection.effective()))
            width = matrix.shape[-1]
        return len(source.ports), self.net.populations[source.population].size, width

    def columns(self, source: traces.Source) -> list[int]:
        """Where a source enters its population: places among its currents and parameters, one a port."""
        depth = traces.depth(self.net, source.population)
        return [c - depth for c in traces.columns_of(self.net, source)]

    def entries(self, name: str) -> int:
        """How many currents and parameters a population has."""
        own = len([s for s in self.sources if s.kind == "parameter" and s.population == name])
        return max(len(self.net.populations[name].ports), 1) + own


class InfluenceState(eqx.Module):
    """What such a rule carries: the network's state, influence, sums of outputs, steps so far, the key of the next."""

    network: NetworkState
    influence: Any
    totals: dict[str, Array]
    steps: Array
    key: PRNGKeyArray | None


class Influence(Rule):
    """Base of the rules that carry influence forwards.

    A subclass defines `start`, `carry`, `gradient` and `sums`; one that draws random numbers says so by `draws`. What
    it carries is any tree of `Change`s and of arrays (batch, ...).
    """

    abstract: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        """The influence before the first step."""
        raise TypeError(f"{type(self).__name__} must define start(plan, batch, key).")

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        """The influence after a step, and that on the outputs, as `gradient` reads it.

        Args:
            pre: what each source saw, (batch, pre), by its label.
        """
        raise TypeError(f"{type(self).__name__} must define carry(plan, step, before, pre, key).")

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        """dE by source, (port, unit, pre), summed over trials.

        Args:
            influence: after the step. seen: what `carry` says of the outputs, or `sums` of the influence.
            errors: dE/dy (batch, outputs), by label.
        """
        raise TypeError(f"{type(self).__name__} must define gradient(plan, influence, seen, errors).")

    def sums(self, influence: Any) -> Any:
        """The influence on the sums that terminal losses read, as `gradient` reads it."""
        raise TypeError(f"{type(self).__name__} must define sums(influence).")

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        losses = self.losses(net, trial)
        plan = self._plan(net, losses)
        if self.draws and key is None:
            raise RuleError(f"{type(self).__name__} draws random numbers: call with a key.")
        stepped, running, terminal = per_step(net, losses, trial)

        def body(carry: Any, xs: Any) -> Any:
            state, value, total = carry
            inputs, targets, running, terminal = xs
            state, more, found = self._advance(plan, state, inputs, step_loss(net, losses, targets, running), terminal)
            return (state, value + more, jax.tree.map(jnp.add, total, found)), None

        zero = {s.label: jnp.zeros(plan.shape(s), net.dtype) for s in plan.sources}
        start = (self._begin(plan, trial.batch, key), jnp.zeros((), net.dtype), zero)
        xs = (net.check_inputs(trial.inputs), stepped, running, terminal)
        (state, value, total), _ = jax.lax.scan(body, start, xs)
        ones = dict.fromkeys(plan.sums, jnp.ones(trial.batch, net.dtype))
        late, found = self._end(plan, state, by_label(net, trial.targets, "targets"), ones)
        return value + late, _tree(plan, jax.tree.map(jnp.add, total, found))

    # Streaming: one step at a time, for ever.

    def init(self, net: Network, batch: int, key: PRNGKeyArray | None = None) -> InfluenceState:
        """What the rule carries from step to step, before the first one.

        Args:
            net: the network.
            batch: number of trials that run side by side.
            key: for rules that draw random numbers.
        """
        check_init(net, batch, key)
        if self.draws and key is None:
            raise RuleError(f"{type(self).__name__} draws random numbers: call init with a key.")
        return self._begin(self._plan(net, self._streamed(net)), batch, key)

    def update(
        self,
        net: Network,
        state: InfluenceState,
        x: PyTree[Float[Array, "batch _"]],
        target: Any = None,
        mask: Any = 1.0,
        reset: Bool[Array, " batch"] | None = None,
        signal: Float[Array, "batch outputs"] | None = None,
    ) -> tuple[InfluenceState, Float[Array, ""], Network]:
        """One time step: the next state, this step's loss and this step's gradient. Arguments: `EProp.update`."""
        check_update(net, state, x, target, mask, reset, signal, InfluenceState)
        targets = {} if target is None else by_label(net, target, "target")
        for label in targets:
            if not isinstance(self._named(label), Running | None):
                raise LossError("a terminal loss is not known at a single step: call update() without a target.")
        return _update(self, net, state, x, targets, mask, reset, signal)

    def finish(self, net: Network, state: InfluenceState, target: Any = None) -> tuple[Float[Array, ""], Network]:
        """Loss and gradient of terminal losses, after the trials' last `update`."""
        targets = {} if target is None else by_label(net, target, "target")
        for label in state.totals:
            if label not in targets:
                raise LossError(f"finish() needs the target of output {label!r}.")
        return _finish(self, net, state, targets)

    def _chosen(self, label: str) -> Any:
        return self.loss.get(label) if isinstance(self.loss, dict) else self.loss

    def _named(self, label: str) -> Loss | None:
        chosen = self._chosen(label)
        return chosen if isinstance(chosen, Loss) else named(chosen, self.reduction, self.scale)

    def _streamed(self, net: Network) -> dict[str, Loss]:
        found = {spec.label: self._named(spec.label) for spec in net.output_specs}
        return {label: loss for label, loss in found.items() if isinstance(loss, Terminal | Sequence)}

    def _plan(self, net: Network, losses: dict[str, Loss]) -> Plan:
        if any(isinstance(loss, Sequence) for loss in losses.values()):
            raise LossError("a loss of the whole sequence cannot be evaluated step by step: use BPTT.")
        if self.regularizers:
            raise RuleError(f"{type(self).__name__} has no regularisers: leave them out.")
        matrices(net)
        return Plan(net, traces.sources(net), losses)

    def _begin(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> InfluenceState:
        net = plan.net
        sizes = {spec.label: net.populations[spec.population].size for spec in net.output_specs}
        totals = {label: jnp.zeros((batch, sizes[label]), net.dtype) for label in plan.sums}
        mine, later = (None, None) if key is None else jax.random.split(key)
        steps = jnp.zeros(batch, net.dtype)
        return InfluenceState(net.init_state(batch), self.start(plan, batch, mine), totals, steps, later)

    def _advance(
        self, plan: Plan, state: InfluenceState, inputs: dict[str, Any], loss: Any, sums: dict[str, Array]
    ) -> tuple[InfluenceState, Array, dict[str, Array]]:
        net = plan.net
        outputs, network, _, tape = forward(net, {n: x[None] for n, x in inputs.items()}, state.network, tape=True)
        outputs = {label: y[0] for label, y in outputs.items()}
        value, errors = loss(outputs)
        here, later = (None, None) if state.key is None else jax.random.split(state.key)
        pre = {s.label: traces.presynaptic(net, s, tape)[0] for s in plan.sources}
        influence, seen = self.carry(plan, linearise(net, tape, sums), state.influence, pre, here)
        totals = {label: total + sums[label][:, None] * outputs[label] for label, total in state.totals.items()}
        running = {label: e for label, e in errors.items() if label not in plan.sums}
        found = self._found(plan, influence, seen, running)
        return InfluenceState(network, influence, totals, state.steps + 1, later), value, found

    def _end(
        self, plan: Plan, state: InfluenceState, targets: dict[str, Any], divide: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        value, errors = jnp.zeros((), plan.net.dtype), {}
        for label, total in state.totals.items():
            loss = plan.losses[label]
            assert isinstance(loss, Terminal)
            final = lambda y, n=label, f=loss: f.final(y / divide[n][:, None], targets[n])
            more, errors[label] = jax.value_and_grad(final)(total)
            value = value + more
        return value, self._found(plan, state.influence, self.sums(state.influence), errors)

    def _found(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        if not errors:
            return {s.label: jnp.zeros(plan.shape(s), plan.net.dtype) for s in plan.sources}
        return self.gradient(plan, influence, seen, errors)


def _tree(plan: Plan, found: dict[str, Array]) -> Network:
    return gradient_tree(plan.net, *assemble(plan.net, plan.sources, found))


@eqx.filter_jit
def _update(
    rule: Influence, net: Network, state: InfluenceState, x: Any, targets: Any, mask: Any, reset: Any, signal: Any
) -> tuple[InfluenceState, Array, Network]:
    plan = rule._plan(net, rule._streamed(net))
    inputs = {n: a[0] for n, a in net.check_inputs(jax.tree.map(lambda a: jnp.asarray(a)[None], x)).items()}
    batch = state.steps.shape[0]
    weight = jnp.broadcast_to(jnp.asarray(mask, net.dtype), (batch,))
    if reset is not None:
        state = _anew(rule._begin(plan, batch, state.key), state, reset)
    # Sums of the last step alone forget what came before.
    fresh = [n for n in plan.sums if plan.losses[n].over == "last"]  # type: ignore[attr-defined]
    if fresh:
        state = eqx.tree_at(lambda s: s.totals, state, {n: t * float(n not in fresh) for n, t in state.totals.items()})
        state = eqx.tree_at(lambda s: s.influence, state, forget(state.influence, fresh))
    losses = {n: as_loss(rule._chosen(n), jnp.asarray(t)[None], rule.reduction, rule.scale) for n, t in targets.items()}
    total = jnp.where(jnp.sum(weight) > 0, jnp.sum(weight), 1)
    weights = {n: f.scale * (weight / total if f.reduction == "mean" else weight) for n, f in losses.items()}
    if signal is None:
        loss = step_loss(net, losses, targets, weights)
    else:
        given = {n: jnp.asarray(g, net.dtype) for n, g in by_label(net, signal, "signal").items()}
        loss = lambda outputs: (jnp.zeros((), net.dtype), given)
    state, value, found = rule._advance(plan, state, inputs, loss, dict.fromkeys(plan.sums, weight))
    return state, value, _tree(plan, found)


@eqx.filter_jit
def _finish(rule: Influence, net: Network, state: InfluenceState, targets: Any) -> tuple[Array, Network]:
    plan = rule._plan(net, rule._streamed(net))
    means = {n: plan.losses[n].over == "mean" for n in plan.sums}  # type: ignore[attr-defined]
    steps = jnp.maximum(state.steps, 1)
    divide = {n: steps if mean else jnp.ones_like(steps) for n, mean in means.items()}
    value, found = rule._end(plan, state, targets, divide)
    return value, _tree(plan, found)


def _is_change(x: Any) -> bool:
    return isinstance(x, Change)


def forget(influence: Any, labels: Ordered[str]) -> Any:
    """An influence without that on the sums of some outputs."""

    def one(x: Any) -> Any:
        return x._replace(sums={n: s * float(n not in labels) for n, s in x.sums.items()}) if _is_change(x) else x

    return jax.tree.map(one, influence, is_leaf=_is_change)


def _anew(fresh: InfluenceState, old: InfluenceState, reset: Array) -> InfluenceState:
    """The state with the marked trials (batch,) as before their first step."""

    def pick(axis: int) -> Any:
        def one(new: Array, old: Array) -> Array:
            return jnp.where(reset.reshape((1,) * axis + (-1,) + (1,) * (old.ndim - axis - 1)), new, old)

        return lambda a, b: jax.tree.map(one, a, b)

    def influence(new: Any, old: Any) -> Any:
        if not _is_change(new):
            return pick(0)(new, old)
        return Change(pick(1)(new.states, old.states), pick(1)(new.history, old.history), pick(0)(new.sums, old.sums))

    network = eqx.tree_at(
        lambda n: (n.neurons, n.history),
        old.network,
        (pick(0)(fresh.network.neurons, old.network.neurons), pick(1)(fresh.network.history, old.network.history)),
    )
    carried = jax.tree.map(influence, fresh.influence, old.influence, is_leaf=_is_change)
    return InfluenceState(network, carried, pick(0)(fresh.totals, old.totals), pick(0)(fresh.steps, old.steps), old.key)
