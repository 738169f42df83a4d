"""e-prop against the paper's own formulas, and as a stream."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.papers import lstm_reference
from engrax.testing import check_rule, finite_differences
from engrax.testing.reference import simulate

STEPS, BATCH, INPUTS, UNITS, OUTPUTS = 40, 2, 3, 8, 2


def network(hidden, key, readout=None, bias=False):
    return ex.Network(
        {"hidden": hidden, "out": readout or ex.neurons.LI(OUTPUTS, tau=15.0)},
        [
            ex.Dense("input", "hidden", bias=bias),
            ex.Dense("hidden", "hidden", autapses=False),
            ex.Dense("hidden", "out", bias=bias),
        ],
        inputs={"input": INPUTS},
        outputs="out",
        key=key,
    )


def regression(key):
    spikes = jax.random.bernoulli(key, 0.4, (STEPS, BATCH, INPUTS)).astype(float)
    return ex.Trial(spikes, jax.random.normal(key, (STEPS, BATCH, OUTPUTS)))


_KINDS = [(0, "full"), (3, "full"), (0, "simplified"), (0, "none")]
_DAILY = {("offline", 0, "full"), ("online", 0, "simplified"), ("chunked", 3, "full"), ("offline", 0, "none")}
TRACES = [
    pytest.param(e, *k, mode, marks=() if mode == "auto" and (e, *k) in _DAILY else pytest.mark.nightly)
    for mode, e, k in itertools.product(("auto", "off"), ("offline", "online", "chunked"), _KINDS)
]


@pytest.mark.x64
@pytest.mark.parametrize(("evaluation", "refractory", "kind", "mode"), TRACES)
def test_lsnn_traces_are_the_papers(key, evaluation, refractory, kind, mode, monkeypatch):
    """Bellec et al. 2020, Eqs. 22-26 with Eq. 4, summed by hand over units, synapses and time."""
    monkeypatch.setenv("ENGRAX_EVENTS", mode)
    jax.clear_caches()
    beta = np.r_[np.zeros(4), np.full(4, 0.3)]
    tau, tau_a, threshold, gamma = 12.0, 60.0, 0.5, 0.3
    hidden = ex.neurons.ALIF(
        UNITS, tau=tau, tau_adaptation=tau_a, threshold=threshold, beta=beta, refractory=float(refractory)
    )
    net = network(hidden, key)
    trial = regression(key)
    trace = None if kind == "full" else kind
    rule = ex.rules.EProp(feedback="random", evaluation=evaluation, chunk=7, reduction="sum", trace=trace)
    net = rule.bind(net, key)
    _, gradient = rule.value_and_grad(net, trial)

    w_in, w_rec, w_out = (
        np.asarray(net.projections[n].weight) for n in ("input->hidden", "hidden->hidden", "hidden->out")
    )
    b = np.asarray(net.feedback["out->hidden"].weight)
    alpha, rho, kappa = np.exp(-1 / tau), np.exp(-1 / tau_a), np.exp(-1 / 15)
    d_in, d_rec, d_out = np.zeros_like(w_in), np.zeros_like(w_rec), np.zeros_like(w_out)
    spiked = 0
    for trial_index in range(BATCH):
        v, a, y = np.zeros(UNITS), np.zeros(UNITS), np.zeros(OUTPUTS)
        z, left = np.zeros(UNITS), np.zeros(UNITS)
        traces = {
            n: [np.zeros(k), np.zeros((UNITS, k)), np.zeros((UNITS, k))] for n, k in (("in", INPUTS), ("rec", UNITS))
        }
        z_filtered = np.zeros(UNITS)
        for t in range(STEPS):
            x, target = np.asarray(trial.inputs[t, trial_index]), np.asarray(trial.targets[t, trial_index])
            pre = {"in": x, "rec": z}
            a = rho * a + z
            v = alpha * v + w_in @ x + w_rec @ z - threshold * z
            left = np.clip(left + refractory * z - 1, 0, refractory)
            above = v - threshold - beta * a
            z = ((above > 0) & (left == 0)).astype(float)
            psi = gamma / threshold * np.maximum(0, 1 - np.abs(above) / threshold) * (left == 0)
            spiked += z.sum()
            y = kappa * y + (1 - kappa) * (w_out @ z)
            error = 2 / OUTPUTS * (y - target)
            z_filtered = kappa * z_filtered + (1 - kappa) * z
            d_out += np.outer(error, z_filtered)
            for name, total in (("in", d_in), ("rec", d_rec)):
                low, slow, filtered = traces[name]
                low[:] = alpha * low + pre[name]
                e = psi[:, None] * (low[None] - beta[:, None] * slow)
                slow[:] = {"full": rho * slow + e, "simplified": rho * slow + psi[:, None] * low, "none": 0}[kind]
                filtered[:] = kappa * filtered + (1 - kappa) * e
                total += (b @ error)[:, None] * filtered
    np.fill_diagonal(d_rec, 0)
    assert spiked > 20
    for name, wanted in (("input->hidden", d_in), ("hidden->hidden", d_rec), ("hidden->out", d_out)):
        found = np.asarray(gradient.projections[name].weight)
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.x64
@pytest.mark.parametrize("evaluation", ["offline", "online", "chunked"])
def test_lstm_traces_are_the_papers(evaluation):
    """Bellec et al. 2020, Supplementary Note 4: one trace a gate, carried by the forget gate alone."""
    net, trial = lstm_reference.example(0)
    wanted, found = lstm_reference.by_hand(net, trial), lstm_reference.by_rule(net, trial, evaluation)
    recurrent = slice(lstm_reference.INPUTS, -1)
    wanted[:, :, recurrent] *= 1 - np.eye(lstm_reference.UNITS)
    assert np.abs(wanted).max(axis=(1, 2)).min() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.x64
def test_without_recurrence_symmetric_eprop_is_exact(key):
    """Nothing is cut where nothing recurs: smooth feed-forward e-prop equals finite differences of the loss."""
    net = ex.Network(
        {"hidden": ex.neurons.Rate(4, tau=ex.trainable(6.0, positive=True)), "out": ex.neurons.LI(2, tau=5.0)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": INPUTS},
        outputs="out",
        key=key,
    )
    trial = regression(key)
    _, gradient = ex.rules.EProp(evaluation="online").value_and_grad(net, trial)

    def value(weight):
        changed = eqx.tree_at(lambda n: n.projections["input->hidden"].weight, net, weight)
        return jnp.mean(jnp.square(simulate(changed, {"input": trial.inputs}, False)[0]["out"] - trial.targets))

    def value_of_raw(raw):
        changed = eqx.tree_at(lambda n: n.populations["hidden"].tau.raw, net, raw)
        return jnp.mean(jnp.square(simulate(changed, {"input": trial.inputs}, False)[0]["out"] - trial.targets))

    wanted = finite_differences(value, net.projections["input->hidden"].weight)
    np.testing.assert_allclose(gradient.projections["input->hidden"].weight, wanted, rtol=1e-6, atol=1e-9)
    raw = net.populations["hidden"].tau.raw
    slope = (value_of_raw(raw + 1e-5) - value_of_raw(raw - 1e-5)) / 2e-5
    np.testing.assert_allclose(gradient.populations["hidden"].tau.raw, slope, rtol=1e-6)


# Streaming


def alif(**options):
    return ex.neurons.ALIF(UNITS, threshold=0.5, tau_adaptation=50.0, beta=0.3, **options)


def stream(rule, net, trial, **options):
    state = rule.init(net, BATCH)
    total, losses = None, []
    for t in range(STEPS):
        target = None if "finish" in options else trial.targets[t]
        state, loss, gradient = rule.update(net, state, trial.inputs[t], target)
        losses.append(float(loss))
        total = gradient if total is None else jax.tree.map(jnp.add, total, gradient)
    if options.get("finish"):
        loss, gradient = rule.finish(net, state, trial.targets)
        losses.append(float(loss))
        total = jax.tree.map(jnp.add, total, gradient)
    return sum(losses), total


@pytest.mark.x64
def test_a_stream_of_steps_is_the_whole_trial(key):
    net, trial = network(alif(), key, bias=True), regression(key)
    rule = ex.rules.EProp(feedback="random")
    net = rule.bind(net, key)
    value, gradient = rule.value_and_grad(net, trial)
    streamed, total = stream(rule, net, trial)
    assert abs(streamed / STEPS - value) < 1e-12
    assert eqx.tree_equal(jax.tree.map(lambda g: g / STEPS, total), gradient, rtol=1e-9, atol=1e-13)


@pytest.mark.x64
@pytest.mark.parametrize("loss", ["cross_entropy_mean", "cross_entropy_last", "cross_entropy_count"])
def test_terminal_losses_and_rates_come_at_the_end(key, loss):
    net = network(alif(), key)
    trial = ex.Trial(regression(key).inputs, jnp.array([1, 0]))
    rule = ex.rules.EProp(loss=loss, regularizers=ex.losses.FiringRate(50.0, 20.0))
    value, gradient = rule.value_and_grad(net, trial)
    streamed, total = stream(rule, net, trial, finish=True)
    assert abs(streamed - value) < 1e-12
    assert eqx.tree_equal(total, gradient, rtol=1e-9, atol=1e-13)


@pytest.mark.x64
def test_reset_starts_single_trials_anew(key):
    net, trial = network(alif(), key), regression(key)
    rule = ex.rules.EProp()
    state = rule.init(net, BATCH)
    for t in range(10):
        state, _, _ = rule.update(net, state, trial.inputs[t], trial.targets[t])
    fresh = rule.init(net, BATCH)
    for t in range(10, 20):
        reset = jnp.array([t == 10, False])
        state, _, _ = rule.update(net, state, trial.inputs[t], trial.targets[t], reset=reset)
        fresh, _, _ = rule.update(net, fresh, trial.inputs[t], trial.targets[t])
    for name, (trace,) in state.filtered.items():
        (other,) = fresh.filtered[name]
        np.testing.assert_allclose(trace[0], other[0], atol=1e-14)
        assert not np.allclose(trace[1], other[1])
    np.testing.assert_array_equal(
        state.network.neurons["hidden"].voltage[0], fresh.network.neurons["hidden"].voltage[0]
    )


@pytest.mark.x64
def test_a_signal_replaces_the_loss(key):
    net, trial = network(alif(), key), regression(key)
    rule = ex.rules.EProp()
    by_loss, by_signal = rule.init(net, BATCH), rule.init(net, BATCH)
    state = net.init_state(BATCH)
    for t in range(15):
        state, y = net.step(state, trial.inputs[t])
        signal = 2 * (y - trial.targets[t]) / OUTPUTS / BATCH
        by_loss, _, wanted = rule.update(net, by_loss, trial.inputs[t], trial.targets[t])
        by_signal, loss, found = rule.update(net, by_signal, trial.inputs[t], signal=signal)
    assert float(loss) == 0
    assert jnp.any(wanted.projections["input->hidden"].weight != 0)
    assert eqx.tree_equal(found, wanted, rtol=1e-9, atol=1e-14)


def test_update_refuses_what_is_not_causal(key):
    net, trial = network(alif(), key), regression(key)
    late = ex.rules.EProp(loss="cross_entropy_mean")
    with pytest.raises(ex.errors.LossError, match="finish"):
        late.update(net, late.init(net, BATCH), trial.inputs[0], jnp.array([0, 1]))
    whole = ex.losses.Sequence(lambda outputs, trial: jnp.sum(outputs, axis=(0, 2)))
    with pytest.raises(ex.errors.LossError, match="whole sequence"):
        ex.rules.EProp(loss=whole).init(net, BATCH)
    with pytest.raises(ex.errors.LossError, match="offline"):
        ex.rules.EProp(loss=whole, evaluation="online").value_and_grad(net, trial)


# Feedback


def test_adaptive_feedback_gets_the_readouts_gradient(key):
    net, trial = network(alif(), key), regression(key)
    rule = ex.rules.EProp(feedback="adaptive")
    with pytest.raises(ex.errors.RuleError, match="bind"):
        rule.value_and_grad(net, trial)
    net = rule.bind(net, key)
    assert net.feedback["out->hidden"].weight.shape == (UNITS, OUTPUTS)
    _, gradient = rule.value_and_grad(net, trial)
    np.testing.assert_array_equal(gradient.feedback["out->hidden"].weight, gradient.projections["hidden->out"].weight.T)


def test_random_feedback_is_fixed_and_drawn_from_its_seed(key):
    net, trial = network(alif(), key), regression(key)
    rule = ex.rules.EProp(feedback="random", seed=3)
    _, gradient = rule.value_and_grad(net, trial)
    assert not gradient.feedback
    bound = rule.bind(net, jax.random.PRNGKey(3))
    _, again = rule.value_and_grad(bound, trial)
    assert eqx.tree_equal(gradient.projections, again.projections)
    assert again.feedback["out->hidden"].weight is None
    other = dataclasses.replace(rule, seed=4).value_and_grad(net, trial)[1]
    assert not jnp.allclose(other.projections["input->hidden"].weight, gradient.projections["input->hidden"].weight)


def test_symmetric_feedback_names_a_population_it_cannot_reach(key):
    net = ex.Network(
        {"first": alif(), "second": alif(), "out": ex.neurons.LI(OUTPUTS)},
        [ex.Dense("input", "first"), ex.Dense("first", "second"), ex.Dense("second", "out")],
        inputs={"input": INPUTS},
        outputs="out",
        key=key,
    )
    trial = regression(key)
    with pytest.raises(ex.errors.RuleError, match="'first'"):
        ex.rules.EProp().value_and_grad(net, trial)
    _, gradient = ex.rules.EProp(feedback="random").value_and_grad(net, trial)
    assert jnp.any(gradient.projections["input->first"].weight != 0)


def test_traces_over_the_memory_budget_are_refused_with_the_figure(key):
    net, trial = network(alif(), key), regression(key)
    with pytest.raises(ex.errors.MemoryBudgetError, match="GiB"):
        ex.rules.EProp(evaluation="online", memory_budget=100.0).value_and_grad(net, trial)


@pytest.mark.x64
def test_parallel_projections_onto_a_readout(key):
    """Two onto the same current add up in every evaluation; two onto different currents are refused but offline."""
    trial = regression(key)

    def net(readout, *targets):
        onto = [ex.Dense("hidden", target, name=f"{i}") for i, target in enumerate(targets)]
        gates = [ex.Dense("input", "out")] if readout.ports else []
        return ex.Network(
            {"hidden": alif(), "out": readout},
            [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden", autapses=False), *onto, *gates],
            inputs={"input": INPUTS},
            outputs="out",
            key=key,
        )

    twice = net(ex.neurons.LI(OUTPUTS), "out", "out")
    forked = net(ex.neurons.LSTM(OUTPUTS), "out.input", "out.cell")
    _, wanted = ex.rules.EProp().value_and_grad(twice, trial)
    assert jnp.any(wanted.projections["input->hidden"].weight != 0)
    for evaluation in ("online", "chunked"):
        rule = ex.rules.EProp(evaluation=evaluation, chunk=7)
        _, found = rule.value_and_grad(twice, trial)
        for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        with pytest.raises(ex.errors.RuleError, match="several currents"):
            rule.value_and_grad(forked, trial)
    _, gradient = ex.rules.EProp().value_and_grad(forked, trial)
    assert jnp.any(gradient.projections["input->hidden"].weight != 0)


def test_voltages_have_one_eligibility_vector_for_all_units(key):
    rule = ex.rules.EProp()
    lif = rule.init(network(ex.neurons.LIF(UNITS), key), BATCH).eligibility["weight hidden->hidden"]
    adaptive = rule.init(network(alif(), key), BATCH).eligibility["weight hidden->hidden"]
    assert [x.shape for x in lif] == [(BATCH, 1, 1, UNITS)]
    assert [x.shape for x in adaptive] == [(BATCH, 1, 1, UNITS), (BATCH, 1, UNITS, UNITS)]


@pytest.mark.nightly
def test_a_rule_is_checked_on_four_models_by_default():
    check_rule(ex.rules.EProp(feedback="symmetric"))


def test_feedback_scale_sets_the_size_of_drawn_weights(key):
    net = ex.Network(
        {"hidden": ex.neurons.LIF(400), "out": ex.neurons.LI(4)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": 2},
        outputs="out",
        key=key,
    )

    def weights(**options):
        return np.asarray(ex.rules.EProp(**options).bind(net, key).feedback["out->hidden"].weight)

    for kind, usual in (("random", 1.0), ("adaptive", 0.5), ("uniform", 0.05)):
        plain, scaled = weights(feedback=kind), weights(feedback=kind, feedback_scale=0.2)
        assert np.sqrt(np.mean(plain**2)) == pytest.approx(usual, rel=0.05)
        np.testing.assert_allclose(scaled, 0.2 / usual * plain, rtol=1e-5)
    unbound = ex.rules.EProp(feedback="random", feedback_scale=0.2)
    assert np.std(np.asarray(unbound.bound(net).feedback["out->hidden"].weight)) == pytest.approx(0.2, rel=0.05)
    for wrong in (0, -1.0, float("nan"), True):
        with pytest.raises(ex.errors.ArgumentError, match="feedback_scale"):
            ex.rules.EProp(feedback="random", feedback_scale=wrong)
    with pytest.raises(ex.errors.ArgumentError, match="feedback_scale has no meaning"):
        ex.rules.EProp(feedback_scale=0.1)


@pytest.mark.parametrize("trace", ["simplified", "none"])
def test_models_and_rules_may_say_how_eligibility_goes(trace, key):
    trial = regression(key)
    by_rule = ex.rules.EProp(trace=trace).value_and_grad(network(alif(), key), trial)[1]
    by_model = ex.rules.EProp().value_and_grad(network(alif(trace=trace), key), trial)[1]
    full = ex.rules.EProp().value_and_grad(network(alif(), key), trial)[1]
    weights = [np.asarray(g.projections["hidden->hidden"].weight) for g in (by_rule, by_model, full)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 1e-4
    back = ex.rules.EProp(trace="full").value_and_grad(network(alif(trace=trace), key), trial)[1]
    np.testing.assert_array_equal(back.projections["hidden->hidden"].weight, weights[2])
    # BPTT follows every way.
    nets = network(alif(), key), network(alif(trace=trace), key)
    _, grads = zip(*(ex.rules.BPTT().value_and_grad(net, trial) for net in nets), strict=True)
    np.testing.assert_array_equal(*(g.projections["hidden->hidden"].weight for g in grads))


def test_traces_that_mean_nothing_are_refused(key):
    with pytest.raises(ex.errors.RuleError, match="no population has an adaptation"):
        ex.rules.EProp(trace="none").value_and_grad(network(ex.neurons.LIF(UNITS), key), regression(key))
    with pytest.raises(ex.errors.ArgumentError, match="trace"):
        ex.rules.EProp(trace="some")


@pytest.mark.x64
@pytest.mark.parametrize("evaluation", ["offline", "online", "chunked"])
def test_trained_time_constants_have_simplified_traces(key, evaluation):
    hidden = alif(tau=ex.trainable(12.0, positive=True), trace="simplified")
    net, trial = network(hidden, key), regression(key)
    found = ex.rules.EProp(evaluation=evaluation, chunk=7, trace="full").value_and_grad(net, trial)[1]
    wanted = ex.rules.EProp().value_and_grad(network(alif(tau=ex.trainable(12.0, positive=True)), key), trial)[1]
    np.testing.assert_allclose(found.populations["hidden"].tau.raw, wanted.populations["hidden"].tau.raw, rtol=1e-10)


@pytest.mark.x64
def test_shuffled_feedback_deals_the_readouts_weights_out(key):
    net, trial = network(alif(), key), regression(key)
    rule = ex.rules.EProp(feedback="shuffled")
    _, found = rule.value_and_grad(net, trial, key)
    # As random feedback does with the same weights in another order of units.
    order = jax.random.permutation(jax.random.fold_in(key, 0), UNITS)
    same = ex.rules.EProp(feedback="random")
    bound = same.bind(net, key)
    weight = net.projections["hidden->out"].weight.T[order]
    bound = eqx.tree_at(lambda n: n.feedback["out->hidden"].weight, bound, weight)
    _, wanted = same.value_and_grad(bound, trial)
    for name in ("input->hidden", "hidden->hidden", "hidden->out"):
        np.testing.assert_allclose(found.projections[name].weight, wanted.projections[name].weight, rtol=1e-12)
    _, other = rule.value_and_grad(net, trial, jax.random.key(99))
    assert np.abs(
        np.asarray(other.projections["input->hidden"].weight - found.projections["input->hidden"].weight)
    ).max()
    with pytest.raises(ex.errors.RuleError, match="key"):
        rule.value_and_grad(net, trial)
    with pytest.raises(ex.errors.RuleError, match="streamed"):
        rule.init(net, BATCH)
