"""Loss sequences of NEST and of the authors' TensorFlow programs, through the public API, in float64.

Both set-ups draw everything from NumPy's legacy global generator with seed 1, in a fixed order, as float32.
"""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex

REFERENCE = json.loads((Path(__file__).parent / "references" / "eprop_losses.json").read_text())


def _network(neuron, readout, w_in, w_rec, w_out, feedback):
    net = ex.Network(
        {"hidden": neuron, "out": readout},
        [
            ex.Dense("input", "hidden", weight=np.float64(w_in.T)),
            ex.Dense("hidden", "hidden", weight=np.float64(w_rec.T), autapses=False),
            ex.Dense("hidden", "out", weight=np.float64(w_out.T)),
        ],
        inputs={"input": w_in.shape[0]},
        outputs="out",
        dt=1.0,
    )
    net = ex.rules.EProp(feedback="random").bind(net, jax.random.PRNGKey(0))
    return eqx.tree_at(lambda n: n.feedback["out->hidden"].weight, net, jnp.asarray(np.float64(feedback)))


def _losses(net, rule, optimizer, trials):
    state = optimizer.init(eqx.filter(net, ex.trainable_leaves(net)))
    losses, rates = [], []
    for trial in trials:
        _, gradient = rule.value_and_grad(net, trial)
        run = net.run(trial.inputs, record=("hidden",))
        bare = type(rule)(loss=rule.loss, reduction=rule.reduction, scale=rule.scale)
        losses.append(float(bare.losses(net, trial)["out"].value(run.outputs, trial)))
        rates.append(float(jnp.mean(run["hidden"])) * 1000)
        updates, state = optimizer.update(gradient, state, net)
        net = eqx.apply_updates(net, updates)
    return np.array(losses), np.array(rates)


def pattern_setup():
    """Set-up A: sine regression, 100 LIF units, light (1 - alpha) convention."""
    rng = np.random.RandomState(1)
    f32 = np.float32
    w_in, w_rec = (f32(rng.randn(100, 100) / 10) for _ in range(2))
    w_out, b = (f32(rng.randn(100, 1) / 10) for _ in range(2))
    spikes = rng.rand(1000, 100) < 0.05
    spikes[0] = False
    amplitudes, phases = rng.uniform(0.5, 2, 4), rng.uniform(0, 2 * np.pi, 4)
    target = sum(
        a * np.sin(np.linspace(p, p + 2 * np.pi * (1000 // period), 1000))
        for a, p, period in zip(amplitudes, phases, (1000, 500, 333, 200), strict=True)
    )
    target = target - target[0]
    target = target / np.max(np.abs(target))
    neuron = ex.neurons.LIF(100, tau=30.0, threshold=0.03, input_scale="leak")
    net = _network(neuron, ex.neurons.LI(1, tau=30.0), w_in, w_rec, w_out, b)
    return net, ex.Trial(jnp.asarray(np.float64(spikes))[:, None], jnp.asarray(target)[:, None, None])


@pytest.mark.x64
@pytest.mark.parametrize("evaluation", ["offline", "chunked"])
def test_pattern_losses(evaluation):
    net, trial = pattern_setup()
    rule = ex.rules.EProp(
        feedback="random",
        evaluation=evaluation,
        loss="mse",
        reduction="sum",
        scale=0.5,
        regularizers=ex.losses.FiringRate(300.0, 10.0),
    )
    losses, rates = _losses(net, rule, optax.sgd(1e-4), [trial] * 5)
    reference = REFERENCE["pattern"]
    np.testing.assert_allclose(losses, reference["nest"], rtol=1e-9)
    np.testing.assert_allclose(losses, reference["tensorflow"], rtol=1e-6)
    np.testing.assert_allclose(rates, reference["mean_rates_hz"], atol=0.006)


def evidence_setup(iterations=5, batch=1):
    """Set-up B: cue accumulation, 50 LIF and 50 ALIF units."""
    rng = np.random.RandomState(1)
    f32 = np.float32
    w_in = f32(rng.randn(40, 100) / np.sqrt(40))
    w_rec = f32(rng.randn(100, 100) / 10)
    limit = np.sqrt(3 / max(1, (100 + 2) / 2))
    w_out = f32(rng.uniform(-limit, limit, (100, 2)))
    b = f32(rng.randn(100, 2))
    alpha, rho = np.exp(-1 / 20), np.exp(-1 / 2000)
    beta = 1.7 * (1 - rho) / (1 - alpha)
    neuron = ex.neurons.ALIF(
        100,
        tau=20.0,
        threshold=0.6,
        refractory=5.0,
        tau_adaptation=2000.0,
        beta=np.concatenate([np.zeros(50), np.full(50, beta)]),
    )
    net = _network(neuron, ex.neurons.LI(2, tau=20.0), w_in, w_rec, w_out, b)
    steps = 2250
    mask = jnp.asarray(np.repeat(np.arange(steps) >= steps - 150, batch).reshape(steps, batch).astype(float))
    trials = []
    for _ in range(iterations):
        p = np.float32(0.3) + np.float32(0.4) * rng.choice([0, 1], batch)
        probabilities = np.array([[0.3, 0.7][int(side > 0.5)] for side in p], np.float32)
        cues = np.array([rng.choice([0, 1], 7, p=[q, 1 - q]) for q in probabilities])
        rate = np.zeros((batch, steps, 40))
        rate[:, :, 30:] = 0.01
        rate[:, -150:, 20:30] = 0.04
        for trial in range(batch):
            for k in range(7):
                first = 10 * cues[trial, k]
                rate[trial, 150 * k + 50 : 150 * k + 150, first : first + 10] = 0.04
        spikes = rng.rand(batch * steps * 40).reshape(batch, steps, 40) < rate
        spikes[:, 0] = False
        target = (cues.sum(1) > 3).astype(np.int32)
        inputs = jnp.asarray(np.float64(spikes.transpose(1, 0, 2)))
        trials.append(ex.Trial(inputs, jnp.broadcast_to(jnp.asarray(target), (steps, batch)), mask))
    return net, trials


@pytest.mark.x64
def test_evidence_losses():
    net, trials = evidence_setup()
    # NEST's 300 with averaged gradients over 150 steps is the TensorFlow program's 1 without a factor 1/2: 2 here.
    rule = ex.rules.EProp(feedback="random", regularizers=ex.losses.FiringRate(2.0, 10.0))
    losses, _ = _losses(net, rule, ex.optim.adam_tensorflow(5e-3, eps=1e-8), trials)
    np.testing.assert_allclose(losses, REFERENCE["evidence"]["nest"], rtol=1e-9)
    np.testing.assert_allclose(losses, REFERENCE["evidence"]["tensorflow"], rtol=1e-6)
