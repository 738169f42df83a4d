"""Murray 2019, Appendix 2: what RFLO does on average to the loss, and to the overlap of readout and feedback.

A linear network whose units are leaky averages of independent noise (W = 0, one readout w, feedback b) has uncorrelated
activity h with covariance C over time. With p the trace, which is h filtered by F, P = F C F' and X = C F', one update
of W and then of w on the same activity changes w . b by, on average,

    rate_W rate_w / T^2 { |b|^2 [y' P y N + |w|^2 S] + (w . b)^2 S }  more than the update of w alone,
    S = sum over t, t' of N C P + X(t,t) X(t',t') + X(t,t') X(t',t)

which is the appendix' pair of terms, with the traces' time constant for tau; the last two terms of S are 1 / N of the
first. Both are positive: the readout turns towards the feedback.
"""

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..network import Feedback, Network
from ..neurons.activations import ACTIVATIONS
from ..neurons.rate import Rate
from ..neurons.relay import Relay
from ..rules.rflo import RFLO
from ..synapses import Dense
from ..trial import Trial
from .experiment import Experiment, Found
from .murray2019 import PAPER, SOURCE, TAU

UNITS, STEPS, DRAWS, TRIALS = 20, 100, 200, 400
SMALL = 1e-3


def linear(w: Array, b: Array, recurrent: Array) -> Network:
    """Linear leaky units, each with noise of its own, one readout, and its feedback."""
    units = w.shape[0]
    net = Network(
        {"hidden": Rate(units, tau=TAU, activation=ACTIVATIONS["identity"]), "readout": Relay(1)},
        [
            Dense("noise", "hidden", weight=jnp.eye(units, dtype=w.dtype), trainable=False),
            Dense("hidden", "hidden", weight=recurrent),
            Dense("hidden", "readout", weight=w[None]),
        ],
        inputs={"noise": units},
        outputs="readout",
    )
    return net.replace(feedback=type(net.feedback)({"readout->hidden": Feedback(b[:, None])}))


def weight_of(net: Network, name: str) -> Array:
    """A projection's weight, or its gradient."""
    weight = net.projections[name].weight
    assert weight is not None
    return weight


def drift(w: Array, b: Array, target: Array) -> Array:
    """The derived mean of what a step of W adds to a step of w . b, for rates of 1 and the paper's loss."""
    steps, units, leak = len(target), w.shape[0], 1 / TAU
    lag = np.subtract.outer(np.arange(steps), np.arange(steps))
    response = np.where(lag >= 0, leak * (1 - leak) ** np.maximum(lag, 0), 0.0)
    c = jnp.asarray(response @ response.T)
    # The trace of the activity of the step before.
    f = jnp.asarray(np.where(lag >= 1, leak * (1 - leak) ** np.maximum(lag - 1, 0), 0.0))
    p, x = f @ c @ f.T, c @ f.T
    s = units * jnp.sum(c * p) + jnp.trace(x) ** 2 + jnp.sum(x * x.T)
    first = jnp.sum(b**2) * (units * target @ p @ target + jnp.sum(w**2) * s)
    return (first + jnp.vdot(w, b) ** 2 * s) / steps**2


def measured(w: Array, b: Array, target: Array, recurrent: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
    """By `RFLO` itself, on average over trials of noise: the loss change of a small step of W over its size, and what
    that step adds to a step of w . b."""
    rule = RFLO(scale=0.5)
    net = linear(w, b, recurrent)

    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        noise = jax.random.normal(key, (len(target), 1, w.shape[0]), w.dtype)
        trial = Trial(noise, target[:, None, None])
        loss, gradient = rule.value_and_grad(net, trial)
        step = -SMALL * weight_of(gradient, "hidden->hidden")
        moved = eqx.tree_at(lambda n: n.projections["hidden->hidden"].weight, net, replace_fn=lambda x: x + step)
        after, other = rule.value_and_grad(moved, trial)
        turn = [-weight_of(g, "hidden->readout")[0] @ b for g in (gradient, other)]
        return (after - loss) / SMALL, (turn[1] - turn[0]) / SMALL

    change, turned = jax.vmap(one)(jax.random.split(key, TRIALS))
    return jnp.mean(change), jnp.mean(turned)


class Murray2019Mathematics(Experiment):
    """The sign of the loss change, and the drift of the overlap."""

    paper, name, source = PAPER, "mathematics", f"{SOURCE}, Appendix 2"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        count = 10 if quick else DRAWS
        signs, ratios = {}, []
        with jax.enable_x64(True):
            find = jax.jit(measured)
            for gain in (0.0, 0.5):
                right = []
                for i in range(count):
                    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), i), 5)
                    w, b, target = (
                        jax.random.normal(k, (n,)) for k, n in zip(keys, (UNITS, UNITS, STEPS), strict=False)
                    )
                    recurrent = gain * jax.random.normal(keys[3], (UNITS, UNITS)) / UNITS**0.5
                    change, turned = find(w / UNITS**0.5, b / UNITS**0.5, target, recurrent, keys[4])
                    right.append(bool(change * jnp.vdot(w, b) < 0))
                    if gain == 0.0:
                        ratios.append(float(turned / drift(w / UNITS**0.5, b / UNITS**0.5, target)))
                signs[f"sign agreement, gain {gain:g}"] = float(np.mean(right))
                say(f"gain {gain:g}: {signs[f'sign agreement, gain {gain:g}']:.3f}")
        low, middle, high = np.percentile(ratios, (5, 50, 95))
        found = signs | {"drift, measured over derived": round(float(np.mean(ratios)), 4)}
        span = f"5 to 95 % of draws from {low:.3f} to {high:.3f}, median {middle:.3f}"
        if quick:
            return Found(found, "untested", f"{count} of {DRAWS} draws; {span}", seeds=count)
        parts = int(min(signs.values()) >= 0.9) + int(abs(float(np.mean(ratios)) - 1) <= 0.1)
        why = f"{count} draws of readout, feedback and target, {TRIALS} trials each; the bars are 0.9 and 10 %; {span}"
        return Found(found, ("fails", "partly", "holds")[parts], why, seeds=count)
