"""e-prop: delta is the adjoint through a unit's own state only; the error comes in through readouts or feedback.

Every recurrent path is cut, everything else is exact (Bellec et al. 2020, Eqs. 1-4). One gradient, three evaluations:
*online* carries traces forward, *offline* is one reverse scan and one product, *chunked* is offline inside a chunk with
traces across chunk borders. They agree to rounding.
"""

from collections import OrderedDict
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..errors import ArgumentError, LossError, RuleError
from ..losses import Loss, Running, Sequence, Terminal, as_loss, named
from ..meter import Learning
from ..network import Network
from ..network.adjoint import backward
from ..network.cotangents import Cotangents, Path
from ..network.engine import forward
from ..network.tape import Tape
from ..neurons.alif import with_trace
from ..parameter import choice
from ..trial import Trial
from . import feedback as routes
from .arguments import check_init, check_settings, check_update
from .chunked import chunked
from .local import assemble, online
from .online import LocalState, Plan
from .rates import count, counted, no_activity, penalty, rate_cotangents
from .rule import (
    Rule,
    add,
    by_label,
    check_network,
    check_trial,
    enter,
    gradient_tree,
    parameter_gradients,
    total_loss,
)
from .stream import close, update
from .work import work


def _at_least_one(name: str) -> Any:
    def convert(x: Any) -> int | None:
        if x is None:
            return None
        if isinstance(x, bool) or not isinstance(x, int) or x < 1:
            raise ArgumentError(f"EProp: {name} must be an integer of at least 1, got {x!r}.")
        return x

    return convert


