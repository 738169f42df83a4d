"""Energy as a term of the loss: what the bill says, and the gradient of just that."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.losses import Energy, FiringRate
from engrax.meter import PRICES, bill, observe
from engrax.testing import finite_differences
from engrax.testing.reference import reference_gradient
from engrax.training import recipe as recipes
from engrax.training.build import build

STEPS, BATCH, UNITS = 20, 3, 5
C = 7.0


class Smooth(ex.neurons.Rate):
    """Counted as a spiking model, though it has a derivative."""

    spiking: ClassVar[bool] = True


def network(key: jax.Array, hidden: Any = None, delay: int = 1) -> ex.Network:
    """Two hidden populations, one of which does not reach all readouts."""
    mask = np.ones((2, UNITS))
    mask[0, 1:3] = 0
    return ex.Network(
        {
            "hidden": hidden or ex.neurons.ALIF(UNITS, tau=5.0, threshold=0.5, beta=0.2),
            "more": ex.neurons.LIF(3, threshold=0.3),
            "readout": ex.neurons.LI(2),
        },
        [
            ex.Dense("input", "hidden"),
            ex.Dense("hidden", "hidden", autapses=False, delay=delay),
            ex.Dense("input", "more"),
            ex.Masked("hidden", "readout", mask=mask),
            ex.Dense("more", "readout"),
        ],
        inputs={"input": 4},
        outputs="readout",
        key=key,
    )


def shown(key: jax.Array) -> ex.Trial:
    x = jax.random.bernoulli(key, 0.5, (STEPS, BATCH, 4)).astype(float)
    return ex.Trial(x, jax.random.normal(key, (STEPS, BATCH, 2)), lengths=jnp.array([20, 11, 15]))


def weights(net: ex.Network) -> dict[str, jax.Array]:
    return {name: p.weight for name, p in net.projections.items() if p.weight is not None}


@pytest.mark.x64
@pytest.mark.parametrize("prices", PRICES)
def test_it_is_the_bill_for_spikes(key, prices) -> None:
    net, trial = network(key), shown(key)
    found = bill(net, observe(net, trial, net.run(trial.inputs, record=["hidden", "more"])))
    sent = {n: found.projections[n].ac for n in ("hidden->hidden", "hidden->readout", "more->readout")}
    assert all(ac > 1 for ac in sent.values())
    price = PRICES[prices]
    for populations, counted in ((None, sum(sent.values())), ("more", sent["more->readout"])):
        rule = ex.rules.BPTT(scale=0.0, regularizers=Energy(C, prices, populations))
        value, _ = rule.value_and_grad(net, trial)
        assert float(value) == pytest.approx(C * 1e9 * counted * (price.ac + price.read), rel=1e-12)


@pytest.mark.x64
@pytest.mark.parametrize("running", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_its_gradient_is_that_of_the_whole_sum(key, running) -> None:
    """Against plain automatic differentiation: exact for BPTT, with recurrent paths cut for e-prop."""
    net, trial = network(key, delay=2), shown(key)
    term = Energy(C, running=running)
    rules = [
        (ex.rules.BPTT(scale=0.0, regularizers=term), False),
        (ex.rules.BPTT(scale=0.0, regularizers=term, checkpoint=5), False),
        *((ex.rules.EProp(scale=0.0, regularizers=term, evaluation=e), True) for e in ("offline", "online", "chunked")),
    ]
    for rule, local in rules:
        wanted, slope = reference_gradient(rule, net, trial, local)
        value, gradient = rule.value_and_grad(net, trial)
        assert float(value) == pytest.approx(float(wanted), rel=1e-12) and value > 0.1
        for name, other in weights(slope).items():
            assert (jnp.abs(other).max() > 1e-3) == (not name.endswith("readout")), name
            np.testing.assert_allclose(gradient.projections[name].weight, other, rtol=1e-9, atol=1e-13)


@pytest.mark.x64
def test_where_spikes_are_smooth_its_gradient_is_the_slope(key) -> None:
    net, trial = network(key, Smooth(UNITS, tau=3.0, activation="sigmoid")), shown(key)
    rule = ex.rules.BPTT(scale=0.0, regularizers=Energy(C, "int8", "hidden"))
    _, gradient = rule.value_and_grad(net, trial)
    for name in ("input->hidden", "hidden->hidden"):
        where = lambda n, name=name: n.projections[name].weight
        value = lambda w, where=where: rule.value_and_grad(eqx.tree_at(where, net, w), trial)[0]
        slope = finite_differences(value, where(net))
        assert jnp.abs(slope).max() > 1e-4
        keep = 1 if name == "input->hidden" else 1 - np.eye(UNITS)
        np.testing.assert_allclose(where(gradient), keep * slope, rtol=1e-6, atol=1e-9)


@pytest.mark.nightly
@pytest.mark.x64
def test_in_a_stream_it_acts_at_each_step_or_at_the_end(key) -> None:
    net, trial = network(key), shown(key).replace(lengths=None)
    found = []
    for running in (False, True):
        rule = ex.rules.EProp(scale=0.0, regularizers=Energy(C, running=running))
        wanted = rule.value_and_grad(net, trial)[1]
        state, total = rule.init(net, BATCH), jax.tree.map(jnp.zeros_like, wanted)
        for t in range(STEPS):
            state, _, gradient = rule.update(net, state, trial.inputs[t])
            total = jax.tree.map(jnp.add, total, gradient)
        assert (jnp.abs(total.projections["input->hidden"].weight).max() > 1e-3) == running
        if not running:
            total = jax.tree.map(jnp.add, total, rule.finish(net, state)[1])
        assert eqx.tree_equal(total, wanted, rtol=1e-9, atol=1e-13)
        found.append(total)
    assert eqx.tree_equal(*found, rtol=1e-9, atol=1e-13)


@pytest.mark.x64
def test_terms_add_up(key) -> None:
    net, trial = network(key), shown(key)
    terms = (Energy(C), FiringRate(30.0, 20.0))
    both, *each = (
        ex.rules.EProp(scale=0.0, regularizers=t).value_and_grad(net, trial) for t in (terms, *((t,) for t in terms))
    )
    total = jax.tree.map(jnp.add, *each)
    assert float(both[0]) == pytest.approx(float(total[0]), rel=1e-12) and all(float(e[0]) > 0.01 for e in each)
    assert eqx.tree_equal(both[1], total[1], rtol=1e-9, atol=1e-13)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("rule", ["eprop", "bptt"])
def test_in_a_recipe_it_saves_energy(rule) -> None:
    spent = []
    for coefficient in (0.0, 0.3):
        settings = [
            "network.populations.hidden.size=20",
            f"rule.regularizers=[{{name='energy', coefficient={coefficient}, prices='int32'}}]",
            "training.batch=16",
            "training.validate_every=30",
        ]
        built = build(recipes.load("digits", settings, rule))
        assert isinstance(built.rule.regularizers[0], Energy)
        run = ex.fit(*built[:4], 30, seeds=1, validate_every=30, progress=False)
        assert run.firing_rate_hz is not None and run.firing_rate_hz > 1
        spent.append(run.energy.projections["hidden->readout"].ac)
    assert spent[1] < 0.8 * spent[0]


@pytest.mark.unchecked
def test_what_it_may_not_be_given(key) -> None:
    for options, message in (
        ({"coefficient": -1.0}, "coefficient must be"),
        ({"coefficient": 1.0, "prices": "int9"}, r"set of prices in Energy: 'int9'\. Did you mean"),
        ({"coefficient": 1.0, "populations": []}, "populations must be names"),
        ({"coefficient": 1.0, "running": 1}, "running must be"),
    ):
        with pytest.raises(ex.errors.ArgumentError, match=message):
            Energy(**options)
    net, trial = network(key), shown(key)
    graded = ex.Network(
        {"hidden": ex.neurons.Rate(3), "readout": ex.neurons.LI(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": 4},
        outputs="readout",
        key=key,
    )
    for where, term, message in (
        (net, Energy(1.0, populations="hiden"), "population in Energy 'hiden'.*Did you mean 'hidden'"),
        (net, Energy(1.0, populations="readout"), "'readout' does not spike"),
        (graded, Energy(1.0), "no spiking population"),
    ):
        with pytest.raises(ex.errors.RuleError, match=message):
            ex.rules.BPTT(regularizers=term).value_and_grad(where, trial)
    with pytest.raises(ex.errors.RuleError, match="knows no connections"):
        Energy(1.0).value(jnp.ones((2, 3)), jnp.ones(2), 1.0)
