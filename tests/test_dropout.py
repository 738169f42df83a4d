"""Dropout of presynaptic units: the gradient of a network that lacks them, for every rule."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError, RuleError
from engrax.rules.dropout import thin
from engrax.training.build import build
from engrax.training.recipe import load

RATES = {"input->hidden": 0.5, "hidden->readout": 0.25}


def network(key, hidden=None):
    populations = {"hidden": hidden or ex.neurons.ALIF(6, beta=0.1), "readout": ex.neurons.LI(2)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout", bias=True)]
    return ex.Network(populations, projections, inputs={"input": 4}, outputs="readout", key=key)


def trial(key):
    inputs = jax.random.bernoulli(key, 0.5, (12, 3, 4)).astype(jnp.float32)
    return ex.Trial(3 * inputs, jnp.asarray([0, 1, 1]))


def weights(tree):
    return {name: np.asarray(p.weight) for name, p in tree.projections.items()}


@pytest.mark.parametrize(
    "rule",
    [ex.rules.BPTT, ex.rules.EProp, lambda **more: ex.rules.EProp(feedback="random", evaluation="online", **more)],
    ids=["BPTT", "EProp", "EProp online"],
)
def test_it_is_the_gradient_of_what_is_left(rule, key):
    net = network(key)
    thinned, _ = thin(net, tuple(RATES.items()), key)
    factors = {}
    for name, weight in weights(thinned).items():
        factor = weight / weights(net)[name]
        kept = 1 / (1 - RATES.get(name, 0.0))
        assert np.all(np.isclose(factor, 0) | np.isclose(factor, kept))
        np.testing.assert_allclose(factor, np.broadcast_to(factor[:1], factor.shape), rtol=1e-5)
        factors[name] = factor[:1]
    loss, found = rule(dropout=RATES).value_and_grad(net, trial(key), key)
    wanted_loss, wanted = rule().value_and_grad(thinned, trial(key), key)
    assert float(loss) == float(wanted_loss)
    for name, gradient in weights(wanted).items():
        np.testing.assert_allclose(weights(found)[name], factors[name] * gradient, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found.projections["hidden->readout"].bias, wanted.projections["hidden->readout"].bias)


@pytest.mark.x64
def test_it_is_the_slope_of_the_loss_that_it_gives(key):
    net = network(key, ex.neurons.Rate(6))
    shown = trial(key)
    shown = ex.Trial(shown.inputs.astype(jnp.float64), shown.targets)
    rule = ex.rules.BPTT(dropout=RATES)
    where = lambda n: n.projections["hidden->readout"].weight
    slope = where(rule.value_and_grad(net, shown, key)[1])
    for at in [(0, 0), (1, 3), (0, 5)]:
        up, down = (
            rule.value_and_grad(eqx.tree_at(where, net, where(net).at[at].add(h)), shown, key)[0] for h in (1e-6, -1e-6)
        )
        np.testing.assert_allclose(slope[at], (up - down) / 2e-6, rtol=1e-7, atol=1e-9)


def test_units_are_drawn_anew_and_as_often_as_said(key):
    net = network(key)
    keys = jax.random.split(key, 400)
    heard = lambda k: thin(net, tuple(RATES.items()), k)[0].projections["input->hidden"].weight[0] != 0
    kept = np.asarray(jax.vmap(heard)(keys))
    assert abs(kept.mean() - 0.5) < 4 * 0.5 / (400 * 4) ** 0.5
    rule = ex.rules.BPTT(dropout=RATES)
    losses = [float(rule.value_and_grad(net, trial(key), k)[0]) for k in (key, keys[0], key)]
    assert losses[0] == losses[2] != losses[1]


def test_recipes_and_training_take_it(tmp_path):
    small = ["network.populations.hidden.size=5", "network.populations.hidden.beta=0.0", "training.steps=2"]
    built = build(load("digits", [*small, 'rule.dropout={"input->hidden" = 0.2}']))
    assert built.rule.rates == (("input->hidden", 0.2),)
    assert built.fit(seeds=1, progress=False).steps == 2


@pytest.mark.unchecked
@pytest.mark.parametrize("wrong", [0.5, {"input->hidden": 1.0}, {"input->hidden": -0.1}, {1: 0.5}, {"a": "b"}])
def test_what_it_refuses(wrong):
    with pytest.raises(ArgumentError, match="dropout"):
        ex.rules.BPTT(dropout=wrong)


def test_what_it_does_not_fit(key):
    net, shown = network(key), trial(key)
    with pytest.raises(RuleError, match="Did you mean 'input->hidden'"):
        ex.rules.BPTT(dropout={"input->hiden": 0.5}).value_and_grad(net, shown, key)
    with pytest.raises(RuleError, match="a key"):
        ex.rules.BPTT(dropout=RATES).value_and_grad(net, shown)
    with pytest.raises(RuleError, match="whole networks"):
        ex.rules.EProp(evaluation="online", dropout=RATES).init(net, 3)
    with pytest.raises(ArgumentError, match="whole networks"):
        ex.rl.ActorCritic(ex.rules.BPTT(dropout=RATES))
    sent = ex.Network(
        {"far": ex.neurons.LIF(8), "readout": ex.neurons.LI(2)},
        [ex.Convolution("input", "far", shape=(1, 4, 4), channels=2, kernel=3), ex.Dense("far", "readout")],
        inputs={"input": 16},
        outputs="readout",
        key=key,
    )
    with pytest.raises(RuleError, match="share weights"):
        ex.rules.BPTT(dropout={"input->far": 0.5}).value_and_grad(
            sent, ex.Trial(jnp.ones((3, 2, 16)), jnp.asarray([0, 1])), key
        )


def test_it_is_left_out_of_what_is_measured(key):
    task = ex.tasks.get("digits")
    wide = ex.Network(
        {"hidden": ex.neurons.LIF(4), "readout": ex.neurons.LI(task.output_size)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": task.input_size},
        outputs="readout",
        key=key,
    )
    options = {"batch": 8, "key": key, "progress": False}
    run = ex.fit(wide, task, ex.rules.BPTT(dropout={"hidden->readout": 0.9}), optax.sgd(1e-12), 1, **options)
    assert run.test_accuracy == pytest.approx(ex.evaluate(wide, task)["accuracy"])
