"""Signed and rewired projections: signs and numbers of connections hold, whatever moves the weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError, NetworkError
from engrax.network import trainable_leaves
from engrax.neurons import ALIF, LI, LSTM
from engrax.training.block import train_step

OPTIMIZERS = {"sgd": optax.sgd(0.5), "adam": optax.adam(0.01), "rmsprop": optax.rmsprop(0.01)}
RULES = {
    "bptt": ex.rules.BPTT(),
    "eprop": ex.rules.EProp(),
    "random": ex.rules.EProp(feedback="random"),
    "chunked": ex.rules.EProp(evaluation="chunked", chunk=7),
}
KINDS = {"signed": (ex.Signed, {}), "rewired": (ex.Rewired, {"density": 0.2})}
# Each rule and each optimiser once a day, all pairs at night.
DAILY = (("bptt", "adam"), ("eprop", "sgd"), ("random", "rmsprop"), ("chunked", "adam"))
PAIRS = [
    (r, o) if (r, o) in DAILY else pytest.param(r, o, marks=pytest.mark.nightly) for r in RULES for o in OPTIMIZERS
]
SIGNS = np.where(np.arange(20) < 15, 1.0, -1.0)


def network(kind, key, **options):
    made, own = KINDS[kind]
    options = {"excitatory": 0.75, **own, **options}
    projections = [
        made("input", "hidden", **options),
        made("hidden", "hidden", autapses=False, **options),
        made("hidden", "readout", **options),
    ]
    populations = {"hidden": ALIF(20, beta=0.2, tau=8.0, threshold=0.6), "readout": LI(3)}
    return ex.Network(populations, projections, inputs={"input": 16}, outputs="readout", key=key)


def trained(net, rule, optimizer, steps=200):
    """The network after updates, and their losses."""
    draw = np.random.default_rng(1)
    inputs = jnp.asarray(draw.random((20, 4, 16)) < 0.2, jnp.float32)
    trial = ex.Trial(inputs, jnp.asarray(draw.standard_normal((20, 4, 3)), jnp.float32))
    net = rule.bind(net, jax.random.key(9))
    state = optimizer.init(eqx.filter(net, trainable_leaves(net)))

    @eqx.filter_jit
    def step(net, state, key):
        return train_step(net, state, trial, rule, optimizer, tuple(jax.random.split(key)))

    losses = []
    for i in range(steps):
        net, state, loss = step(net, state, jax.random.fold_in(jax.random.key(3), i))
        losses.append(float(loss))
    return net, losses


@pytest.mark.parametrize(("rule", "optimizer"), PAIRS)
def test_signs_hold(rule, optimizer, key):
    net = network("signed", key)
    found, losses = trained(net, RULES[rule], OPTIMIZERS[optimizer])
    assert losses[-1] < losses[0]
    for name in ("hidden->hidden", "hidden->readout"):
        before, after = (np.asarray(x.projections[name].weight) for x in (net, found))
        assert np.all(after * SIGNS >= 0) and np.any(after != before)
    assert not np.diagonal(found.projections["hidden->hidden"].weight).any()


@pytest.mark.parametrize(("rule", "optimizer"), PAIRS)
def test_connections_move_and_stay_as_many(rule, optimizer, key):
    # Signs by place, signs by unit, and a walk beside the updates: one each.
    options = {"adam": {}, "sgd": {"excitatory": None}, "rmsprop": {"shrink": 1e-4, "noise": 1e-3}}[optimizer]
    net = network("rewired", key, **options)
    found, losses = trained(net, RULES[rule], OPTIMIZERS[optimizer])
    assert min(losses[-20:]) < losses[0]
    moved = 0
    for name, p in net.projections.items():
        now = found.projections[name]
        possible = p.weight.size - (20 if name == "hidden->hidden" else 0)
        assert int(p.mask.sum()) == round(0.2 * possible) == int(now.mask.sum())
        np.testing.assert_array_equal(now.sides, p.sides)
        assert np.all(np.asarray(now.weight * now.sides) >= 0)
        assert not np.any(np.asarray(now.weight)[np.asarray(now.mask) == 0])
        assert not options.get("excitatory", 0.75) or np.all(np.ptp(np.asarray(p.sides), axis=0) == 0)
        moved += int(np.sum(np.asarray(now.mask) != np.asarray(p.mask)))
    assert moved > 0
    assert not np.diagonal(found.projections["hidden->hidden"].mask).any()


def test_what_crossed_dies_and_as_many_are_born(key):
    net = network("rewired", key)
    p = net.projections["hidden->hidden"]
    there = np.argwhere(np.asarray(p.mask) > 0)
    crossed = there[:5]
    weight = p.weight.at[tuple(crossed.T)].multiply(-0.5)
    # Off the mask an optimiser with momentum moves weights, too.
    weight = weight + 0.1 * (1 - p.mask)
    put = p.replace(weight=weight).constrain(key)
    assert not np.asarray(put.weight)[tuple(crossed.T)].any()
    kept = tuple(there[5:].T)
    np.testing.assert_array_equal(put.weight[kept], p.weight[kept])
    born = (np.asarray(put.mask) > 0) & (np.asarray(p.mask) == 0)
    assert int(put.mask.sum()) == len(there) and 0 < born.sum() <= 5
    assert not np.asarray(put.weight)[born].any()
    # Without a key nothing is rewired.
    still = p.replace(weight=weight).constrain()
    np.testing.assert_array_equal(still.mask, p.mask)
    assert not np.asarray(still.weight)[tuple(crossed.T)].any()


def test_births_are_equally_likely_everywhere(key):
    shape, draws = (12, 10), 600
    p = ex.Rewired("input", "hidden", density=0.3).build(key, shape, jnp.float32)
    first = np.argwhere(np.asarray(p.mask) > 0)[0]
    p = p.replace(weight=p.weight.at[tuple(first)].set(-p.sides[tuple(first)]))
    masks = np.asarray(jax.vmap(lambda k: p.constrain(k).mask)(jax.random.split(key, draws)))
    born = masks - np.asarray(p.mask)
    counts = np.sum(born > 0, axis=0)[np.asarray(p.mask) == 0]
    # One birth a draw, among those that are free and the one that died: binomial, four standard deviations.
    share = 1 / (len(counts) + 1)
    assert np.all(np.abs(counts - draws * share) < 4 * np.sqrt(draws * share) + 1)


def test_noise_and_shrinkage_are_in_units_of_the_weight(key):
    built = lambda **options: ex.Rewired("a", "b", density=0.5, **options).build(key, (60, 50), jnp.float32)
    p = built(shrink=0.01)
    strong = np.abs(np.asarray(p.weight)) > 0.02
    np.testing.assert_allclose(np.abs(p.weight - p.constrain(key).weight)[strong], 0.01, rtol=1e-4)
    p = built(noise=0.01)
    strong = np.abs(np.asarray(p.weight)) > 0.1
    assert np.std(np.asarray(p.constrain(key).weight - p.weight)[strong]) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_weights_are_balanced(kind, key):
    net = network(kind, key)
    weight = np.asarray(net.projections["hidden->hidden"].weight)
    both = (weight > 0).any(1) & (weight < 0).any(1)
    assert both.sum() > 2
    np.testing.assert_allclose(weight[both].sum(1), 0, atol=1e-5)
    np.testing.assert_array_less(-1e-7, weight * SIGNS)
    if kind == "signed":
        plain = ex.Dense("a", "b", autapses=False).build(key, (20, 20), jnp.float32).weight
        signed = ex.Signed("a", "b", autapses=False, excitatory=0.75).build(key, (20, 20), jnp.float32).weight
        np.testing.assert_allclose(np.linalg.norm(signed, axis=1), np.linalg.norm(plain, axis=1), rtol=1e-5)


def test_ports_have_connections_of_their_own(key):
    populations = {"hidden": LSTM(6), "readout": LI(2)}
    projections = [
        ex.Rewired("input", "hidden", density=0.3),
        ex.Rewired("hidden", "hidden", density=0.3, excitatory=0.5),
        ex.Dense("hidden", "readout"),
    ]
    net = ex.Network(populations, projections, inputs={"input": 5}, outputs="readout", key=key)
    p = net.projections["input->hidden"]
    assert p.mask.shape == p.weight.shape == (4, 6, 5) and int(p.mask.sum()) == round(0.3 * 120)
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((9, 3, 5)), jnp.float32)
    grads = ex.rules.BPTT().value_and_grad(net, ex.Trial(inputs, jnp.zeros((9, 3, 2))))[1]
    assert not np.asarray(grads.projections["input->hidden"].weight)[np.asarray(p.mask) == 0].any()
    assert np.asarray(grads.projections["input->hidden"].weight).any()


def test_given_weights_say_where_connections_are(key):
    weight = np.array([[0.5, 0.0, -1.0], [0.0, 2.0, 0.0]])
    p = ex.Rewired("a", "b", density=1.0, weight=weight).build(key, (2, 3), jnp.float32)
    np.testing.assert_array_equal(p.mask, weight != 0)
    np.testing.assert_array_equal(p.sides[weight != 0], np.sign(weight[weight != 0]))
    np.testing.assert_array_equal(p.weight, weight)
    again = p.build(jax.random.key(5), (2, 3), jnp.float32)
    np.testing.assert_array_equal(again.mask, p.mask)
    with pytest.raises(NetworkError, match="signs of its presynaptic"):
        ex.Rewired("a", "b", density=1.0, weight=weight, excitatory=1.0).build(key, (2, 3), jnp.float32)
    with pytest.raises(NetworkError, match="signs of its presynaptic"):
        ex.Signed("a", "b", weight=weight, excitatory=1.0).build(key, (2, 3), jnp.float32)
    signed = ex.Signed("a", "b", weight=weight, signs=[1, 1, -1]).build(key, (2, 3), jnp.float32)
    np.testing.assert_array_equal(signed.weight, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_draw_their_own(kind, key):
    net = network(kind, key)
    first, second = (net.initialize(jax.random.key(i)) for i in (1, 2))
    nets = jax.vmap(net.initialize)(jax.random.split(key, 3))
    assert nets.projections["hidden->hidden"].weight.shape == (3, 20, 20)
    a, b = (np.asarray(x.projections["hidden->hidden"].weight) for x in (first, second))
    assert np.any(a != b) and np.all(a * SIGNS >= 0) and np.all(b * SIGNS >= 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0.0}, "density"),
        ({"density": 0.5, "excitatory": 0.5, "signs": [1]}, "either"),
        ({"density": 0.5, "excitatory": 2}, "excitatory"),
        ({"density": 0.5, "signs": [0.5]}, "1 and -1"),
        ({"density": 0.5, "noise": -1}, "noise"),
        ({"density": 0.5, "shrink": True}, "shrink"),
    ],
)
@pytest.mark.unchecked
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        ex.Rewired("a", "b", **options)


def test_signs_are_needed_and_must_fit(key):
    with pytest.raises(ArgumentError, match="either"):
        ex.Signed("a", "b")
    with pytest.raises(NetworkError, match="shape"):
        ex.Signed("a", "b", signs=[1.0, -1.0]).build(key, (2, 3), jnp.float32)
    with pytest.raises(NetworkError, match="key="):
        ex.Rewired("a", "b", density=0.5).build(None, (2, 3), jnp.float32)
