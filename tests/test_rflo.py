"""RFLO and its two approximations apart, against the formulas of Murray 2019 written out."""

import equinox as eqx
import jax
import numpy as np
import pytest

import engrax as ex

STEPS, UNITS, INPUTS, OUTPUTS, TAU = 14, 6, 3, 2, 10.0


def setup(key, gain=1.5):
    """Murray's network: leaky tanh units, a linear readout without memory, and feedback weights."""
    keys = jax.random.split(key, 4)
    net = ex.Network(
        {"hidden": ex.neurons.Rate(UNITS, tau=TAU), "out": ex.neurons.Relay(OUTPUTS)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": INPUTS},
        outputs="out",
        key=keys[0],
    )
    recurrent = gain * jax.random.normal(keys[3], (UNITS, UNITS)) / np.sqrt(UNITS)
    net = eqx.tree_at(lambda n: n.projections["hidden->hidden"].weight, net, recurrent)
    net = ex.rules.RFLO().bind(net, keys[1])
    trial = ex.Trial(jax.random.normal(keys[2], (STEPS, 1, INPUTS)), jax.random.normal(keys[3], (STEPS, 1, OUTPUTS)))
    return net, trial


def written_out(net, trial, timing="consistent", local=True, random=True):
    """Loss and gradients of W, W_in, W_out, with eps = y - y* and L the mean of eps^2 over steps and outputs."""
    w, w_in, w_out = (
        np.asarray(net.projections[f"{n}"].weight) for n in ("hidden->hidden", "input->hidden", "hidden->out")
    )
    b = np.asarray(net.feedback["out->hidden"].weight) if random else w_out.T
    x, target = np.asarray(trial.inputs[:, 0]), np.asarray(trial.targets[:, 0])
    h, past, p, q = np.zeros(UNITS), np.zeros(INPUTS), np.zeros((UNITS, UNITS)), np.zeros((UNITS, INPUTS))
    slopes, rates, eps = [], [h], []
    g, g_in, g_out = np.zeros_like(w), np.zeros_like(w_in), np.zeros_like(w_out)
    scale = 2 / (STEPS * OUTPUTS)
    for t in range(STEPS):
        phi = np.tanh(w @ h + w_in @ x[t])
        slope = 1 - phi**2
        p = (1 - 1 / TAU) * p + slope[:, None] * h[None] / TAU
        q = (1 - 1 / TAU) * q + slope[:, None] * (x[t] if timing == "consistent" else past)[None] / TAU
        h, past = h + (phi - h) / TAU, x[t]
        error = scale * (w_out @ h - target[t])
        g += (b @ error)[:, None] * p
        g_in += (b @ error)[:, None] * q
        g_out += np.outer(error, h)
        slopes, rates, eps = [*slopes, slope], [*rates, h], [*eps, error]
    if not local:
        g, g_in, z = np.zeros_like(w), np.zeros_like(w_in), np.zeros(UNITS)
        for t in reversed(range(STEPS)):
            z = b @ eps[t] + z
            g += np.outer(slopes[t] * z, rates[t]) / TAU
            g_in += np.outer(slopes[t] * z, x[t]) / TAU
            z = (1 - 1 / TAU) * z + w.T @ (slopes[t] * z) / TAU
    return np.sum(np.square(eps)) * STEPS * OUTPUTS / 4, {
        "hidden->hidden": g,
        "input->hidden": g_in,
        "hidden->out": g_out,
    }


def assert_same(found, wanted):
    assert float(found[0]) == pytest.approx(wanted[0], rel=1e-12)
    for name, gradient in wanted[1].items():
        np.testing.assert_allclose(found[1].projections[name].weight, gradient, atol=1e-12, err_msg=name)


@pytest.mark.x64
@pytest.mark.parametrize("timing", ["consistent", "printed"])
def test_rflo_is_its_formulas(timing, key):
    net, trial = setup(key)
    assert_same(ex.rules.RFLO(timing=timing).value_and_grad(net, trial), written_out(net, trial, timing))
    other = written_out(net, trial, "consistent" if timing == "printed" else "printed")[1]["input->hidden"]
    found = ex.rules.RFLO(timing=timing).value_and_grad(net, trial)[1].projections["input->hidden"].weight
    assert np.abs(found - other).max() > 1e-4


@pytest.mark.x64
def test_each_approximation_alone_is_its_formulas(key):
    net, trial = setup(key)
    local = ex.rules.RFLO(feedback="symmetric").value_and_grad(net, trial)
    assert_same(local, written_out(net, trial, random=False))
    for rule in (ex.rules.FeedbackBPTT(), ex.rules.FeedbackBPTT(feedback="random", checkpoint=4)):
        assert_same(rule.value_and_grad(net, trial), written_out(net, trial, local=False))
    assert_same(ex.rules.BPTT().value_and_grad(net, trial), written_out(net, trial, local=False, random=False))


@pytest.mark.x64
def test_without_recurrence_and_by_symmetric_feedback_it_is_the_gradient(key):
    net, trial = setup(key, gain=0.0)
    a = ex.rules.RFLO(feedback="symmetric").value_and_grad(net, trial)[1]
    b = ex.rules.BPTT().value_and_grad(net, trial)[1]
    for name, projection in b.projections.items():
        np.testing.assert_allclose(a.projections[name].weight, projection.weight, atol=1e-12)


@pytest.mark.x64
def test_a_step_at_a_time_sums_to_the_trial(key):
    net, trial = setup(key)
    rule = ex.rules.RFLO()
    state, total = rule.init(net, 1), 0.0
    for t in range(STEPS):
        state, _, found = rule.update(net, state, trial.inputs[t], trial.targets[t])
        total = total + found.projections["hidden->hidden"].weight / STEPS
    np.testing.assert_allclose(total, written_out(net, trial)[1]["hidden->hidden"], atol=1e-12)


@pytest.mark.x64
def test_feedback_moves_with_the_readout_by_the_rule_that_uses_it_alone(key):
    net, trial = setup(key)
    rule = ex.rules.FeedbackBPTT(feedback="adaptive")
    net = rule.bind(net.replace(feedback=type(net.feedback)()), key)
    found = rule.value_and_grad(net, trial)[1]
    told = found.feedback["out->hidden"].weight
    np.testing.assert_allclose(told, found.projections["hidden->out"].weight.T, atol=1e-15)
    assert np.abs(told).max() > 1e-3
    assert not np.any(ex.rules.BPTT().value_and_grad(net, trial)[1].feedback["out->hidden"].weight)


def test_what_has_no_meaning_is_refused(key):
    net, trial = setup(key)
    with pytest.raises(ex.errors.ArgumentError, match="needs evaluation='offline'"):
        ex.rules.RFLO(timing="printed", evaluation="online")
    with pytest.raises(ex.errors.RuleError, match="cannot be streamed"):
        ex.rules.RFLO(timing="printed").init(net, 1)
    with pytest.raises(ex.errors.ArgumentError, match="FeedbackBPTT: feedback_scale has no meaning"):
        ex.rules.FeedbackBPTT(feedback="symmetric", feedback_scale=2.0)
    bare = net.replace(feedback=type(net.feedback)())
    with pytest.raises(ex.errors.RuleError, match="make them with"):
        ex.rules.FeedbackBPTT(feedback="adaptive").value_and_grad(bare, trial)
