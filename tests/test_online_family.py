"""Rules between BPTT and local ones: where each is exact, what it leaves out where not, what its predictions learn."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.rules.optimal_kronecker import jacobi_svd, reduce
from engrax.testing.rules import example
from test_influence import assert_same, flat, layered, trial

R = ex.rules


def without_feedback(found):
    return found[0], found[1].replace(feedback={})


@pytest.mark.x64
@pytest.mark.parametrize("classes", [False, True])
def test_a_window_as_long_as_the_trial_is_bptt(classes, key):
    net, given, loss = layered(key), trial(key, classes), "cross_entropy_mean" if classes else None
    wanted = R.BPTT(loss=loss).value_and_grad(net, given)
    assert_same(R.SlidingBPTT(horizon=9, loss=loss).value_and_grad(net, given), wanted)


@pytest.mark.nightly
@pytest.mark.x64
def test_a_short_window_is_the_mean_of_many_truncated_gradients():
    """Each step's error goes back over three steps: as if it were the only one of a run cut three steps before it."""
    net, given = example(ex.neurons.Rate(4))
    given = given.replace(lengths=None)
    horizon, steps, wanted = 3, given.steps, 0.0
    for t in range(steps):
        first = max(0, t - horizon + 1)
        state = net.run(given.inputs[:first]).state if first else net.init_state(given.batch)

        def loss(net, state=state, first=first, t=t):
            outputs = net.run(given.inputs[first : t + 1], state=state).outputs
            return 0.5 * jnp.sum((outputs[-1] - given.targets[t]) ** 2)

        wanted = wanted + flat(eqx.filter_grad(loss)(net).projections)
    found = flat(R.SlidingBPTT(horizon=horizon).value_and_grad(net, given)[1].projections)
    ratio = float(jnp.vdot(found, wanted) / jnp.vdot(wanted, wanted))
    np.testing.assert_allclose(found, ratio * wanted, atol=1e-10 * float(jnp.abs(found).max()))


@pytest.mark.x64
@pytest.mark.parametrize("model", ["Rate", "ALIF", "LSTM"])
def test_ostl_is_exact_for_one_layer_and_a_readout_without_state(model, key):
    units = ex.neurons.MODELS[model](4)
    net, given = _layer(units, key)
    wanted = R.BPTT().value_and_grad(net, given)
    assert_same(R.OSTL().value_and_grad(net, given), wanted)
    without = R.OSTL(recurrent=False).value_and_grad(net, given)
    assert_same(without, R.EProp().value_and_grad(net, given))
    assert float(jnp.abs(flat(without[1]) - flat(wanted[1])).max()) > 1e-6


@pytest.mark.x64
def test_ottt_is_ostl_without_h_where_a_leak_is_all(key):
    """The same gradient from a trace for each presynaptic unit, also through layers."""
    net, given = example(ex.neurons.LIF(5))
    deep = ex.Network(
        {"a": ex.neurons.LIF(4, tau=9.0), "b": ex.neurons.LIF(3, tau=5.0), "out": ex.neurons.LI(2, tau=4.0)},
        [ex.Dense("input", "a", bias=True), ex.Dense("a", "a"), ex.Dense("a", "b"), ex.Dense("b", "out", bias=True)],
        inputs=net.inputs,
        outputs="out",
        key=key,
    )
    deep = eqx.tree_at(lambda n: n.projections["input->a"].weight, deep, replace_fn=lambda w: 8 * w)
    for each in (net, deep):
        found = R.OTTT().value_and_grad(each, given)
        assert_same(found, R.OSTL(recurrent=False).value_and_grad(each, given))
        assert all(float(jnp.abs(p.weight).max()) > 0 for p in found[1].projections.values())


def test_ottt_refuses_units_with_more_than_a_leak():
    for model, why in ((ex.neurons.ALIF(5), "more than one"), (ex.neurons.Rate(5, tau=[3.0] * 5), "of different")):
        net, given = example(model)
        with pytest.raises(ex.errors.RuleError, match=why):
            R.OTTT().value_and_grad(net, given)


