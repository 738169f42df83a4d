"""The workloads: one network and one batch as plain arrays, so that every framework computes the same.

Recurrent adaptive units (ALIF, Bellec et al. 2020, Eqs. 8-11) between spike trains and a leaky readout:

    a(t) = rho a(t-1) + z(t-1)
    v(t) = alpha v(t-1) + W_in x(t) + W_rec z(t-1) - v_th z(t-1)
    z(t) = H(v(t) - v_th - beta a(t))          dz/dv = 0.3 / v_th max(0, 1 - |v - v_th - beta a| / v_th), also in resets
    y(t) = kappa y(t-1) + (1 - kappa) W_out z(t)

The loss is the cross-entropy of y(t), averaged over trials and the last `window` steps. A training step is the loss,
its gradient by all three weights, and Adam, in single precision. Its learning rate is so small that firing rates stay
what they are while steps are timed.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

ADAM = {"learning_rate": 1e-6, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
DAMPENING = 0.3


class Arrays(NamedTuple):
    """A batch and a network.

    inputs: 0 or 1, (time, batch, inputs). classes: (batch,). input, recurrent, output: weights (post, pre).
    beta: (hidden,).
    """

    inputs: np.ndarray
    classes: np.ndarray
    input: np.ndarray
    recurrent: np.ndarray
    output: np.ndarray
    beta: np.ndarray


@dataclasses.dataclass(frozen=True)
class Workload:
    """Sizes and constants. Times in steps of 1 ms.

    adaptive: units with beta > 0; they come last. probability: of an input spike at a step.
    gain: of the input and recurrent weights, times 1 / sqrt(presynaptic units).
    """

    name: str
    about: str
    _: dataclasses.KW_ONLY
    batch: int
    steps: int
    inputs: int
    hidden: int
    outputs: int
    window: int
    probability: float
    adaptive: int
    beta: float
    tau_adaptation: float
    threshold: float = 0.6
    tau: float = 20.0
    tau_readout: float = 20.0
    gain: tuple[float, float] = (1.0, 1.0)

    def __str__(self) -> str:
        sizes = f"{self.inputs}-{self.hidden}-{self.outputs}"
        return f"{self.name}, {self.about}: batch {self.batch}, {self.steps} steps, {sizes}"

    @property
    def alpha(self) -> float:
        """Decay of the voltage."""
        return math.exp(-1 / self.tau)

    @property
    def rho(self) -> float:
        """Decay of the adaptation."""
        return math.exp(-1 / self.tau_adaptation)

    @property
    def kappa(self) -> float:
        """Decay of the readout."""
        return math.exp(-1 / self.tau_readout)

    def arrays(self, seed: int = 0, dtype: type = np.float32) -> Arrays:
        """The same batch and network for the same seed, whatever the precision."""
        rng = np.random.default_rng(seed)

        def weight(post: int, pre: int, gain: float) -> np.ndarray:
            return (gain / math.sqrt(pre) * rng.standard_normal((post, pre))).astype(np.float32).astype(dtype)

        beta = np.where(np.arange(self.hidden) < self.hidden - self.adaptive, 0.0, self.beta)
        return Arrays(
            (rng.random((self.steps, self.batch, self.inputs)) < self.probability).astype(dtype),
            rng.integers(0, self.outputs, self.batch).astype(np.int32),
            weight(self.hidden, self.inputs, self.gain[0]),
            weight(self.hidden, self.hidden, self.gain[1]),
            weight(self.outputs, self.hidden, 1.0),
            beta.astype(np.float32).astype(dtype),
        )

    def small(self) -> "Workload":
        """The same kind of network, small enough to be compared spike by spike in double precision."""
        adaptive = 12 if self.adaptive == self.hidden else 6
        return dataclasses.replace(
            self, batch=3, steps=60, inputs=15, hidden=12, outputs=4, window=20, adaptive=adaptive, probability=0.2
        )


_SPEECH: dict[str, Any] = {"inputs": 700, "outputs": 20, "probability": 0.02, "beta": 0.1, "tau_adaptation": 200.0}

WORKLOADS = {
    "W1": Workload("W1", "speech-like", batch=128, steps=250, hidden=256, adaptive=256, window=250, **_SPEECH),
    "W2": Workload(
        "W2",
        "evidence-like",
        batch=64,
        steps=2250,
        inputs=40,
        hidden=100,
        outputs=2,
        window=150,
        probability=0.02,
        adaptive=50,
        beta=0.0174,
        tau_adaptation=2000.0,
    ),
    "W3": Workload("W3", "wide", batch=32, steps=500, hidden=1024, adaptive=1024, window=500, **_SPEECH),
}
