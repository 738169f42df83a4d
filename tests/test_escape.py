"""The gradient of the expected loss under escape noise, held against the sum over all spike trains there are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.analysis import escape, escape_slopes

STEPS, BATCH, UNITS, T = 4, 2, 2, 1.0


def network(key, **options):
    settings = {"threshold": 0.8, "beta": 0.5, "tau": 5.0, "tau_adaptation": 10.0}
    return ex.Network(
        {"hidden": ex.neurons.ALIF(UNITS, **{**settings, **options}), "out": ex.neurons.LI(1, tau=3.0)},
        [ex.Dense("input", "hidden", bias=True), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": 2},
        outputs="out",
        key=key,
    )


def data(key):
    return ex.Trial(3.0 * jax.random.normal(key, (STEPS, BATCH, 2)), jax.random.normal(key, (STEPS, BATCH, 1)))


def expected_loss(net, trial, refractory=0):
    """Mean over trials of the loss, weighted over all 2^(steps units) spike trains: a function of the projections."""
    alpha, rho, kappa = np.exp(-1 / 5), np.exp(-1 / 10), np.exp(-1 / 3)

    def value(projections):
        win, bias = projections["input->hidden"].weight, projections["input->hidden"].bias
        rec, out = projections["hidden->hidden"].weight, projections["hidden->out"].weight
        # Every train is a row; so is the batch in turn.
        trains = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=STEPS * UNITS))).reshape(-1, STEPS, UNITS)
        total = 0.0
        for b in range(BATCH):
            v = a = last = jnp.zeros((len(trains), UNITS))
            left, y, probability, loss = np.zeros((len(trains), UNITS)), 0.0, 1.0, 0.0
            for t in range(STEPS):
                left = np.clip(left + refractory * np.asarray(last) - 1, 0, refractory)
                a = rho * a + last
                v = alpha * v + (win @ trial.inputs[t, b] + bias)[None] + last @ rec.T - 0.8 * last
                p = jnp.where(left == 0, jax.nn.sigmoid((v - 0.8 - 0.5 * a) / (T * 0.8)), 0.0)
                last = trains[:, t]
                probability = probability * jnp.prod(jnp.where(last > 0, p, 1 - p), axis=1)
                y = kappa * y + (1 - kappa) * (last @ out.T)
                loss = loss + jnp.sum(jnp.square(y - trial.targets[t, b][None]), axis=1) / STEPS
            total = total + jnp.sum(probability * loss) / BATCH
        return total

    return jax.grad(value)(net.projections)


@pytest.mark.nightly
@pytest.mark.x64
@pytest.mark.slow
@pytest.mark.parametrize("refractory", [pytest.param(0.0, marks=pytest.mark.nightly), 2.0])
def test_the_estimate_is_unbiased(key, refractory):
    net, trial = network(key, refractory=refractory), data(key)
    wanted = jnp.concatenate([x.ravel() for x in jax.tree.leaves(expected_loss(net, trial, int(refractory)))])
    rule = ex.rules.BPTT()
    groups = 1500

    def one(number):
        found = escape._group(net, trial, rule, jax.random.fold_in(key, number), T)
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(found.projections)])

    drawn = np.asarray(jax.lax.map(one, jnp.arange(groups), batch_size=100))
    error = drawn.std(axis=0, ddof=1) / np.sqrt(groups)
    assert np.all(error < 0.1 * np.abs(wanted).max())
    # 13 figures: the largest of their deviations lies below 4.5 standard errors but once in ten thousand.
    assert np.all(np.abs(drawn.mean(axis=0) - wanted) < 4.5 * error)


@pytest.mark.x64
@pytest.mark.slow
def test_slopes_are_those_of_the_expected_loss():
    key = jax.random.key(4)  # spikes early enough for every projection to have a gradient
    net, trial = network(key), data(key)
    exact, rule = expected_loss(net, trial), ex.rules.EProp()
    mine = rule.value_and_grad(net, trial)[1].projections
    found = escape_slopes(net, trial, rule, key, draws=6000, temperature=T)
    assert set(found) == {*net.projections, "all"}
    for name in net.projections:
        g, r = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree[name])]) for tree in (exact, mine))
        slope = found[name]
        half = (slope.high - slope.low) / 2
        assert abs(slope.value - g @ r / np.linalg.norm(r)) < 2.5 * half
        assert slope.low < slope.value < slope.high
        assert np.linalg.norm(r) > 0
        cosine = g @ r / np.linalg.norm(r) / np.linalg.norm(g)
        assert slope.cosine == pytest.approx(cosine, abs=0.15)


@pytest.mark.nightly
def test_trials_are_told_apart_whatever_their_targets(key):
    """Losses of trials by themselves have the batch's loss as their mean."""
    net = network(key)
    inputs = 1.5 * jax.random.normal(key, (STEPS, BATCH, 2))
    outputs = {"out": net.run(inputs).outputs}
    real = jax.random.normal(key, (STEPS, BATCH, 1))
    mask = jnp.broadcast_to(jnp.arange(STEPS)[:, None] > 0, (STEPS, BATCH)).astype(jnp.float32)
    lengths = jnp.full(BATCH, 2)
    for trial in (
        ex.Trial(inputs, real),
        ex.Trial(inputs, real, mask),
        ex.Trial(inputs, real, None, lengths),
        ex.Trial(inputs, jnp.zeros((STEPS, BATCH), jnp.int32)),
        ex.Trial(inputs, jnp.zeros(BATCH, jnp.int32)),
    ):
        rule = ex.rules.BPTT()
        each = escape._losses(net, rule.losses(net, trial), outputs, trial)
        assert each.shape == (BATCH,)
        np.testing.assert_allclose(each.mean(), rule.value_and_grad(net, trial)[0], rtol=1e-5)


def test_a_zero_gradient_has_no_slope(key):
    """Without a spike nothing reaches the readout, and by its weights the deterministic loss is flat."""
    net, trial = network(key, threshold=50.0), data(key)
    found = escape_slopes(net, trial, ex.rules.BPTT(), key, draws=16)
    assert all(np.isnan(x) for x in found["hidden->out"])


@pytest.mark.unchecked
def test_nonsense_is_refused(key):
    net, trial, rule = network(key), data(key), ex.rules.BPTT()
    for options, words in (({"draws": 0}, "draws"), ({"temperature": 0.0}, "temperature"), ({"key": 3}, "key")):
        with pytest.raises(ex.errors.ArgumentError, match=words):
            escape_slopes(net, trial, rule, **{"key": key, **options})
    smooth = ex.Network({"r": ex.neurons.Rate(1)}, [ex.Dense("x", "r")], inputs={"x": 2}, outputs="r", key=key)
    with pytest.raises(ex.errors.ArgumentError, match="nothing in it spikes"):
        escape_slopes(smooth, trial, rule, key)