class EProp(Rule):
    """Eligibility propagation.

    Args:
        feedback: how errors reach a population: "symmetric" (the readout's own weights), "random" (fixed), "adaptive"
            (moves with the readout's weights; pair it with `optim.kolen_pollack`), "uniform" (all equal), "shuffled"
            (symmetric, but dealt out to other units, anew at each gradient: a control).
        feedback_scale: standard deviation of random and adaptive feedback weights, value of uniform ones; None: 1,
            1 / sqrt(outputs) and 1 / sqrt(units). Symmetric feedback has no weights of its own.
        trace: "full", "simplified" or "none": how eligibility goes through adaptation, whatever models say of it
            (`neurons.ALIF`); None: as they say.
        evaluation: "offline", "online" or "chunked".
        trace_bits: bits of each trace that the online evaluation carries from step to step, 2 to 16, rounded
            stochastically (`rules.fixed_point`); None: floating point. Sums over a trial keep their precision. Calls
            then need a key.
        chunk: steps a chunk; None: three times the largest number of presynaptic units, and 100 at least, so that a
            chunk takes about as much memory as the traces.
        seed: draws the feedback weights of an unbound random rule.
        memory_budget: bytes that traces may take before online or chunked evaluation refuses.
        loss, reduction, scale, regularizers: see `Rule`.

    Cost for T steps, n units, m presynaptic units: offline time T n m, memory T (n + m); online time and memory
    traffic T batch n m (d + 1), memory batch n m (d + 1) whatever T; chunked between the two.

    Source: Bellec et al. 2020.
    """

    reference: ClassVar[str | None] = "local"

    feedback: str = choice("feedback", "symmetric", (*routes.KINDS, "shuffled"))
    feedback_scale: float | None = eqx.field(static=True, default=None)
    evaluation: str = choice("evaluation", "offline", ("offline", "online", "chunked"))
    chunk: int | None = eqx.field(static=True, default=None, converter=_at_least_one("chunk"))
    seed: int = eqx.field(static=True, default=0)
    memory_budget: float = eqx.field(static=True, default=4 * 2.0**30)
    trace: str | None = eqx.field(static=True, default=None)
    trace_bits: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_settings(self)

    @property
    def drawn(self) -> bool:
        """Whether the feedback has weights of its own."""
        return routes.drawn(self.feedback)

    def bind(self, net: Network, key: PRNGKeyArray) -> Network:
        """The network with feedback weights in `net.feedback["readout->population"]`, shaped (population, readout).

        Random: N(0, 1). Adaptive: N(0, 1 / outputs). Uniform: 1 / sqrt(units). Or as `feedback_scale` says. Symmetric:
        none.
        """
        return routes.bind(self, net, key)

    def bound(self, net: Network) -> Network:
        """The network with feedback weights, drawn from `seed` where a random rule was never bound.

        Raises:
            RuleError: an adaptive rule was never bound.
        """
        return routes.bound(self, net)

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        bound = self._seen(self.bound(net))
        paths = routes.local_paths(bound, self.feedback)
        if self.feedback == "shuffled":
            if key is None:
                raise RuleError("shuffled feedback is dealt out anew at each gradient: call with a key.")
            paths = routes.shuffled(bound, paths, key)
        if self.evaluation == "offline":
            loss, weights, biases, parameters = self._offline(bound, trial, paths)
        else:
            losses = self.losses(bound, trial)
            self._causal(losses)
            plan = Plan(bound, paths, losses, self.regularizers, bits=self.trace_bits)
            plan.check_memory(
                trial.batch, self.memory_budget, "Use evaluation='offline', a smaller batch or a larger budget."
            )
            size = self.chunk or max(100, *(3 * plan.pre_size(s) for s in plan.sources))
            draw = self._drawing(key, "call")
            loss, found = online(plan, trial, draw) if self.evaluation == "online" else chunked(plan, trial, size)
            weights, biases, parameters = assemble(plan.net, plan.sources, found)
        backwards = routes.feedback_gradients(net, weights)
        return loss, gradient_tree(net, weights, biases, parameters, backwards)

    def _seen(self, net: Network) -> Network:
        """The network with traces as the rule wants them."""
        if self.trace is None:
            return net
        populations = OrderedDict((n, with_trace(p, self.trace)) for n, p in net.populations.items())
        if self.trace != "full" and all(populations[n] is p for n, p in net.populations.items()):
            raise RuleError(f"trace={self.trace!r} has no meaning here: no population has an adaptation.")
        return net.replace(populations=populations)

    def work(self, net: Network, trial: Trial) -> Learning:
        """What the online evaluation would cost on a chip, on a mean trial, whatever `evaluation` is.

        Raises:
            RuleError: the network or a regulariser has no online form.
            LossError: the loss has none.
        """
        check_network(net)
        bound, losses = self._seen(self.bound(net)), self.losses(net, trial)
        check_trial(bound, trial, losses)
        self._causal(losses)
        paths = routes.local_paths(bound, self.feedback)
        return work(Plan(bound, paths, losses, self.regularizers, bits=self.trace_bits), trial)

    def _heard(self, net: Network, tape: Tape) -> Tape:
        """The run as synapses remember it."""
        return tape

    def _causal(self, losses: dict[str, Loss]) -> None:
        if any(isinstance(loss, Sequence) for loss in losses.values()):
            raise LossError("a loss of the whole sequence has no online or chunked form: use evaluation='offline'.")

    def _offline(self, net: Network, trial: Trial, paths: list[Path]) -> Any:
        inputs, valid = net.check_inputs(trial.inputs), trial.valid()
        losses, names = self.losses(net, trial), counted(self.regularizers, net)
        outputs, _, _, tape = forward(net, inputs, net.init_state(trial.batch), tape="lean")
        tape = self._heard(net, tape)
        loss, gradients = jax.value_and_grad(lambda y: total_loss(losses, y, trial, net))(outputs)
        entering, variables = enter(net, gradients)
        spikes = {n: tape.outputs[n] for n in names}
        nothing = no_activity(net, trial.batch)
        total = count(nothing, spikes, valid, names)
        entering = add(entering, rate_cotangents(self.regularizers, net, spikes, valid, total, nothing))
        adjoint = backward(net, tape, Cotangents(entering, variables, {}, {}), paths, local=True, gradients=True)
        loss = loss + penalty(self.regularizers, net, total)
        return loss, adjoint.weights, adjoint.biases, parameter_gradients(net, adjoint._replace(history={}))

    # Streaming: one step at a time, for ever.

    def init(self, net: Network, batch: int, key: PRNGKeyArray | None = None) -> LocalState:
        """What the rule carries from step to step, before the first one.

        Args:
            net: the network (bound, where the feedback needs it).
            batch: number of trials that run side by side.
            key: rounds traces of few bits; else unused.
        """
        check_init(net, batch, key)
        draw = self._drawing(key, "call init")
        plan = self.stream_plan(net)
        plan.check_memory(batch, self.memory_budget, "Use a smaller batch or a larger budget.")
        return plan.start(batch, draw)

    def update(
        self,
        net: Network,
        state: LocalState,
        x: PyTree[Float[Array, "batch _"]],
        target: Any = None,
        mask: Any = 1.0,
        reset: Bool[Array, " batch"] | None = None,
        signal: Float[Array, "batch outputs"] | None = None,
    ) -> tuple[LocalState, Float[Array, ""], Network]:
        """One time step: the next state, this step's loss and this step's gradient.

        The loss of a step is averaged over the trials by their mask (or summed). Rate regularisers must be
        `running=True` to act here; those on whole trials act in `finish`.

        Args:
            x: (batch, units) inputs, or a dict of these.
            target: (batch, outputs) values or (batch,) classes; None: no loss at this step.
            mask: weight of the loss, a number or (batch,).
            reset: trials to start anew before this step.
            signal: dE/dy (batch, outputs) in place of a target and loss.

        Raises:
            LossError: the loss cannot be used step by step.
        """
        check_update(net, state, x, target, mask, reset, signal)
        targets = {} if target is None else by_label(net, target, "target")
        for label, value in targets.items():
            self._prompt_loss(label, value)
        return _update(self, net, state, x, targets, mask, reset, signal)

    def finish(self, net: Network, state: LocalState, target: Any = None) -> tuple[Float[Array, ""], Network]:
        """Loss and gradient of what is known only at the trials' end, after their last `update`.

        These are terminal losses, named in the rule's `loss` ("cross_entropy_mean", ...), and firing rates of whole
        trials. Start the next trials with `reset=` or a new `init`.

        Args:
            target: (batch,) classes or (batch, outputs) values for the terminal loss.
        """
        targets = {} if target is None else by_label(net, target, "target")
        for label in state.totals:
            if label not in targets:
                raise LossError(f"finish() needs the target of output {label!r}.")
        return _finish(self, net, state, targets)

    def _drawing(self, key: PRNGKeyArray | None, call: str) -> PRNGKeyArray | None:
        """The key where random numbers are drawn, else None."""
        if self.trace_bits is not None and key is None:
            raise RuleError(f"traces of {self.trace_bits} bits are rounded at random: {call} with a key.")
        return None if self.trace_bits is None else key

    def _chosen(self, label: str) -> Any:
        return self.loss.get(label) if isinstance(self.loss, dict) else self.loss

    def _prompt_loss(self, label: str, target: Any) -> Running:
        chosen = self._chosen(label)
        loss = chosen if isinstance(chosen, Loss) else named(chosen, self.reduction, self.scale)
        if loss is not None and not isinstance(loss, Running):
            raise LossError(
                f"the loss {chosen!r} is not known at a single step: call update() without a target, and finish() with "
                "the target at the trial's end."
            )
        loss = as_loss(chosen, jnp.asarray(target)[None], self.reduction, self.scale)
        assert isinstance(loss, Running)
        return loss

    def stream_plan(self, net: Network) -> Plan:
        """What is fixed of a stream, but for the losses of its steps.

        Raises:
            RuleError, LossError: feedback or a loss cannot be streamed.
        """
        if self.feedback == "shuffled":
            raise RuleError("shuffled feedback is a control for whole trials: it cannot be streamed.")
        if self.dropout:
            raise RuleError("streams run whole networks: leave out dropout.")
        bound = self._seen(self.bound(net))
        losses: dict[str, Loss] = {}
        for spec in bound.output_specs:
            name = self._chosen(spec.label)
            loss = name if isinstance(name, Loss) else named(name, self.reduction, self.scale)
            if isinstance(loss, Sequence):
                raise LossError("a loss of the whole sequence cannot be streamed: use value_and_grad offline.")
            if isinstance(loss, Terminal):
                losses[spec.label] = loss
        plan = Plan(bound, routes.local_paths(bound, self.feedback), losses, self.regularizers, True, self.trace_bits)
        plan.check_step_by_step()
        return plan


@eqx.filter_jit
def _update(rule: EProp, net: Network, state: Any, x: Any, targets: Any, mask: Any, reset: Any, signal: Any) -> Any:
    losses: dict[str, Loss] = {label: rule._prompt_loss(label, target) for label, target in targets.items()}
    plan = rule.stream_plan(net)
    state, loss, gradient = update(plan, state, x, losses, targets, mask, reset, signal)
    return state, loss, _own_tree(rule, net, plan, gradient)


@eqx.filter_jit
def _finish(rule: EProp, net: Network, state: Any, targets: Any) -> Any:
    plan = rule.stream_plan(net)
    loss, gradient = close(plan, state, targets)
    return loss, _own_tree(rule, net, plan, gradient)


def _own_tree(rule: EProp, net: Network, plan: Plan, gradient: Any) -> Network:
    weights, biases, parameters = assemble(plan.net, plan.sources, gradient)
    return gradient_tree(net, weights, biases, parameters, routes.feedback_gradients(net, weights))
