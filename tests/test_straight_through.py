"""Quantisation-aware training: what acts has few bits, what learns has many, and the gradient passes unchanged."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError, RecipeError
from engrax.network import trainable_leaves
from engrax.neurons import LI, LIF, CuBaLIF
from engrax.training import build, recipe

TAUS = [1.0, 2.2, 3.5, 20.0, 25.0, 500.0, 1e9]
SHIFTS = [1, 1, 2, 4, 5, 9, 15]
RULES = {
    "bptt": ex.rules.BPTT(),
    "checkpoint": ex.rules.BPTT(checkpoint=4),
    "eprop": ex.rules.EProp(),
    "online": ex.rules.EProp(evaluation="online"),
}


def network(kind, key, autapses=True, tau=8.0, **options):
    projections = [
        kind("input", "hidden", bias=jnp.linspace(-0.3, 0.4, 6), **options),
        kind("hidden", "hidden", bias=True, autapses=autapses, **options),
        kind("hidden", "readout", bias=True, **options),
    ]
    populations = {"hidden": LIF(6, tau=tau, threshold=0.5, reset="zero"), "readout": LI(2)}
    return ex.Network(populations, projections, inputs={"input": 3}, outputs="readout", key=key)


def trial(steps=12):
    draw = np.random.default_rng(1)
    inputs = jnp.asarray(draw.random((steps, 3, 3)) < 0.4, jnp.float32)
    return ex.Trial(inputs, jnp.asarray(draw.standard_normal((steps, 3, 2)), jnp.float32))


@pytest.mark.parametrize("dt", [1.0, 4.0])
def test_time_constants_are_those_of_the_nearest_shift(dt):
    net = ex.Network(
        {"a": CuBaLIF(7, tau=100.0, tau_synapse=ex.trainable(jnp.asarray(TAUS) * dt, positive="power_of_two"))},
        [ex.Dense("x", "a", weight=jnp.ones((7, 1)))],
        inputs={"x": 1},
        outputs="a",
        dt=dt,
    )
    tau = np.asarray(net.populations["a"].tau_synapse.value, np.float64)
    np.testing.assert_allclose(np.exp(-dt / tau), 1 - 0.5 ** np.array(SHIFTS), rtol=1e-7)
    assert net.populations["a"].with_dt(2 * dt).tau_synapse.value[0] == pytest.approx(2 * tau[0])
    # A neuron by itself has its own time step.
    alone = LIF(7, tau=ex.trainable(jnp.asarray(TAUS) * dt, positive="power_of_two"), dt=dt)
    np.testing.assert_array_equal(alone.tau.value, net.populations["a"].tau_synapse.value)


def test_the_gradient_passes_the_rounding_of_a_time_constant(key):
    raw = ex.trainable(TAUS[2:6], positive="power_of_two").raw
    value = lambda r: ex.Parameter(r, "power_of_two", dt=1.0).value
    np.testing.assert_allclose(jax.vjp(value, raw)[1](jnp.ones(4))[0], TAUS[2:6], rtol=1e-5)
    tau = jnp.asarray([3.0, 6.0, 9.0, 14.0, 30.0, 70.0])
    rounded = network(ex.Dense, key, tau=ex.trainable(tau, positive="power_of_two"))
    plain = network(ex.Dense, key, tau=ex.trainable(rounded.populations["hidden"].tau.value))
    for rule in (RULES["bptt"], RULES["online"]):
        _, found = rule.value_and_grad(rounded, trial())
        _, wanted = rule.value_and_grad(plain, trial())
        by_raw = np.asarray(found.populations["hidden"].tau.raw)
        assert np.sum(by_raw != 0) >= 3
        np.testing.assert_allclose(by_raw, wanted.populations["hidden"].tau.raw * tau, rtol=2e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_acts_lies_on_a_grid_of_a_power_of_two(bits, key):
    p = ex.StraightThrough("a", "b", bits=bits, bias=jnp.linspace(-3, 3, 5)).build(key, (5, 7), jnp.float32)
    step, full = float(jax.jit(lambda p: p.step())(p)), 2 ** (bits - 1) - 1
    assert np.log2(step) == round(np.log2(step))
    levels = np.asarray(p.effective(), np.float64) / step
    np.testing.assert_array_equal(levels, np.round(levels))
    assert full / 2 < np.abs(levels).max() <= full
    assert np.abs(np.asarray(p.effective() - p.weight)).max() <= step / 2
    assert np.abs(np.asarray(p.effective_bias() - p.bias)).max() <= step / 2
    assert np.all(np.asarray(p.effective_bias(), np.float64) / step % 1 == 0)
    # The weights that learn are as they were drawn.
    np.testing.assert_array_equal(p.weight, ex.Dense("a", "b").build(key, (5, 7), jnp.float32).weight)


def test_the_step_is_the_least_that_holds_the_largest_weight():
    full = 127
    for exponent in (-20, -7, 0, 3):
        # Exactly the last level; and the next number above it, which needs a step of twice that.
        for top, step in ((full * 2.0**exponent, 2.0**exponent), (np.nextafter(np.float32(full), 200), 2.0)):
            p = ex.StraightThrough("a", "b", weight=jnp.full((1, 1), top, jnp.float32))
            assert float(p.build(None, (1, 1), jnp.float32).step()) == step
    zero = ex.StraightThrough("a", "b", init="zeros", bias=True).build(jax.random.key(0), (2, 3), jnp.float32)
    assert float(zero.step()) == 1 and not np.asarray(zero.effective()).any()


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_those_at_the_rounded_weights(rule, key):
    few = network(ex.StraightThrough, key, autapses=False, bits=4)
    acting = [p.replace(weight=p.effective(), bias=p.effective_bias()) for p in few.projections.values()]
    plain = network(ex.Dense, key, autapses=False)
    plain = plain.replace(
        projections=type(plain.projections)(
            (n, q.replace(weight=p.weight, bias=p.bias))
            for (n, q), p in zip(plain.projections.items(), acting, strict=True)
        )
    )
    ours, theirs = (RULES[rule].value_and_grad(net, trial()) for net in (few, plain))
    assert float(ours[0]) == float(theirs[0])
    for name, p in ours[1].projections.items():
        assert float(jnp.abs(p.weight).max()) > 0
        np.testing.assert_array_equal(p.weight, theirs[1].projections[name].weight)
        np.testing.assert_array_equal(p.bias, theirs[1].projections[name].bias)
    assert not np.diagonal(few.constrain(key).projections["hidden->hidden"].effective()).any()
    assert few.constrain(key).projections["input->hidden"].weight is few.projections["input->hidden"].weight


def test_updates_far_below_a_level_add_up(key):
    net, data = network(ex.StraightThrough, key, bits=4), trial()
    optimizer = optax.sgd(4e-3)
    state = optimizer.init(eqx.filter(net, trainable_leaves(net)))
    start = net

    @eqx.filter_jit
    def step(net, state):
        loss, grads = RULES["bptt"].value_and_grad(net, data)
        updates, state = optimizer.update(grads, state)
        return eqx.apply_updates(net, updates), state, loss

    net, state, first = step(net, state)
    name = "hidden->readout"
    before, after = (n.projections[name] for n in (start, net))
    assert not np.array_equal(before.weight, after.weight)
    np.testing.assert_array_equal(before.effective(), after.effective())
    for _ in range(400):
        net, state, loss = step(net, state)
    assert np.sum(np.asarray(net.projections[name].effective()) != np.asarray(before.effective())) > 3
    assert float(loss) < float(first) - 0.02


@pytest.mark.unchecked
def test_impossible_arguments_are_refused():
    for bits in (1, 17, 8.0, True):
        with pytest.raises(ArgumentError, match="bits must be an integer from 2 to 16"):
            ex.StraightThrough("a", "b", bits=bits)
    with pytest.raises(ArgumentError, match="positive must be True, False, 'log' or 'power_of_two', got 'powers'"):
        ex.trainable(1.0, positive="powers")
    with pytest.raises(ArgumentError, match="threshold is no time constant"):
        LIF(3, threshold=ex.trainable(1.0, positive="power_of_two"))


def test_recipes_name_both():
    changes = ["network.projections.0.kind=straight_through", "network.projections.0.bits=6"]
    tau = "network.populations.hidden.tau"
    built = build.build(
        recipe.load("digits", [*changes, f"{tau}={{value=20, trainable=true, positive='power_of_two'}}"])
    )
    first = next(iter(built.net.projections.values()))
    assert isinstance(first, ex.StraightThrough) and first.bits == 6
    assert float(built.net.populations["hidden"].tau.value) == pytest.approx(-1 / np.log(15 / 16), rel=1e-6)
    with pytest.raises(
        RecipeError, match=r"tau: trainable: positive must be True, False, 'log' or 'power_of_two', got 'two'"
    ):
        build.build(recipe.load("digits", [f"{tau}={{value=20, trainable=true, positive='two'}}"]))
