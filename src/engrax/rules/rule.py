"""The contract of a rule: `value_and_grad(net, trial)` is to a rule what `jax.value_and_grad` is to a function.

Shared here: which loss is meant, where it enters the network (cotangents of outputs), firing-rate regularisation, and
how delta becomes a gradient with the network's own tree.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_key
from ..errors import ArgumentError, RuleError, unknown
from ..kernels.library import differentiable
from ..losses import CTC, Loss, Regularizer, Terminal, as_loss, check_loss
from ..losses.ctc import check_strings
from ..meter import Learning
from ..network import Network, trainable_leaves
from ..network.cotangents import Adjoint, pull_parameters, split_state
from ..parameter import is_parameter, resolve
from ..synapses import Projection
from ..trial import Episodes, Trial
from .dropout import Rates, as_rates, check_rates, thin


class Rule(eqx.Module):
    """Base of rules.

    Args:
        loss: a name, a `Loss`, a function of one step `f(output, target) -> (batch,)`, a dict of these by output label,
            or None for the loss that the targets suggest (see `losses.as_loss`).
        reduction, scale: see `losses.Loss`.
        regularizers: `losses.FiringRate` and `losses.Energy` terms.
        dropout: rates by projection, such as `{"hidden->readout": 0.1}`: shares of its presynaptic units that it does
            not hear, drawn for each gradient and common to its batch. Networks are run and measured whole.

    Class attributes:
        reference: what the gradient must equal, for `engrax.testing.check_rule`: "full" (reverse mode through
            everything), "local" (recurrent paths cut), or None.
        engine: what runs the network: "run", step by step, "solve", in continuous time, or "events", from spike to
            spike. A rule with another engine than "run" brings its `perform`.
    """

    reference: ClassVar[str | None] = None
    engine: ClassVar[str] = "run"

    loss: Any = eqx.field(static=True, default=None, kw_only=True)
    reduction: str = eqx.field(static=True, default="mean", kw_only=True)
    scale: float = eqx.field(static=True, default=1.0, kw_only=True)
    regularizers: tuple[Regularizer, ...] = eqx.field(
        static=True, default=(), converter=lambda x: _tuple(x), kw_only=True
    )
    dropout: Rates | Mapping[str, float] = eqx.field(static=True, default=(), converter=as_rates, kw_only=True)

    def __check_init__(self) -> None:
        for loss in self.loss.values() if isinstance(self.loss, dict) else [self.loss]:
            check_loss(loss)
        Loss(reduction=self.reduction, scale=self.scale)

    def bind(self, net: Network, key: PRNGKeyArray) -> Network:
        """The network with whatever the rule adds to it (feedback weights). Default: nothing."""
        return net

    def value_and_grad(
        self, net: Network, trial: Any, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, ""], Network]:
        """Loss and gradient on a batch of trials.

        Args:
            net: the network.
            trial: inputs and targets.
            key: for rules that draw random numbers.

        Returns:
            The loss (regularisers included) and a tree like `net`, None where nothing trains.

        Raises:
            ArgumentError: the trial does not fit the network.  LossError: the loss does not fit the targets.
            RuleError: the rule cannot do this on this network.
        """
        check_network(net)
        if key is not None:
            check_key(key)
        if not isinstance(trial, Trial):
            hint = " Episodes are for rl.ActorCritic(rule)." if isinstance(trial, Episodes) else ""
            raise ArgumentError(f"trial must be an engrax Trial, got {type(trial).__name__}.{hint}")
        for regularizer in self.regularizers:
            regularizer.on(net)
        check_rates(net, self.rates, key)
        losses = self.losses(net, trial)
        check_trial(net, trial, losses)
        return _value_and_grad(self, net, trial, key)

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        """What a rule defines: `value_and_grad` after all checks, traced under jit."""
        raise TypeError(f"{type(self).__name__} must define compute(net, trial, key).")

    def perform(self, net: Network, trial: Trial, record: tuple[str, ...] = ()) -> Any:
        """What the rule's engine makes of a network and a trial: `outputs` and what was recorded, at every step."""
        return net.run(trial.inputs, record=record)

    def work(self, net: Network, trial: Trial) -> Learning:
        """What learning by this rule would cost on a chip, on a mean trial (`meter.learning`).

        Raises:
            RuleError: the rule does not say.
        """
        raise RuleError(f"{type(self).__name__} does not say what its learning costs on a chip; EProp does.")

    def with_gradients_of(self, kind: type["Rule"]) -> "Rule":
        """Another rule, of a class `kind`, with the loss and the regularisers of this one."""
        shared = {name: getattr(self, name) for name in ("loss", "reduction", "scale", "regularizers", "dropout")}
        return kind(**shared)

    @property
    def rates(self) -> Rates:
        """`dropout` as pairs."""
        return as_rates(self.dropout)

    def losses(self, net: Network, trial: Trial) -> dict[str, Loss]:
        """The loss of each output, by label."""
        targets = by_label(net, trial.targets, "targets")
        chosen = self.loss if isinstance(self.loss, dict) else dict.fromkeys(targets, self.loss)
        for label in chosen:
            if label not in targets:
                raise unknown("output", label, targets)
        return {
            label: as_loss(chosen.get(label), target, self.reduction, self.scale) for label, target in targets.items()
        }


