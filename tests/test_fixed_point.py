"""Online e-prop with traces of few bits: unbiased, within derived bounds, and exact where the gate is closed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.errors import ArgumentError, RuleError
from engrax.rules.fixed_point import Rounding, stored

STEPS, BATCH, INPUTS, UNITS, OUTPUTS = 40, 2, 3, 8, 2
TAU, KAPPA, THRESHOLD = 5.0, 3.0, 0.3


def network(key, model=ex.neurons.ALIF, **options):
    own = {"tau_adaptation": 200.0, "beta": 0.3} if model is ex.neurons.ALIF else {}
    return ex.Network(
        {
            "hidden": model(UNITS, tau=TAU, threshold=THRESHOLD, **own, **options),
            "out": ex.neurons.LI(OUTPUTS, tau=KAPPA),
        },
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden", autapses=False), ex.Dense("hidden", "out")],
        inputs={"input": INPUTS},
        outputs="out",
        key=key,
    )


def regression(key):
    spikes = jax.random.bernoulli(key, 0.4, (STEPS, BATCH, INPUTS)).astype(float)
    return ex.Trial(spikes, jax.random.normal(key, (STEPS, BATCH, OUTPUTS)))


def gradients(net, trial, key, bits, **options):
    rule = ex.rules.EProp(evaluation="online", trace_bits=bits, **options)
    found = rule.value_and_grad(net, trial, key)[1]
    return {name: np.asarray(p.weight) for name, p in found.projections.items()}


@pytest.mark.x64
@pytest.mark.parametrize("bits", [8, 16])
def test_lif_gradients_stay_within_the_bound_of_their_rounding(bits, key):
    """Every held number is off by less than a level, and what decays forgets geometrically."""
    net, trial = network(key, ex.neurons.LIF), regression(key)
    record = net.run(trial.inputs, record="hidden")
    assert float(record["hidden"].mean()) > 0.05
    exact, found = (gradients(net, trial, key, b) for b in (None, bits))
    alpha, kappa, psi, full = np.exp(-1 / TAU), np.exp(-1 / KAPPA), 0.3 / THRESHOLD, 2 ** (bits - 1) - 1
    voltage = 1 / (1 - alpha)  # eps <= sum of alpha^k
    off_voltage = voltage / full / (1 - alpha)
    off_filtered = psi * off_voltage + psi * voltage / full / (1 - kappa)
    error = 2 * np.abs(np.asarray(record.outputs) - np.asarray(trial.targets)) / (STEPS * BATCH)
    weight = np.abs(np.asarray(net.projections["hidden->out"].weight))
    learners = np.einsum("tbk,kj->j", error, weight)[:, None] * off_filtered
    readout = error.sum((0, 1))[:, None] / full / (1 - kappa)
    for name, bound in (("input->hidden", learners), ("hidden->hidden", learners), ("hidden->out", readout)):
        off = np.abs(found[name] - exact[name])
        assert np.all(off <= bound), name
        assert off.max() > 0 and np.abs(exact[name]).max() > 0, name
        if bits == 16:
            assert bound.max() < 0.2 * np.abs(exact[name]).max(), name


@pytest.mark.nightly
@pytest.mark.x64
def test_rounding_is_unbiased_and_each_bit_halves_it(key):
    net, trial = network(key), regression(key)
    exact = gradients(net, trial, key, None)
    errors = {}
    for bits in (6, 10):
        rule = ex.rules.EProp(evaluation="online", trace_bits=bits)
        many = jax.jit(jax.vmap(lambda k, rule=rule: rule.value_and_grad(net, trial, k)[1]))(jax.random.split(key, 200))
        errors[bits] = {n: np.asarray(p.weight) - exact[n] for n, p in many.projections.items()}
    for name in exact:
        coarse, fine = errors[6][name], errors[10][name]
        spread = coarse.std(0)
        moved = spread > 0
        assert moved.sum() > moved.size / 4
        # A mean of 200 draws, some 130 weights at a time: five standard errors.
        assert np.all(np.abs(coarse.mean(0))[moved] < 5 * spread[moved] / np.sqrt(200)), name
        ratio = np.sqrt(np.mean(coarse**2) / np.mean(fine**2))
        assert ratio == pytest.approx((2**9 - 1) / (2**5 - 1), rel=0.2), name


@pytest.mark.x64
def test_sixteen_bits_are_the_floating_gradient_to_a_thousandth(key):
    net, trial = network(key), regression(key)
    rates = ex.losses.FiringRate(50.0, 20.0)
    exact, found = (gradients(net, trial, key, b, feedback="random", regularizers=rates) for b in (None, 16))
    for name, wanted in exact.items():
        size = np.abs(wanted).max()
        assert 0 < np.abs(found[name] - wanted).max() < 1e-3 * size, name


@pytest.mark.nightly
@pytest.mark.x64
def test_a_closed_gate_leaves_traces_to_their_decay(key):
    net, trial = network(key), regression(key)
    rule = ex.rules.EProp(evaluation="online", trace_bits=4)
    state = rule.init(net, BATCH, key)
    for t in range(20):
        state, _, _ = rule.update(net, state, trial.inputs[t], trial.targets[t])
    # Far below threshold no surrogate is left; the adaptation's trace still sees the step before.
    low = eqx.tree_at(lambda s: s.network.neurons["hidden"].voltage, state, jnp.full((BATCH, UNITS), -50.0))
    after, _, gradient = rule.update(net, low, trial.inputs[20], trial.targets[20])
    rho, kappa = np.exp(-1 / 200.0), np.exp(-1 / KAPPA)
    for name in ("weight input->hidden", "weight hidden->hidden"):
        assert np.abs(low.eligibility[name][1]).max() > 0 and np.abs(low.filtered[f"out|{name}"][0]).max() > 0
        np.testing.assert_allclose(after.eligibility[name][1], rho * low.eligibility[name][1], rtol=1e-12)
        np.testing.assert_allclose(after.filtered[f"out|{name}"][0], kappa * low.filtered[f"out|{name}"][0], rtol=1e-12)
    assert np.abs(gradient.projections["input->hidden"].weight).max() > 0
    # With the gate open they are rounded.
    moved, _, _ = rule.update(net, state, trial.inputs[20], trial.targets[20])
    free, _, _ = ex.rules.EProp(evaluation="online").update(net, state, trial.inputs[20], trial.targets[20])
    name = "weight input->hidden"
    assert not np.allclose(moved.eligibility[name][1], free.eligibility[name][1], rtol=1e-3)
    # A unit's synapses hold at most 2^bits - 1 different numbers, zero among them.
    wide = np.asarray(moved.eligibility["weight hidden->hidden"][1])[:, 0]
    for row in wide.reshape(-1, UNITS):
        gaps = np.diff(np.unique(np.abs(np.round(row, 12))))
        if gaps.size:
            levels = row / gaps.min()
            assert len(np.unique(np.round(row, 12))) <= 15 and np.isfinite(levels).all()


@pytest.mark.x64
def test_what_is_held_lies_on_levels_and_its_mean_is_the_trace(key):
    draws, bits = 4000, 4
    trace = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 1, 3, 4)))
    bound = jnp.max(jnp.abs(trace), axis=-1, keepdims=True) * jnp.asarray([1.0, 1.5, 1.0])[None, None, :, None]
    gate = jnp.asarray([[[True, True, False]]])
    held = np.asarray(jax.vmap(lambda k: stored(trace, bound, gate, Rounding(bits, k)))(jax.random.split(key, draws)))
    level = np.asarray(bound) / 7
    found = held / level
    np.testing.assert_allclose(found[:, :, :, :2], np.round(found[:, :, :, :2]), atol=1e-9)
    assert np.abs(found).max() <= 7 + 1e-9
    np.testing.assert_array_equal(held[:, :, :, 2], np.broadcast_to(trace[:, :, 2], held[:, :, :, 2].shape))
    # Off by at most a level, so that a standard error is at most half of one over sqrt(draws).
    assert np.all(np.abs(held.mean(0) - trace) <= 5 * 0.5 * level / np.sqrt(draws))
    # Any two of them are independent: the correlation of 4,000 pairs is below five over their square root.
    errors = (held - np.asarray(trace))[:, 0, 0, :2].reshape(draws, -1)
    errors = errors[:, errors.std(0) > 1e-9]
    pairs = np.corrcoef(errors.T)[np.triu_indices(errors.shape[1], 1)]
    assert errors.shape[1] >= 6 and np.abs(pairs).max() < 5 / np.sqrt(draws)
    nothing = stored(jnp.zeros((1, 1, 2, 4)), jnp.zeros((1, 1, 2, 1)), jnp.ones((1, 1, 2), bool), Rounding(bits, key))
    assert not np.asarray(nothing).any()


@pytest.mark.nightly
@pytest.mark.x64
def test_a_stream_with_the_trials_key_is_the_trial(key):
    net, trial = network(key), regression(key)
    rule = ex.rules.EProp(evaluation="online", trace_bits=8, reduction="sum")
    _, wanted = rule.value_and_grad(net, trial, key)
    state, total = rule.init(net, BATCH, key), None
    for t in range(STEPS):
        state, _, gradient = rule.update(net, state, trial.inputs[t], trial.targets[t], reset=jnp.full(BATCH, t == 0))
        total = gradient if total is None else jax.tree.map(jnp.add, total, gradient)
    assert eqx.tree_equal(total, wanted, rtol=1e-9, atol=1e-12)
    _, other = rule.value_and_grad(net, trial, jax.random.key(1))
    assert not eqx.tree_equal(other, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.nightly
def test_units_without_a_shared_voltage_and_with_ports_too(key):
    for model in (ex.neurons.LIF(UNITS, reset="zero", threshold=0.5), ex.neurons.LSTM(UNITS)):
        net = ex.Network(
            {"hidden": model, "out": ex.neurons.LI(OUTPUTS, tau=jnp.array([5.0, 9.0]))},
            [ex.Dense("input", "hidden", bias=True), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out")],
            inputs={"input": INPUTS},
            outputs="out",
            key=key,
        )
        trial = jax.tree.map(lambda x: x.astype(jnp.float32), regression(key))
        exact, found = (gradients(net, trial, key, b) for b in (None, 16))
        for name, wanted in exact.items():
            size = np.abs(wanted).max()
            assert 0 < np.abs(found[name] - wanted).max() < 5e-3 * size, (type(model), name)


@pytest.mark.unchecked
def test_impossible_bits_are_refused(key):
    for wrong in (1, 17, 8.0, "8", True):
        with pytest.raises(ArgumentError, match="trace_bits must be"):
            ex.rules.EProp(evaluation="online", trace_bits=wrong)
    for evaluation in ("offline", "chunked"):
        with pytest.raises(ArgumentError, match="trace_bits needs evaluation='online'"):
            ex.rules.EProp(evaluation=evaluation, trace_bits=8)
    rule, net = ex.rules.EProp(evaluation="online", trace_bits=8), network(key)
    with pytest.raises(RuleError, match="call with a key"):
        rule.value_and_grad(net, regression(key))
    with pytest.raises(RuleError, match="call init with a key"):
        rule.init(net, BATCH)