@pytest.mark.x64
def test_the_best_sum_of_products_is_right_on_average_and_exact_where_it_has_room():
    values = jnp.array([3.0, 1.0, 0.5, 0.1])
    draws = jax.vmap(lambda k: (lambda m: m @ m.T)(reduce(values, 3, k)))(jax.random.split(jax.random.key(0), 4000))
    error = draws.std(axis=0) / np.sqrt(len(draws))
    far = jnp.abs(draws.mean(axis=0) - jnp.diag(values)) / jnp.where(error > 1e-12, error, jnp.inf)
    assert float(far.max()) < 4.0
    # The largest stay as they are; the noise of the rest is the least that is possible, (sum)^2 / k - sum of squares.
    np.testing.assert_allclose(draws[:, 0, 0], 3.0, rtol=1e-12)
    noise = jnp.mean(jnp.sum((draws - jnp.diag(values)[None]) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(noise, 0.6**2 / 1 - (0.5**2 + 0.1**2), rtol=1e-9)
    np.testing.assert_allclose(reduce(values[:3], 3, jax.random.key(0)) ** 2, jnp.diag(values[:3]), atol=1e-12)


@pytest.mark.nightly
@pytest.mark.x64
def test_more_products_make_less_noise_and_fewer_than_needed_none():
    net, given = example(ex.neurons.Rate(5))
    wanted = flat(R.BPTT().value_and_grad(net, given)[1])
    keys = jax.random.split(jax.random.key(1), 200)

    def noise(rule):
        found = jax.jit(jax.vmap(lambda k: flat(rule.value_and_grad(net, given, k)[1])))(keys)
        return float(jnp.mean(jnp.sum((found - wanted[None]) ** 2, axis=1)))

    kronecker, one, four = noise(R.KFRTRL()), noise(R.OptimalKronecker(rank=1)), noise(R.OptimalKronecker(rank=4))
    assert one < kronecker and 4 * four < one
    # Nine things are seen: nine vectors are a basis.
    assert noise(R.OptimalKronecker(rank=9)) < 1e-8


@pytest.mark.nightly
def test_the_optimal_sum_of_several_networks_is_that_of_each(key):
    """The compiler of JAX 0.10 made numbers of none out of it (see `Step.move`)."""
    rule, task = R.OptimalKronecker(rank=1), ex.tasks.get("add", steps=20)
    trials = task.sample(key, 1)

    def made(key):
        net = ex.Network(
            {"hidden": ex.neurons.Rate(32, tau=1.0), "readout": ex.neurons.Relay(task.output_size)},
            [
                ex.Dense("input", "hidden", bias=True),
                ex.Dense("hidden", "hidden", init="orthogonal"),
                ex.Dense("hidden", "readout", bias=True),
            ],
            inputs={"input": task.input_size},
            outputs="readout",
            key=key,
        )
        return rule.value_and_grad(net, trials, key)

    keys = jax.random.split(key, 2)
    together = eqx.filter_jit(eqx.filter_vmap(made))(keys)
    for i, one in enumerate(keys):
        alone = made(one)
        assert float(jnp.abs(flat(alone[1])).max()) > 1e-3
        np.testing.assert_allclose(flat(jax.tree.map(lambda x, i=i: x[i], together)), flat(alone), rtol=1e-3, atol=1e-5)


@pytest.mark.x64
def test_dni_without_a_prediction_goes_one_step_back(key):
    net, given = example(ex.neurons.Rate(5))
    rule = R.DNI()
    bound = rule.bind(net, key)
    short = R.SlidingBPTT(horizon=1).value_and_grad(net, given)
    assert_same(without_feedback(rule.value_and_grad(bound, given)), short)
    with pytest.raises(ex.errors.RuleError, match=r"net = rule\.bind"):
        rule.value_and_grad(net, given)


@pytest.mark.x64
def test_kernl_starts_as_locality_alone(key):
    """With the units' own leak as decay and the readout's own weights."""
    net, given = _layer(ex.neurons.Rate(6, tau=8.0), key, steps=30)
    rule = R.KeRNL(decay=1 / 8.0)
    found = without_feedback(rule.value_and_grad(rule.bind(net, key), given, key))
    assert_same(found, R.RFLO(feedback="symmetric").value_and_grad(net, given))
    with pytest.raises(ex.errors.RuleError, match=r"net = rule\.bind"):
        rule.value_and_grad(net, given, key)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("rule", "rate", "share"), [(R.DNI(), 0.01, 0.6), (R.KeRNL(decay=1 / 8.0), 0.0003, 0.4)], ids=repr
)
def test_what_is_predicted_is_learnt(rule, rate, share):
    """Linear units that should be silent: the credit is linear in the state. While weights stand still and the rule's
    own learn, its gradient comes nearer to BPTT's."""
    key = jax.random.key(0)
    net, given = _layer(ex.neurons.Rate(6, tau=8.0, activation="identity"), key, steps=60)
    net = eqx.tree_at(lambda n: n.projections["hidden->hidden"].weight, net, replace_fn=lambda w: 0.5 * w)
    given = given.replace(targets=jnp.zeros_like(given.targets))
    wanted = flat(R.BPTT().value_and_grad(net, given)[1].projections["hidden->hidden"])

    def wrong(bound):
        found = flat(rule.value_and_grad(bound, given, key)[1].projections["hidden->hidden"])
        return float(jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted))

    @eqx.filter_jit
    def learn(bound, key):
        moves = rule.value_and_grad(bound, given, key)[1].feedback
        return bound.replace(feedback=jax.tree.map(lambda w, g: w - rate * g, bound.feedback, moves))

    bound = rule.bind(net, key)
    before = wrong(bound)
    for k in jax.random.split(jax.random.key(3), 200):
        bound = learn(bound, k)
    assert wrong(bound) < share * before


