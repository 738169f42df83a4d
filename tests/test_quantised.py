"""Quantised projections: weights lie on their grid, whatever moves them, and their mean is what the update wanted."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError, NetworkError, RecipeError
from engrax.network import trainable_leaves
from engrax.neurons import ALIF, LI
from engrax.training import build, recipe
from engrax.training.block import train_step

OPTIMIZERS = {"sgd": optax.sgd(0.5), "adam": optax.adam(0.01), "rmsprop": optax.rmsprop(0.01)}
RULES = {
    "bptt": ex.rules.BPTT(),
    "eprop": ex.rules.EProp(),
    "random": ex.rules.EProp(feedback="random"),
    "chunked": ex.rules.EProp(evaluation="chunked", chunk=7),
}
KINDS = {
    "quantised": (ex.Quantised, {}),
    "masked": (ex.QuantisedMasked, {"density": 0.4}),
    "signed": (ex.QuantisedSigned, {"excitatory": 0.75}),
    "rewired": (ex.QuantisedRewired, {"density": 0.3, "excitatory": 0.75}),
}
# Each rule, optimiser, kind and width once a day.
RUNS = (
    ("bptt", "adam", "quantised", 8),
    ("eprop", "sgd", "signed", 6),
    pytest.param("random", "rmsprop", "masked", 4, marks=pytest.mark.nightly),
    ("chunked", "adam", "rewired", 8),
)
SIGNS = np.where(np.arange(20) < 15, 1.0, -1.0)


def network(kind, key, bits):
    made, own = KINDS[kind]
    projections = [
        made("input", "hidden", bits=bits, **own),
        made("hidden", "hidden", bits=bits, autapses=False, **own),
        made("hidden", "readout", bits=bits, **own),
    ]
    populations = {"hidden": ALIF(20, beta=0.2, tau=8.0, threshold=0.6), "readout": LI(3)}
    return ex.Network(populations, projections, inputs={"input": 16}, outputs="readout", key=key)


def levels(p):
    return np.asarray(p.weight, np.float64) / np.asarray(p.step, np.float64)


def assert_on_grid(p):
    found = levels(p)
    np.testing.assert_allclose(found, np.round(found), atol=1e-4)
    half = 2 ** (p.bits - 1)
    assert found.min() > -half - 0.5 and found.max() < half - 0.5


@pytest.mark.parametrize(("rule", "optimizer", "kind", "bits"), RUNS)
def test_two_hundred_updates_stay_on_the_grid(rule, optimizer, kind, bits, key):
    net = network(kind, key, bits)
    draw = np.random.default_rng(1)
    inputs = jnp.asarray(draw.random((20, 4, 16)) < 0.2, jnp.float32)
    trial = ex.Trial(inputs, jnp.asarray(draw.standard_normal((20, 4, 3)), jnp.float32))
    start = net = RULES[rule].bind(net, jax.random.key(9))
    state = OPTIMIZERS[optimizer].init(eqx.filter(net, trainable_leaves(net)))

    @eqx.filter_jit
    def step(net, state, key):
        return train_step(net, state, trial, RULES[rule], OPTIMIZERS[optimizer], tuple(jax.random.split(key)))

    losses = []
    for i in range(200):
        net, state, loss = step(net, state, jax.random.fold_in(jax.random.key(3), i))
        losses.append(float(loss))
        if i % 20 == 0 or i == 199:
            for p in net.projections.values():
                assert_on_grid(p)
    assert np.mean(losses[-20:]) < losses[0]
    for name, p in net.projections.items():
        assert float(p.step) == float(start.projections[name].step)
        assert np.any(np.asarray(p.weight) != np.asarray(start.projections[name].weight)), name
    if kind in ("signed", "rewired"):
        assert np.all(np.asarray(net.projections["hidden->hidden"].weight) * SIGNS >= 0)
    if kind == "rewired":
        assert int(net.projections["input->hidden"].mask.sum()) == round(0.3 * 320)
    if kind == "masked":
        p = net.projections["input->hidden"]
        assert not np.asarray(p.weight)[np.asarray(p.mask) == 0].any()
    assert not np.diagonal(net.projections["hidden->hidden"].weight).any()


def test_rounding_is_unbiased_and_leaves_levels_and_ends_alone(key):
    draws, bits = 4000, 4
    p = ex.Quantised("a", "b", bits=bits, limit=0.8).build(key, (5, 6), jnp.float32)
    assert float(p.step) == pytest.approx(0.1)
    wanted = jnp.asarray(np.random.default_rng(0).uniform(-0.8, 0.7, (5, 6)), jnp.float32)
    put = jax.vmap(lambda k: p.replace(weight=wanted).constrain(k).weight)(jax.random.split(key, draws))
    found = np.asarray(put, np.float64)
    up, down = np.ceil(np.asarray(wanted) / 0.1) * 0.1, np.floor(np.asarray(wanted) / 0.1) * 0.1
    assert np.all(np.isclose(found, up, atol=1e-6) | np.isclose(found, down, atol=1e-6))
    share = np.asarray(wanted) / 0.1 - np.floor(np.asarray(wanted) / 0.1)
    # Up with probability `share`: a binomial's deviation; five of them, for thirty weights.
    tolerance = 5 * 0.1 * np.sqrt(share * (1 - share) / draws) + 1e-6
    assert np.all(np.abs(found.mean(0) - np.asarray(wanted)) < tolerance)
    assert np.any(np.abs(np.round(np.asarray(wanted) / 0.1) * 0.1 - np.asarray(wanted)) > 10 * tolerance)
    grid = jnp.asarray(np.arange(-8, 8), jnp.float32) * p.step
    row = ex.Quantised("a", "b", bits=bits, limit=0.8, weight=grid[None]).build(None, (1, 16), jnp.float32)
    kept = jax.vmap(lambda k: row.constrain(k).weight)(jax.random.split(key, 200))
    np.testing.assert_array_equal(kept, jnp.broadcast_to(grid, kept.shape))
    ends = row.replace(weight=10 * grid[None]).constrain(key).weight
    assert float(ends.min()) == pytest.approx(-0.8) and float(ends.max()) == pytest.approx(0.7)


@pytest.mark.parametrize("bits", [8, 16])
def test_every_level_survives_its_own_division(bits, key):
    # 0.1 has no exact binary form, and k * step / step need not be k.
    half = 2 ** (bits - 1)
    for limit in (0.1, 0.7, 1 / 3):
        weight = (jnp.arange(-half, half, dtype=jnp.float32) * (jnp.float32(limit) / half))[None]
        p = ex.Quantised("a", "b", bits=bits, limit=limit, weight=weight).build(None, weight.shape, jnp.float32)
        kept = jax.vmap(lambda k, p=p: p.constrain(k).weight)(jax.random.split(key, 20))
        np.testing.assert_array_equal(kept, jnp.broadcast_to(p.weight, kept.shape))


def test_updates_far_below_a_level_act_in_the_mean(key):
    p = ex.Quantised("a", "b", bits=4, limit=0.8, weight=jnp.zeros((100, 100))).build(None, (100, 100), jnp.float32)
    steps, small = 300, 1e-4  # a thousandth of a level
    walked, nearest = p, p

    @jax.jit
    def moved(weight, k):
        return p.replace(weight=weight + small).constrain(k).weight

    for k in jax.random.split(key, steps):
        walked = walked.replace(weight=moved(walked.weight, k))
        nearest = nearest.replace(weight=moved(nearest.weight, None))
    assert not np.asarray(nearest.weight).any()
    # 300 draws of one in a thousand for each of 10,000 weights: mean 0.03, five standard errors.
    error = 0.1 * np.sqrt(steps * 1e-3 / 1e4)
    assert float(jnp.mean(walked.weight)) == pytest.approx(steps * small, abs=5 * error)


@pytest.mark.nightly
def test_the_grid_is_fixed_by_the_first_weights(key):
    p = ex.Quantised("a", "b", bits=6).build(key, (30, 40), jnp.float32)
    plain = ex.Dense("a", "b").build(key, (30, 40), jnp.float32)
    assert float(p.step) == pytest.approx(2 * float(jnp.max(jnp.abs(plain.weight))) / 32)
    # A drawn weight is rounded up or down, not to the nearest, so that few bits keep its mean and spread.
    error = np.asarray(p.weight - plain.weight) / float(p.step)
    assert np.abs(error).max() < 1 and np.abs(error).max() > 0.6
    assert np.std(np.asarray(p.weight)) == pytest.approx(np.std(np.asarray(plain.weight)), rel=0.1)
    again = p.build(jax.random.key(8), (30, 40), jnp.float32)
    assert float(again.step) != float(p.step)
    nets = jax.vmap(network("signed", key, 8).initialize)(jax.random.split(key, 3))
    steps = np.asarray(nets.projections["hidden->hidden"].step)
    assert steps.shape == (3,) and len(set(steps.tolist())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bits": 1}, "bits"), ({"bits": 17}, "bits"), ({"bits": 8.0}, "bits"), ({"limit": 0.0}, "limit")],
)
@pytest.mark.unchecked
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        ex.Quantised("a", "b", **options)


def test_a_grid_needs_an_extent(key):
    with pytest.raises(NetworkError, match="limit="):
        ex.Quantised("a", "b", init="zeros").build(key, (2, 3), jnp.float32)
    zero = ex.Quantised("a", "b", init="zeros", limit=1.0).build(key, (2, 3), jnp.float32)
    assert not np.asarray(zero.weight).any()


def test_recipes_name_every_kind():
    changes = ["network.projections.0.kind=quantised_rewired", "network.projections.0.density=0.3"]
    changes += ["network.projections.0.excitatory=0.5", "network.projections.0.bits=6"]
    made = build.build(recipe.load("digits", [*changes, "network.projections.2.kind=quantised"]))
    first, _, third, *_ = made.net.projections.values()
    assert isinstance(first, ex.QuantisedRewired) and first.bits == 6 and first.density == 0.3
    assert isinstance(third, ex.Quantised) and third.bits == 8
    with pytest.raises(RecipeError, match=r"projections\.0\.densty: unknown key\. Did you mean 'density'"):
        build.build(recipe.load("digits", [*changes, "network.projections.0.densty=0.3"]))
