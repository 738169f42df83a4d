"""Trainable parameters: what keeps them where they belong, and how units differ at the start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.errors import ArgumentError, RecipeError
from engrax.training.build import build
from engrax.training.recipe import load


def network(tau, size=500, key=None, **options):
    hidden = ex.neurons.LIF(size, tau=tau, **options)
    return ex.Network({"hidden": hidden}, [ex.Dense("input", "hidden")], inputs={"input": 1}, outputs="hidden", key=key)


def values(net):
    return np.asarray(net.populations["hidden"].tau.value)


@pytest.mark.parametrize("raw", [-80.0, -1.0, 0.0, 3.0, 80.0])
def test_bounds_hold_wherever_the_optimiser_goes(raw):
    parameter = ex.trainable([6.0, 24.0], bounds=(5, 25))
    np.testing.assert_allclose(parameter.value, [6.0, 24.0], rtol=1e-6)
    moved = ex.Parameter(parameter.raw + raw, bounds=(5.0, 25.0)).value
    assert bool(jnp.all((moved >= 5) & (moved <= 25)))
    slope = jax.grad(lambda r: ex.Parameter(r, bounds=(5.0, 25.0)).value)(jnp.asarray(0.3))
    share = 1 / (1 + np.exp(-0.3))
    np.testing.assert_allclose(slope, 20 * share * (1 - share), rtol=1e-6)


@pytest.mark.parametrize("positive", [False, True, "log"])
def test_a_spread_is_a_normal_cut_at_two(key, positive):
    net = network(ex.trainable(20.0, positive, spread=5.0), key=key)
    drawn = values(net)
    assert drawn.shape == (500,) and drawn.min() >= 10 - 1e-4 and drawn.max() <= 30 + 1e-4
    # A normal cut at two deviations keeps 0.8796 of its deviation; 500 draws scatter by 3 %.
    assert abs(drawn.mean() - 20) < 4 * 4.4 / 500**0.5 and abs(drawn.std() - 4.398) < 0.6


def test_bounds_alone_are_drawn_from_evenly(key):
    drawn = values(network(ex.trainable(bounds=(5, 25)), key=key))
    assert drawn.min() >= 5.2 - 1e-4 and drawn.max() <= 24.8 + 1e-4
    assert abs(drawn.mean() - 15) < 4 * 5.66 / 500**0.5 and abs(drawn.std() - 19.6 / 12**0.5) < 0.6


def test_each_network_draws_its_own_and_nothing_adds_up(key):
    net = network(ex.trainable(20.0, "log", spread=5.0), key=key)
    first, second = jax.random.split(key)
    once, other = net.initialize(first), net.initialize(second)
    np.testing.assert_array_equal(values(once.initialize(second)), values(other))
    np.testing.assert_array_equal(values(net.initialize(key)), values(net))
    assert np.all(values(once) != values(other))


def test_weights_are_those_of_a_network_without_a_spread(key):
    plain, spread = (network(ex.trainable(20.0, "log", **more), key=key) for more in ({}, {"spread": 5.0}))
    weights = [net.projections["input->hidden"].weight for net in (plain, spread)]
    np.testing.assert_array_equal(*weights)


def test_it_can_be_converted(key):
    unit = ex.neurons.LIF(2, tau=20.0, threshold=ex.trainable(0.5, bounds=(0.2, 0.8)), input_scale="leak")
    other = unit.with_input_scale("one")
    factor = 1 / -np.expm1(-1 / 20.0)
    np.testing.assert_allclose(other.threshold.value, 0.5 * factor, rtol=1e-5)
    np.testing.assert_allclose(other.threshold.bounds, (0.2 * factor, 0.8 * factor), rtol=1e-5)
    with pytest.raises(ArgumentError, match="factor of its own"):
        ex.neurons.LIF(2, tau=[10.0, 20.0], threshold=unit.threshold).with_input_scale("leak")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": 1.0, "bounds": (2, 3)}, "lie between"),
        ({"x": 3.0, "positive": "log", "spread": 1.5}, "more than 2 spreads"),
        ({"x": 2.1, "bounds": (2, 3), "spread": 0.1}, "more than 2 spreads"),
        ({"x": 2.5, "bounds": (3, 2)}, "less than"),
        ({"x": 2.5, "bounds": (1, 2, 3)}, "low, high"),
        ({"x": 2.5, "bounds": (2, 3), "positive": True}, "not both"),
        ({}, "give x"),
        ({"bounds": (2, 3), "spread": 0.1}, "give x"),
        ({"x": [2.0, 3.0], "spread": 0.1}, "one x"),
        ({"x": 2.0, "spread": -0.1}, "spread"),
        ({"x": -2.0, "positive": True}, "> 0"),
    ],
)
def test_what_it_refuses(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        ex.trainable(**arguments)


def test_recipes_say_the_same():
    tau = "network.populations.hidden.tau"
    built = build(load("digits", [f"{tau}={{value = 20.0, spread = 5.0, trainable = true, positive = 'log'}}"]))
    assert np.unique(np.asarray(built.net.populations["hidden"].tau.value)).size > 1
    built = build(load("digits", [f"{tau}={{bounds = [10.0, 30.0], trainable = true}}"]))
    assert built.net.populations["hidden"].tau.bounds == (10.0, 30.0)
    for wrong in (
        "{bounds = [10.0, 30.0]}",
        "{value = 3.0, spread = 1.0}",
        "{trainable = true}",
        "{value = 3.0, wide = 1.0}",
    ):
        with pytest.raises(RecipeError, match="tau"):
            build(load("digits", [f"{tau}={wrong}"]))
