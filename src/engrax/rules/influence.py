"""Rules that carry influence forwards: what each weight has done to the state, exactly or by an approximation of it.

Exact, it is RTRL (Williams & Zipser 1989):

    M(t) = J M(t-1) + D U(t),    dE(t)/dw = dE/dy (Y M(t-1) + Z U(t))

with U(t) what weights do to currents at once: a presynaptic output, each at its own unit. A rule says how it writes M
down, and gives a gradient at every step. Terminal losses read weighted sums of outputs, which are carried like states.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..errors import LossError, RuleError
from ..losses import Loss, Running, Sequence, Terminal, named
from ..network import Network, NetworkState
from ..network.engine import forward
from ..network.validate import Output
from ..trial import Trial
from . import influence_stream, traces
from .arguments import check_init, check_update
from .local import assemble, per_step
from .online import step_loss
from .rates import count, counted, no_activity, penalty, rate_cotangents
from .rule import Rule, by_label, gradient_tree, total_loss
from .tangent import Step, linearise, matrices


class Plan(NamedTuple):
    """What is fixed before the first step: what trains, the losses of whole trials, and what a rule `prepare`s."""

    net: Network
    sources: Ordered[traces.Source]
    losses: dict[str, Loss]
    prepared: Any = None

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


def groups(plan: Plan) -> dict[str, list[traces.Source]]:
    """What trains, by the population that it enters."""
    found: dict[str, list[traces.Source]] = {}
    for s in plan.sources:
        found.setdefault(s.population, []).append(s)
    return found


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

    One that wants every step's errors at that step says so by `told` and has no `sums`: whole trials are run twice
    then, and in streams a terminal loss must come as `signal`. One with weights of its own, in `net.feedback`, names
    them by `own` and gives their gradient, too, by "feedback " and the name.
    """

    abstract: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    told: ClassVar[bool] = False
    knows_first_outputs: ClassVar[bool] = False

    def prepare(self, plan: Plan) -> Any:
        """What a rule needs at every step and can be made before the first: `plan.prepared`. Default: nothing."""
        return None

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

    def own(self, net: Network) -> Iterable[str]:
        """Names of the weights in `net.feedback` that are the rule's own and learn. Default: none."""
        return ()

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        losses = self.losses(net, trial)
        plan = self.plan(net, {} if self.told else losses)
        inputs, spent = net.check_inputs(trial.inputs), jnp.zeros((), net.dtype)
        more: dict[str, Array] = {}
        if self.regularizers:
            more, spent = self._regular(net, inputs, trial)
            plan = plan._replace(net=net.replace(output_specs=(*net.output_specs, *_watched(more))))
            plan = plan._replace(prepared=self.prepare(plan))
        if self.draws and key is None:
            raise RuleError(f"{type(self).__name__} draws random numbers: call with a key.")
        value = jnp.zeros((), net.dtype)
        if self.told:
            outputs, *_ = forward(net, inputs, net.init_state(trial.batch))
            value, errors = jax.value_and_grad(lambda y: total_loss(losses, y, trial, net))(outputs)
            steps: Any = (errors, {})
        else:
            stepped, running, terminal = per_step(net, losses, trial)
            steps = ((stepped, running), terminal)

        def body(carry: Any, xs: Any) -> Any:
            state, value, total = carry
            inputs, valid, more, (given, terminal) = xs
            known = (lambda _: (jnp.zeros_like(value), given)) if self.told else step_loss(net, losses, *given)

            def loss(outputs: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
                found, errors = known({n: y for n, y in outputs.items() if n not in more})
                return found, {**errors, **more}

            state, lost, found = self.advance(plan, state, inputs, loss, terminal, valid.astype(net.dtype))
            return (state, value + lost, jax.tree.map(jnp.add, total, found)), None

        start = (self.begin(plan, trial.batch, key), value, self._zeros(plan))
        (state, value, total), _ = jax.lax.scan(body, start, (inputs, trial.valid(), more, steps))
        if plan.sums:
            ones = dict.fromkeys(plan.sums, jnp.ones(trial.batch, net.dtype))
            late, found = self.end(plan, state, by_label(net, trial.targets, "targets"), ones)
            value, total = value + late, jax.tree.map(jnp.add, total, found)
        return value + spent, self.tree(plan._replace(net=net), total)

    def _regular(self, net: Network, inputs: dict[str, Any], trial: Trial) -> tuple[dict[str, Array], Array]:
        """What regularisers say of populations' outputs, (time, batch, units) by label, from a run beforehand; and what
        they add to the loss."""
        names, valid = counted(self.regularizers, net), trial.valid()
        _, _, spikes, _ = forward(net, inputs, net.init_state(trial.batch), record=names)
        before = no_activity(net, trial.batch)
        total = count(before, spikes, valid, names)
        found = rate_cotangents(self.regularizers, net, spikes, valid, total, before)
        return {f"output of {n}": g for n, g in found.items()}, penalty(self.regularizers, net, total)

    # Streaming: one step at a time, for ever.

    def init(self, net: Network, batch: int, key: PRNGKeyArray | None = None) -> InfluenceState:
        """What the rule carries from step to step, before the first one.

        Args:
            net: the network.
            batch: number of trials that run side by side.
            key: for rules that draw random numbers.
        """
        check_init(net, batch, key)
        if self.regularizers:
            raise RuleError(
                f"{type(self).__name__}'s streams have no regularisers: leave them out, or use whole trials."
            )
        if self.draws and key is None:
            raise RuleError(f"{type(self).__name__} draws random numbers: call init with a key.")
        return self.begin(self.plan(net, self.streamed(net)), batch, key)

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
        return influence_stream.update(self, net, state, x, targets, mask, reset, signal)

    def finish(self, net: Network, state: InfluenceState, target: Any = None) -> tuple[Float[Array, ""], Network]:
        """Loss and gradient of terminal losses, after the trials' last `update`."""
        targets = {} if target is None else by_label(net, target, "target")
        for label in state.totals:
            if label not in targets:
                raise LossError(f"finish() needs the target of output {label!r}.")
        return influence_stream.finish(self, net, state, targets)

    def chosen(self, label: str) -> Any:
        """What was asked for an output."""
        return self.loss.get(label) if isinstance(self.loss, dict) else self.loss

    def _named(self, label: str) -> Loss | None:
        chosen = self.chosen(label)
        return chosen if isinstance(chosen, Loss) else named(chosen, self.reduction, self.scale)

    def streamed(self, net: Network) -> dict[str, Loss]:
        """Losses that streams know only at the end."""
        found = {spec.label: self._named(spec.label) for spec in net.output_specs}
        late: dict[str, Loss] = {n: loss for n, loss in found.items() if isinstance(loss, Terminal | Sequence)}
        if self.told and late:
            raise LossError(
                f"{type(self).__name__} needs errors step by step: give update() a signal, or whole trials."
            )
        return late

    def plan(self, net: Network, losses: dict[str, Loss]) -> Plan:
        """What is fixed before the first step, or a refusal."""
        if any(isinstance(loss, Sequence) for loss in losses.values()):
            raise LossError("a loss of the whole sequence cannot be evaluated step by step: use BPTT.")
        matrices(net)
        plan = Plan(net, traces.sources(net), losses)
        for source in plan.sources:
            if not self.knows_first_outputs and traces.sets_first_output(net, source):
                raise RuleError(
                    f"{type(self).__name__} takes outputs before the first step as given, but a parameter of "
                    f"{source.population!r} that trains sets them: use BPTT or RTRL, or fix it."
                )
        return plan._replace(prepared=self.prepare(plan))

    def begin(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> InfluenceState:
        """The state before the first step."""
        net = plan.net
        sizes = {spec.label: net.populations[spec.population].size for spec in net.output_specs}
        totals = {label: jnp.zeros((batch, sizes[label]), net.dtype) for label in plan.sums}
        mine, later = (None, None) if key is None else jax.random.split(key)
        steps = jnp.zeros(batch, net.dtype)
        return InfluenceState(net.init_state(batch), self.start(plan, batch, mine), totals, steps, later)

    def advance(
        self, plan: Plan, state: InfluenceState, inputs: dict[str, Any], loss: Any, sums: dict[str, Array], valid: Array
    ) -> tuple[InfluenceState, Array, dict[str, Array]]:
        """A step: the state after it, its loss, and gradients by source."""
        net = plan.net
        outputs, network, _, tape = forward(net, {n: x[None] for n, x in inputs.items()}, state.network, tape=True)
        outputs = {label: y[0] for label, y in outputs.items()}
        value, errors = loss(outputs)
        here, later = (None, None) if state.key is None else jax.random.split(state.key)
        pre = {s.label: traces.presynaptic(net, s, tape)[0] for s in plan.sources}
        influence, seen = self.carry(plan, linearise(net, tape, network, sums, valid), state.influence, pre, here)
        totals = {label: total + sums[label][:, None] * outputs[label] for label, total in state.totals.items()}
        running = {label: e for label, e in errors.items() if label not in plan.sums}
        found = self._found(plan, influence, seen, running)
        return InfluenceState(network, influence, totals, state.steps + 1, later), value, found

    def end(
        self, plan: Plan, state: InfluenceState, targets: dict[str, Any], divide: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Loss and gradients by source of terminal losses."""
        value, errors = jnp.zeros((), plan.net.dtype), {}
        for label, total in state.totals.items():
            loss = plan.losses[label]
            assert isinstance(loss, Terminal)
            final = lambda y, n=label, f=loss: f.final(y / divide[n][:, None], targets[n])
            more, errors[label] = jax.value_and_grad(final)(total)
            value = value + more
        return value, self._found(plan, state.influence, self.sums(state.influence), errors)

    def _found(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        return self.gradient(plan, influence, seen, errors) if errors or self.told else self._zeros(plan)

    def _zeros(self, plan: Plan) -> dict[str, Array]:
        net = plan.net
        found = {s.label: jnp.zeros(plan.shape(s), net.dtype) for s in plan.sources}
        return found | {f"feedback {n}": jnp.zeros_like(net.feedback[n].weight) for n in self.own(net)}

    def tree(self, plan: Plan, found: dict[str, Array]) -> Network:
        """Gradients by source with the network's own tree."""
        own = {n: found[f"feedback {n}"] for n in self.own(plan.net)}
        return gradient_tree(plan.net, *assemble(plan.net, plan.sources, found), own)


def _watched(labels: Iterable[str]) -> list[Output]:
    """Outputs of populations that regularisers speak of."""
    return [Output(label, label.removeprefix("output of "), None) for label in labels]
