"""Bellec et al. 2020's programs and NEST's tests of them, set up anew: the same draws, the same losses.

Both set-ups draw everything from NumPy's legacy global generator with seed 1, in a fixed order, as float32, and are to
be run in double precision. Where the published rows come from stands in `references/eprop_losses.json`.
"""

import json
from importlib import resources
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..losses import FiringRate
from ..network import Network, trainable_leaves
from ..neurons.alif import ALIF
from ..neurons.base import Neuron
from ..neurons.li import LI
from ..neurons.lif import LIF
from ..optim import adam_tensorflow
from ..rules import Rule
from ..rules.eprop import EProp
from ..synapses import Dense
from ..trial import Trial


def published() -> dict[str, Any]:
    """The published rows: by set-up "nest" and "tensorflow", and "provenance"."""
    file = resources.files("engrax.papers") / "references" / "eprop_losses.json"
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return rows


def _network(neuron: Neuron, readout: Neuron, w_in: Any, w_rec: Any, w_out: Any, feedback: Any) -> Network:
    net = Network(
        {"hidden": neuron, "out": readout},
        [
            Dense("input", "hidden", weight=np.float64(w_in.T)),
            Dense("hidden", "hidden", weight=np.float64(w_rec.T), autapses=False),
            Dense("hidden", "out", weight=np.float64(w_out.T)),
        ],
        inputs={"input": w_in.shape[0]},
        outputs="out",
        dt=1.0,
    )
    net = EProp(feedback="random").bind(net, jax.random.PRNGKey(0))
    return eqx.tree_at(lambda n: n.feedback["out->hidden"].weight, net, jnp.asarray(np.float64(feedback)))


def _losses(
    net: Network, rule: Rule, optimizer: optax.GradientTransformation, trials: list[Trial]
) -> tuple[np.ndarray, np.ndarray]:
    """Losses without regularisers, and mean firing rates in Hz, before each update."""
    state = optimizer.init(eqx.filter(net, trainable_leaves(net)))
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


def pattern_setup() -> tuple[Network, Trial]:
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
    neuron = LIF(100, tau=30.0, threshold=0.03, input_scale="leak")
    net = _network(neuron, LI(1, tau=30.0), w_in, w_rec, w_out, b)
    return net, Trial(jnp.asarray(np.float64(spikes))[:, None], jnp.asarray(target)[:, None, None])


def evidence_setup(iterations: int = 5, batch: int = 1) -> tuple[Network, list[Trial]]:
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
    neuron = ALIF(
        100,
        tau=20.0,
        threshold=0.6,
        refractory=5.0,
        tau_adaptation=2000.0,
        beta=np.concatenate([np.zeros(50), np.full(50, beta)]),
    )
    net = _network(neuron, LI(2, tau=20.0), w_in, w_rec, w_out, b)
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
        trials.append(Trial(inputs, jnp.broadcast_to(jnp.asarray(target), (steps, batch)), mask))
    return net, trials


def pattern_losses(evaluation: str = "offline") -> tuple[np.ndarray, np.ndarray]:
    """Set-up A, five iterations: losses and mean rates."""
    net, trial = pattern_setup()
    rule = EProp(
        feedback="random",
        evaluation=evaluation,
        loss="mse",
        reduction="sum",
        scale=0.5,
        regularizers=(FiringRate(300.0, 10.0),),
    )
    return _losses(net, rule, optax.sgd(1e-4), [trial] * 5)


def evidence_losses() -> tuple[np.ndarray, np.ndarray]:
    """Set-up B, five iterations: losses and mean rates."""
    net, trials = evidence_setup()
    # NEST's 300 with averaged gradients over 150 steps is the TensorFlow program's 1 without a factor 1/2: 2 here.
    rule = EProp(feedback="random", regularizers=(FiringRate(2.0, 10.0),))
    return _losses(net, rule, adam_tensorflow(5e-3, eps=1e-8), trials)