@pytest.mark.x64
@pytest.mark.parametrize("model", ["LIF", "Rate"])
def test_forward_gradients_are_right_on_average_and_as_noisy_as_derived(model):
    """Mean of 4000 draws inside its interval; <|g|^2> = (p + 2) |gradient|^2 for normal directions."""
    net, given = example(ex.neurons.MODELS[model](4))
    wanted = flat(R.BPTT().value_and_grad(net, given)[1])
    rule = R.ForwardGradient()
    found = jax.jit(jax.vmap(lambda k: flat(rule.value_and_grad(net, given, k)[1])))(
        jax.random.split(jax.random.key(0), 4000)
    )
    far = (found.mean(axis=0) - wanted) / (found.std(axis=0) / np.sqrt(len(found)))
    assert float(jnp.abs(far).max()) < 4.5
    squares = jnp.sum(found**2, axis=1) / jnp.sum(wanted**2)
    count = wanted.size
    assert abs(float(squares.mean()) - (count + 2)) < 4 * float(squares.std()) / np.sqrt(len(found))


@pytest.mark.x64
@pytest.mark.parametrize("rule", [R.SlidingBPTT(horizon=4), R.OSTL(), R.OTTT(), R.SnAp(), R.DNI(), R.KeRNL()], ids=repr)
def test_a_stream_is_the_trial(rule, key):
    net, given = example(ex.neurons.LIF(4))
    given = given.replace(lengths=None)
    rule = dataclasses.replace(rule)
    net = rule.bind(net, key)
    draws = key if rule.draws else None
    whole = rule.value_and_grad(net, given, draws)
    state, value, total = rule.init(net, given.batch, draws), 0.0, 0.0
    for t in range(given.steps):
        state, more, found = rule.update(net, state, given.inputs[t], given.targets[t])
        # What is no error is not averaged over steps.
        value, total = value + more / given.steps, total + flat(found.replace(feedback={})) / given.steps
    np.testing.assert_allclose(value, whole[0], rtol=1e-12)
    if not isinstance(rule, R.DNI):  # whose zero prediction stays zero
        np.testing.assert_allclose(total, flat(whole[1].replace(feedback={})), atol=1e-12)
    if rule.told:
        with pytest.raises(ex.errors.LossError, match="give update\\(\\) a signal, or whole trials"):
            dataclasses.replace(rule, loss="cross_entropy_mean").init(net, 2, draws)


@pytest.mark.x64
def test_fptt_is_one_step_of_its_equations(key):
    net, given = example(ex.neurons.Rate(3))
    rule, alpha, rate = R.FPTT(alpha=0.7), 0.7, 0.05
    state = rule.init(net, given.batch)
    w = flat(net.projections["hidden->hidden"])
    mean, slope = w, jnp.zeros_like(w)
    plain, stream = R.SlidingBPTT(horizon=1), R.SlidingBPTT(horizon=1).init(net, given.batch)
    for t in range(4):
        stream, _, bare = plain.update(net, stream, given.inputs[t], given.targets[t])
        state, _, found = rule.update(net, state, given.inputs[t], given.targets[t])
        slope = slope - alpha * (w - mean)
        mean = (mean + w) / 2 - slope / (2 * alpha)
        wanted = flat(bare.projections["hidden->hidden"]) - slope + alpha * (w - mean)
        np.testing.assert_allclose(flat(found.projections["hidden->hidden"]), wanted, atol=1e-12)
        net = eqx.apply_updates(net, jax.tree.map(lambda g: -rate * g, found))
        w = flat(net.projections["hidden->hidden"])


def _layer(units, key, steps=12):
    """A layer of units and a readout that keeps no state."""
    keys = jax.random.split(key, 3)
    net = ex.Network(
        {"hidden": units, "out": ex.neurons.Relay(2)},
        [ex.Dense("input", "hidden", bias=True), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out", bias=True)],
        inputs={"input": 3},
        outputs="out",
        key=keys[0],
    )
    scale = 10.0 if units.spiking else 1.0
    net = eqx.tree_at(lambda n: n.projections["input->hidden"].weight, net, replace_fn=lambda w: scale * w)
    inputs = jax.random.normal(keys[1], (steps, 3, 3))
    return net, ex.Trial(inputs, jax.random.normal(keys[2], (steps, 3, 2)))


@pytest.mark.x64
@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_small_singular_values_are_the_librarys(count, key):
    matrix = jax.random.normal(key, (count, count)).at[:, 0].set(0.0)
    u, values, v = jacobi_svd(matrix)
    np.testing.assert_allclose(u @ jnp.diag(values) @ v.T, matrix, atol=1e-14)
    np.testing.assert_allclose(values, np.linalg.svd(np.asarray(matrix))[1], atol=1e-14)
    np.testing.assert_allclose(v.T @ v, jnp.eye(count), atol=1e-14)