@eqx.filter_jit
def _value_and_grad(rule: Rule, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
    def compute(arguments: tuple[Network, Trial, PRNGKeyArray | None]) -> tuple[Array, Network]:
        whole, trial, key = arguments
        if not rule.rates or key is None:
            return rule.compute(whole, trial, key)
        thinned, pull = thin(whole, rule.rates, key)
        loss, gradient = rule.compute(thinned, trial, key)
        return loss, pull(gradient)

    return differentiable(compute, (net, trial, key))


def _tuple(x: Any) -> tuple[Regularizer, ...]:
    if isinstance(x, Regularizer):
        return (x,)
    if not isinstance(x, Iterable) or not all(isinstance(r, Regularizer) for r in x):
        raise ArgumentError(f"regularizers must be FiringRate or Energy terms, got {x!r}.")
    return tuple(x)


def by_label(net: Network, values: Any, what: str) -> dict[str, Any]:
    """Targets (or anything given per output) as a dict by output label."""
    if net.single_output:
        return {net.output_specs[0].label: values}
    labels = [o.label for o in net.output_specs]
    if not isinstance(values, dict) or sorted(values) != sorted(labels):
        raise ArgumentError(f"{what} must be a dict with the network's outputs: {', '.join(labels)}.")
    return dict(values)


def check_network(net: Any) -> None:
    """Raise an ArgumentError unless `net` is a network."""
    if not isinstance(net, Network):
        raise ArgumentError(f"net must be an engrax Network, got {type(net).__name__}.")


def check_trial(net: Network, trial: Trial, losses: dict[str, Loss]) -> None:
    """Raise an ArgumentError where shapes of a trial and a network disagree."""
    net.check_inputs(trial.inputs)
    steps, batch = trial.steps, trial.batch
    for label, target in by_label(net, trial.targets, "targets").items():
        spec = next(o for o in net.output_specs if o.label == label)
        shape = jnp.shape(target)
        size = net.populations[spec.population].size
        whole = isinstance(losses[label], Terminal) and jnp.issubdtype(jnp.asarray(target).dtype, jnp.floating)
        two: tuple[int, ...] = (batch, size) if whole else (steps, batch)
        if isinstance(losses[label], CTC):
            check_strings(target, batch)
            two = shape
        expected = {1: (batch,), 2: two, 3: (steps, batch, size)}.get(len(shape))
        if expected is not None and shape != expected:
            hint = ' Are they label strings? Then name the loss: loss="ctc".' if len(shape) == 2 else ""
            raise ArgumentError(f"targets must have shape {expected}, got {shape}.{hint}")
        # Steps, trials and lengths were compared when the trial was made.
        if trial.mask is not None and trial.mask.ndim == 3 and trial.mask.shape[2] not in (1, size):
            raise ArgumentError(f"mask must be ({steps}, {batch}[, {size}]), got {trial.mask.shape}.")


def total_loss(losses: dict[str, Loss], outputs: dict[str, Array], trial: Trial, net: Network) -> Array:
    """Sum of the losses of all outputs."""
    targets = by_label(net, trial.targets, "targets")
    parts = [loss.value(outputs[label], trial.replace(targets=targets[label])) for label, loss in losses.items()]
    return sum(parts[1:], parts[0])


def enter(net: Network, gradients: dict[str, Array]) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """Gradients by output label, as cotangents of populations' outputs and of state variables."""
    outputs: dict[str, Array] = {}
    variables: dict[str, dict[str, Array]] = {}
    for spec in net.output_specs:
        g = gradients[spec.label]
        if spec.variable is None:
            outputs[spec.population] = outputs[spec.population] + g if spec.population in outputs else g
        else:
            own = variables.setdefault(spec.population, {})
            own[spec.variable] = own[spec.variable] + g if spec.variable in own else g
    return outputs, variables


def add(entering: dict[str, Array], more: dict[str, Array]) -> dict[str, Array]:
    """Cotangents by population, those of both added where both have one."""
    return {**entering, **{n: entering[n] + g if n in entering else g for n, g in more.items()}}


def initial_state_parameters(net: Network, states: dict[str, Any], history: dict[str, Array]) -> dict[str, Any]:
    """What cotangents of the initial states (batch, size), and of outputs before the first step (depth, batch, size),
    mean for trainable parameters that set them: raw trees."""
    pulled = {}
    for name, neuron in net.populations.items():
        if not has_parameters(neuron):
            continue
        raw, rest = eqx.partition(neuron, raw_marks(neuron))

        def first(raw: Any, rest: Any = rest) -> Any:
            whole = resolve(eqx.combine(raw, rest))
            return split_state(whole.init_state())[0], jnp.broadcast_to(whole.init_output(), whole.size)

        (_, before), vjp = jax.vjp(first, raw)
        past = jnp.sum(history[name], axis=(0, 1)) if name in history else jnp.zeros_like(before)
        pulled[name] = vjp((jax.tree.map(lambda g: jnp.sum(g, axis=0), states[name]), past.astype(before.dtype)))[0]
    return pulled


def has_parameters(neuron: Any) -> bool:
    """Whether a model has trainable parameters."""
    return any(is_parameter(x) for x in jax.tree.leaves(neuron, is_leaf=is_parameter))


def raw_marks(neuron: Any) -> Any:
    """True at the stored number of each trainable parameter of a model, False elsewhere."""
    return jax.tree.map(
        lambda p: jax.tree.map(lambda _: True, p) if is_parameter(p) else False, neuron, is_leaf=is_parameter
    )


def parameter_gradients(net: Network, adjoint: Adjoint) -> dict[str, Any]:
    """Raw-parameter gradients of every population that has trainable ones."""
    initial = initial_state_parameters(net, adjoint.states, adjoint.history)
    return {
        name: jax.tree.map(jnp.add, pull_parameters(net.populations[name], adjoint.parameters[name]), more)
        for name, more in initial.items()
    }


def pull_weight(projection: Projection, gradient: Any) -> dict[str, Array]:
    """The gradient by a projection's own arrays, by name, from the one by its effective weight."""
    own = {name: getattr(projection, name) for name in projection.learns if name != "bias"}
    return jax.vjp(lambda own: projection.replace(**own).effective(), own)[1](gradient)[0]


def pull_bias(projection: Projection, gradient: Array) -> Any:
    """The gradient by a projection's own bias, from the one by what acts."""
    return jax.vjp(lambda b: projection.replace(bias=b).effective_bias(), projection.bias)[1](gradient)[0]


def gradient_tree(
    net: Network,
    weights: dict[str, Any],
    biases: dict[str, Array],
    parameters: dict[str, Any],
    feedback: dict[str, Array] | None = None,
) -> Network:
    """The gradient with the network's own tree: None where nothing trains, zeros where nothing arrived."""
    tree = jax.tree.map(jnp.zeros_like, eqx.filter(net, trainable_leaves(net)))
    projections = OrderedDict(tree.projections)
    for name, gradient in weights.items():
        projections[name] = projections[name].replace(**pull_weight(net.projections[name], gradient))
    for name, gradient in biases.items():
        projections[name] = projections[name].replace(bias=pull_bias(net.projections[name], gradient))
    populations = OrderedDict(tree.populations)
    for name, gradient in parameters.items():
        populations[name] = gradient
    backwards = OrderedDict(tree.feedback)
    for name, gradient in (feedback or {}).items():
        backwards[name] = eqx.tree_at(lambda f: f.weight, backwards[name], gradient)
    return tree.replace(projections=projections, populations=populations, feedback=backwards)
