"""e-prop's gradient of LSTM units by the hand formulas of Bellec et al. 2020, Supplementary Note 4, in NumPy.

    u(t) = [x(t), m(t-1), 1]      c = f c(t-1) + i g      m = o tanh(c)      i, f, o: sigmoid; g: tanh
    eps_W(t) = f eps_W(t-1) + G_W u,    G: g i (1 - i) for the input gate, i (1 - g^2) for the candidate,
                                        c(t-1) f (1 - f) for the forget gate
    e_W = o (1 - tanh(c)^2) eps_W for these three,  tanh(c) o (1 - o) u for the output gate, which has no memory

Traces are filtered by the readout and meet its error: the loss is the squared error, its mean over outputs, summed over
trials and steps.
"""

import jax
import numpy as np

from ..network import Network
from ..neurons.li import LI
from ..neurons.lstm import LSTM
from ..rules.eprop import EProp
from ..synapses import Dense
from ..trial import Trial

INPUTS, UNITS, OUTPUTS, STEPS, BATCH, TAU = 4, 6, 3, 25, 3, 15.0


def by_hand(net: Network, trial: Trial) -> np.ndarray:
    """dE/dW of all gates (input, forget, candidate, output), (4, units, inputs + units + 1), autapses included.

    Args:
        net: projections "input->hidden" (with a bias), "hidden->hidden" and "hidden->out" between LSTM units with a
            forget bias of 1 and a leaky readout with a time constant of `TAU` steps that scales its input by 1 - decay.
        trial: inputs and targets.
    """
    names = ("input->hidden", "hidden->hidden", "hidden->out")
    w_in, w_rec, w_out = (np.asarray(net.projections[name].effective()) for name in names)
    bias = np.asarray(net.projections["input->hidden"].bias)
    inputs, targets = np.asarray(trial.inputs), np.asarray(trial.targets)
    units, outputs, kappa = w_in.shape[1], w_out.shape[0], np.exp(-1 / TAU)
    total = np.zeros((4, units, w_in.shape[2] + units + 1))
    for x, wanted in zip(inputs.swapaxes(0, 1), targets.swapaxes(0, 1), strict=True):
        c, m, y = np.zeros(units), np.zeros(units), np.zeros(outputs)
        eps, filtered = np.zeros_like(total), np.zeros_like(total)
        for now, target in zip(x, wanted, strict=True):
            u = np.r_[now, m, 1.0]
            current = w_in @ now + w_rec @ m + bias
            i, f, g, o = _sigmoid(current[0]), _sigmoid(current[1] + 1), np.tanh(current[2]), _sigmoid(current[3])
            before, c = c, f * c + i * g
            m = o * np.tanh(c)
            gain = np.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g**2), 0 * c])
            eps = f[None, :, None] * eps + gain[:, :, None] * u
            e = (o * (1 - np.tanh(c) ** 2))[None, :, None] * eps
            e[3] = (np.tanh(c) * o * (1 - o))[:, None] * u
            y = kappa * y + (1 - kappa) * (w_out @ m)
            filtered = kappa * filtered + (1 - kappa) * e
            total += (w_out.T @ (2 / outputs * (y - target)))[None, :, None] * filtered
    return total


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_rule(net: Network, trial: Trial, evaluation: str) -> np.ndarray:
    """The same by `EProp`; where there are no autapses, zero."""
    _, grads = EProp(evaluation=evaluation, reduction="sum").value_and_grad(net, trial)
    inner, recurrent = (grads.projections[name] for name in ("input->hidden", "hidden->hidden"))
    assert inner.bias is not None
    found = (inner.weight, recurrent.weight, np.asarray(inner.bias)[:, :, None])
    return np.concatenate([np.asarray(x) for x in found], axis=-1)


def example(seed: int) -> tuple[Network, Trial]:
    """A network as `by_hand` wants it, and a trial."""
    keys = jax.random.split(jax.random.key(seed), 4)
    populations = {"hidden": LSTM(UNITS), "out": LI(OUTPUTS, tau=TAU, input_scale="leak")}
    projections = [
        Dense("input", "hidden", bias=True),
        Dense("hidden", "hidden", autapses=False),
        Dense("hidden", "out"),
    ]
    net = Network(populations, projections, inputs={"input": INPUTS}, outputs="out", key=keys[0])
    inner = net.projections["input->hidden"]
    bias = jax.random.normal(keys[1], (4, UNITS))
    held = {**net.projections, "input->hidden": inner.replace(bias=bias)}
    inputs = jax.random.normal(keys[2], (STEPS, BATCH, INPUTS))
    targets = jax.random.normal(keys[3], (STEPS, BATCH, OUTPUTS))
    return net.replace(projections=type(net.projections)(held)), Trial(inputs, targets)


def worst_difference() -> float:
    """Largest difference of the rule's gradients from those by hand, over their largest entry: three networks."""
    worst = 0.0
    with jax.enable_x64(True):
        for seed in range(3):
            net, trial = example(seed)
            wanted = by_hand(net, trial)
            there = np.ones_like(wanted)
            there[:, :, INPUTS:-1] = 1 - np.eye(UNITS)
            for evaluation in ("offline", "online", "chunked"):
                found = by_rule(net, trial, evaluation)
                worst = max(worst, float(np.max(np.abs(found - wanted * there)) / np.max(np.abs(wanted))))
    return worst
