"""`check_rule`: does a rule compute what it says, on any neuron model?

Every comparison first asserts that the network is active and the gradients are not zero, so a silent network or a rule
that returns zeros cannot pass.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..network import Network
from ..neurons import Neuron
from ..neurons.li import LI
from ..rules import Rule
from ..synapses import Dense
from ..trial import Trial
from .errors import require, same_structure
from .neurons import instance
from .reference import reference_gradient

STEPS, BATCH, INPUTS, OUTPUTS = 24, 3, 4, 2


def default_neurons() -> list[Neuron]:
    """The models a rule is checked on when none is named: one that spikes, one that adapts, two that are smooth."""
    from ..neurons.alif import ALIF
    from ..neurons.lif import LIF
    from ..neurons.lstm import LSTM
    from ..neurons.rate import Rate

    return [LIF(5, refractory=2.0), ALIF(5, tau_adaptation=50.0, beta=0.3), Rate(5), LSTM(5)]


def check_rule(rule: Rule, neuron: Any = None, *, reference: str | Rule | None = "own") -> None:
    """Check a rule on one neuron model (instance or class), or on four of them.

    Args:
        rule: the rule.
        neuron: the model of the hidden population.
        reference: what its gradient must equal: "full" (reverse mode through everything), "local" (every recurrent path
            cut), another rule, None (no comparison), or "own": what the rule's class states in `reference`.

    Raises:
        ConformanceError: the first check that fails.
    """
    require(isinstance(rule, Rule), f"{rule!r} is not an engrax Rule.")
    models = default_neurons() if neuron is None else [instance(neuron)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for model in models:
            _check(rule, model, getattr(rule, "reference", None) if reference == "own" else reference)


def example(neuron: Neuron, key: Array | None = None) -> tuple[Network, Trial]:
    """A small recurrent network of a model, driven until it is active, and a regression trial of unequal lengths.

    Raises:
        ConformanceError: no drive makes the population active.
    """
    keys = jax.random.split(jax.random.PRNGKey(3) if key is None else key, 4)
    net = Network(
        {"hidden": neuron, "readout": LI(OUTPUTS, tau=6.0)},
        [
            Dense("input", "hidden", bias=True),
            Dense("hidden", "hidden", autapses=False),
            Dense("hidden", "readout", bias=True),
        ],
        inputs={"input": INPUTS},
        outputs="readout",
        key=keys[0],
    )
    inputs = jax.random.normal(keys[1], (STEPS, BATCH, INPUTS))
    targets = jax.random.normal(keys[2], (STEPS, BATCH, OUTPUTS))
    trial = Trial(inputs, targets, lengths=jnp.array([STEPS, STEPS - 5, STEPS - 9]))
    for scale in (1.0, 3.0, 10.0, 30.0, 100.0):
        weight = net.projections["input->hidden"].weight
        assert weight is not None
        driven = eqx.tree_at(lambda n: n.projections["input->hidden"].weight, net, scale * weight)
        output = driven.run(inputs, record=("hidden",))["hidden"]
        active = 0.03 < float(jnp.mean(output)) < 0.9 if neuron.spiking else float(jnp.std(output)) > 1e-3
        if active:
            return driven, trial
    name = type(neuron).__name__
    require(
        False, f"{name} stays {'silent' if neuron.spiking else 'constant'} under every drive: nothing can be compared."
    )
    raise AssertionError


def _check(rule: Rule, model: Neuron, reference: str | Rule | None) -> None:
    title = f"{type(rule).__name__} on {type(model).__name__}"
    net, trial = example(model)
    key = jax.random.PRNGKey(1)
    net = rule.bind(net, key)
    loss, gradient = rule.value_and_grad(net, trial, key)
    require(jnp.isfinite(loss), f"{title}: the loss is {loss}.")
    _check_tree(title, net, gradient)
    _check_nonzero(title, gradient)

    again = rule.value_and_grad(net, trial, key)
    _same(f"{title}: two calls with one key", (loss, gradient), again, 0.0)
    if reference is not None:
        if isinstance(reference, Rule):
            wanted = reference.value_and_grad(net, trial, key)
        else:
            require(reference in ("full", "local"), f"unknown reference {reference!r}.")
            wanted = reference_gradient(rule, net, trial, reference == "local")
            wanted = (wanted[0], _without_feedback(wanted[1]))
        _check_nonzero(f"{title} (reference)", wanted[1])
        what = reference if isinstance(reference, str) else type(reference).__name__
        _same(f"{title}: against the {what} gradient", (loss, _without_feedback(gradient)), wanted, 1e-9)
    _check_evaluations(title, rule, net, trial, key, (loss, gradient))
    _check_padding(title, rule, net, trial, key, (loss, gradient))
    _check_vmap(title, rule, net, trial, key)
    _check_zero_error(title, rule, net, trial, key)


def _check_tree(title: str, net: Network, gradient: Network) -> None:
    from ..network import trainable_leaves

    wanted = eqx.filter(net, trainable_leaves(net))
    same = same_structure(wanted, gradient)
    require(same, f"{title}: the gradient must have the network's own tree, None where nothing trains.")
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(gradient), strict=True):
        require(a.shape == b.shape, f"{title}: a gradient has shape {b.shape}, its parameter {a.shape}.")
        require(jnp.all(jnp.isfinite(b)), f"{title}: a gradient is NaN or infinite.")


def _check_nonzero(title: str, gradient: Network) -> None:
    for name, projection in gradient.projections.items():
        weight = projection.weight
        require(weight is not None and jnp.any(weight != 0), f"{title}: the gradient of {name!r} is zero.")


def _without_feedback(gradient: Network) -> Network:
    return gradient.replace(feedback=type(gradient.feedback)())


def _same(what: str, a: Any, b: Any, tolerance: float) -> None:
    require(same_structure(a, b), f"{what}: the trees differ.")
    paths = jax.tree_util.tree_leaves_with_path(a)
    for (path, x), y in zip(paths, jax.tree.leaves(b), strict=True):
        scale = float(jnp.max(jnp.abs(y)))
        error = float(jnp.max(jnp.abs(x - y)))
        if error > tolerance * max(scale, 1e-30) and error > tolerance * 1e-6:
            where = jax.tree_util.keystr(path)
            require(
                False, f"{what}: {where} differs by {error:.1e} at a scale of {scale:.1e} (tolerance {tolerance:.0e})."
            )


def _check_evaluations(title: str, rule: Rule, net: Network, trial: Trial, key: Array, wanted: Any) -> None:
    if "evaluation" not in rule.__dataclass_fields__:
        return
    for evaluation, chunk in (("offline", 7), ("online", 7), ("chunked", 7)):
        changes: dict[str, Any] = {"evaluation": evaluation, "chunk": chunk}
        other = dataclasses.replace(rule, **changes)
        _same(f"{title}: {evaluation} evaluation", other.value_and_grad(net, trial, key), wanted, 1e-10)


def _check_padding(title: str, rule: Rule, net: Network, trial: Trial, key: Array, wanted: Any) -> None:
    def longer(x: Array) -> Array:
        return jnp.concatenate([x, jnp.full((6, *x.shape[1:]), 2.5, x.dtype)])

    assert trial.lengths is not None
    padded = Trial(longer(trial.inputs), longer(trial.targets), lengths=trial.lengths)
    _same(f"{title}: padded trials", rule.value_and_grad(net, padded, key), wanted, 1e-9)


def _check_vmap(title: str, rule: Rule, net: Network, trial: Trial, key: Array) -> None:
    nets = eqx.filter_vmap(lambda k: rule.bind(net.initialize(k), k))(jax.random.split(key, 2))
    together = eqx.filter_vmap(lambda n: rule.value_and_grad(n, trial, key))(nets)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], eqx.filter(nets, eqx.is_array))
        single = eqx.combine(one, eqx.filter(nets, eqx.is_array, inverse=True))
        alone = rule.value_and_grad(single, trial, key)
        _same(f"{title}: under vmap", jax.tree.map(lambda x, i=i: x[i], together), alone, 1e-9)


def _check_zero_error(title: str, rule: Rule, net: Network, trial: Trial, key: Array) -> None:
    fixed = dataclasses.replace(rule, regularizers=(), loss=None)
    targets = net.run(trial.inputs).outputs
    loss, gradient = fixed.value_and_grad(net, trial.replace(targets=targets), key)
    require(abs(float(loss)) < 1e-12, f"{title}: without error the loss is {float(loss):.1e}, not 0.")
    # Feedback weights may learn from something else than errors.
    for path, leaf in jax.tree_util.tree_leaves_with_path(_without_feedback(gradient)):
        size = float(jnp.max(jnp.abs(leaf)))
        require(size < 1e-9, f"{title}: without error {jax.tree_util.keystr(path)} still moves by {size:.1e}.")
