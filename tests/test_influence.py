"""Influence carried forwards: exact against reverse mode, unbiased over many draws, and as a stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.testing.rules import example

RANDOM = {"UORO": ex.rules.UORO, "KFRTRL": ex.rules.KFRTRL, "ReverseKFRTRL": ex.rules.ReverseKFRTRL}
DAILY = {("RTRL", "cross_entropy_last"), ("KFRTRL", "cross_entropy_mean")}
STEPS, BATCH = 9, 3


def layered(key, model=ex.neurons.LIF):
    """Two populations with delays of 1 to 3 steps, and a readout that is heard again."""
    return ex.Network(
        {"first": model(4, tau=6.0), "second": ex.neurons.Rate(3, tau=5.0), "out": ex.neurons.LI(2, tau=4.0)},
        [
            ex.Dense("input", "first", bias=True),
            ex.Dense("first", "first", autapses=False),
            ex.Dense("first", "second", delay=2),
            ex.Dense("second", "second", delay=3),
            ex.Dense("second", "first", delay=1),
            ex.Dense("second", "out", bias=True),
            ex.Dense("first", "out"),
            ex.Dense("out", "first", delay=1),
        ],
        inputs={"input": 2},
        outputs="out",
        key=key,
    )


def trial(key, classes=False):
    inputs = 3.0 * jax.random.normal(key, (STEPS, BATCH, 2))
    lengths = jnp.array([STEPS, STEPS - 2, STEPS - 4])
    if classes:
        return ex.Trial(inputs, jnp.array([0, 1, 0]), lengths=lengths)
    return ex.Trial(inputs, jax.random.normal(key, (STEPS, BATCH, 2)), lengths=lengths)


def flat(gradient):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(gradient)])


def assert_same(a, b, tolerance=1e-12):
    assert float(jnp.abs(a[0] - b[0])) < tolerance
    np.testing.assert_allclose(flat(a[1]), flat(b[1]), atol=tolerance * float(jnp.abs(flat(b[1])).max()))


@pytest.mark.x64
@pytest.mark.parametrize("loss", [None, "cross_entropy_mean", "cross_entropy_last", "cross_entropy_count"])
def test_rtrl_is_bptt_through_delays_layers_and_sums(loss, key):
    net, given = layered(key), trial(key, loss is not None)
    wanted = ex.rules.BPTT(loss=loss).value_and_grad(net, given)
    assert_same(ex.rules.RTRL(loss=loss).value_and_grad(net, given), wanted)
    for name, projection in wanted[1].projections.items():
        assert float(jnp.abs(projection.weight).max()) > 1e-6, name


@pytest.mark.x64
@pytest.mark.parametrize("running", [False, True])
def test_regularisers_are_bptts(running):
    net, given = example(ex.neurons.ALIF(5, beta=0.3))
    rates = ex.losses.FiringRate(50.0, 20.0, running=running)
    wanted = ex.rules.BPTT(regularizers=rates).value_and_grad(net, given)
    for rule in (ex.rules.RTRL, ex.rules.SnAp):
        kind = rule(regularizers=rates) if rule is ex.rules.RTRL else rule(order=2, regularizers=rates)
        assert_same(kind.value_and_grad(net, given), wanted)
    assert float(jnp.abs(flat(wanted[1]) - flat(ex.rules.BPTT().value_and_grad(net, given)[1])).max()) > 1e-6


@pytest.mark.x64
@pytest.mark.parametrize("name", RANDOM)
def test_the_mean_of_many_draws_is_the_gradient(name):
    """The gradient is inside the confidence interval of the mean of 3000 draws, for every weight and time constant."""
    net, given = example(ex.neurons.Rate(5, tau=ex.trainable(jnp.linspace(3.0, 9.0, 5), positive=True)))
    wanted = flat(ex.rules.BPTT().value_and_grad(net, given)[1])
    rule = RANDOM[name]()
    found = jax.jit(jax.vmap(lambda k: flat(rule.value_and_grad(net, given, k)[1])))(
        jax.random.split(jax.random.key(0), 3000)
    )
    error = found.std(axis=0) / np.sqrt(len(found))
    moves = error > 0
    assert jnp.all(wanted[~moves] == 0)  # of autapses
    far = (found.mean(axis=0) - wanted)[moves] / error[moves]
    # Some eighty normal numbers: one beyond 4.5 in 2000 of such tests.
    assert float(jnp.abs(far).max()) < 4.5
    assert float(error.max()) < float(jnp.abs(wanted).max())  # enough draws to say something


@pytest.mark.x64
def test_kronecker_factors_make_less_noise_than_vectors():
    net, given = example(ex.neurons.Rate(5))
    wanted = flat(ex.rules.BPTT().value_and_grad(net, given)[1])
    keys = jax.random.split(jax.random.key(1), 500)

    def noise(rule):
        found = jax.jit(jax.vmap(lambda k: flat(rule.value_and_grad(net, given, k)[1])))(keys)
        return float(jnp.mean(jnp.sum((found - wanted[None]) ** 2, axis=1)))

    assert 2 * noise(ex.rules.KFRTRL()) < noise(ex.rules.UORO())


@pytest.mark.x64
@pytest.mark.parametrize("name", RANDOM)
def test_where_nothing_is_left_of_the_past_it_makes_no_noise(name, key):
    """A readout without a state: `KFRTRL` has its gradient from one draw, and none keeps what was heard before."""
    net = ex.Network(
        {"hidden": ex.neurons.Rate(4), "readout": ex.neurons.Relay(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout", bias=True)],
        inputs={"input": 3},
        outputs="readout",
        key=key,
    )
    inputs, targets = jax.random.normal(key, (20, 2, 3)), jax.random.normal(key, (20, 2, 2))
    rule = RANDOM[name]()
    if name == "KFRTRL":
        found, wanted = (r.value_and_grad(net, ex.Trial(inputs, targets), key)[1] for r in (rule, ex.rules.BPTT()))
        readout = lambda tree: tree.projections["hidden->readout"]
        np.testing.assert_allclose(flat(readout(found)), flat(readout(wanted)), atol=1e-12)
    state = rule.init(net, 2, key)
    for x, y in zip(inputs, targets, strict=True):
        state, *_ = rule.update(net, state, x, y)
        heard = jnp.concatenate([state.network.neurons["hidden"].rate, jnp.ones((2, 1))], axis=1)
        vector, rows = state.influence["readout"]
        if name == "UORO":
            vector = jnp.concatenate([rows[f"{x} hidden->readout"] for x in ("weight", "bias")], axis=-1)[:, 0, 0]
        ratio = jnp.abs(vector / (jnp.ones_like(vector) if name == "ReverseKFRTRL" else heard))
        assert float(jnp.min(ratio)) > 0
        np.testing.assert_allclose(ratio, jnp.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-9)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        pytest.param(n, f, marks=() if (n, f) in DAILY else pytest.mark.nightly)
        for n in ("RTRL", *RANDOM)
        for f in (None, "cross_entropy_mean", "cross_entropy_last")
    ],
)
def test_a_stream_is_the_trial(name, loss, key):
    """Steps one by one sum to the gradient of the whole, also in a trial that is started anew amid others."""
    net = layered(key)
    given = trial(key, loss is not None).replace(lengths=None)
    rule = ex.rules.RULES[name](loss=loss)
    draws = jax.random.key(5) if rule.draws else None
    whole = rule.value_and_grad(net, given, draws)

    def run(state, reset):
        value, total = jnp.zeros(()), 0.0
        for t in range(STEPS):
            target = given.targets[t] if loss is None else None
            start = jnp.full(BATCH, reset and t == 0)
            state, more, found = rule.update(net, state, given.inputs[t], target, reset=start)
            value, total = value + more / STEPS, total + flat(found) / STEPS
        if loss is None:
            return value, total
        late, found = rule.finish(net, state, given.targets)
        return late, flat(found)

    fresh = rule.init(net, BATCH, draws)
    found = run(fresh, False)
    np.testing.assert_allclose(found[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], flat(whole[1]), atol=1e-12)
    if not rule.draws:
        used, _, _ = rule.update(net, fresh, given.inputs[3] + 1.0)
        np.testing.assert_allclose(run(used, True)[1], found[1], atol=1e-12)


def test_what_cannot_be_carried_is_refused_by_name(key):
    net, given = layered(key), trial(key)
    with pytest.raises(ex.errors.MemoryBudgetError, match="parameters in 3 trials needs"):
        ex.rules.RTRL(memory_budget=1000.0).value_and_grad(net, given)
    with pytest.raises(ex.errors.RuleError, match="RTRL's streams have no regularisers"):
        ex.rules.RTRL(regularizers=ex.losses.FiringRate(1.0, 20.0)).init(net, 2)
    with pytest.raises(ex.errors.RuleError, match="UORO draws random numbers: call with a key"):
        ex.rules.UORO().value_and_grad(net, given)
    with pytest.raises(ex.errors.RuleError, match="UORO draws random numbers: call init with a key"):
        ex.rules.UORO().init(net, 2)
    with pytest.raises(ex.errors.LossError, match="whole sequence"):
        ex.rules.RTRL(loss="ctc").init(net, 2)
    rule = ex.rules.RTRL(loss="cross_entropy_mean")
    state, classes = rule.init(net, BATCH), jnp.array([0, 1, 0])
    with pytest.raises(ex.errors.LossError, match="not known at a single step"):
        rule.update(net, state, given.inputs[0], classes)
