"""Handwritten digits in spike times: every pixel that is not dark spikes once, the brighter the earlier."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..trial import Trial
from .scoring import Decisions, trial_accuracy, trial_decisions
from .settings import integer, number
from .smnist import PIXELS, digits
from .stored import StoredTask


class LatencyMNIST(StoredTask):
    """MNIST in latencies, 784 inputs, 10 classes. Metric: accuracy.

    Settings:
        window: ms within which pixels spike, at step round((1 - grey) (window - 1)); grey is the level / 255.
        steps: of a trial; what follows the window is silence.
        dark: grey up to which a pixel stays silent.
        validation: training images that are held out, drawn by `seed`; 5,000 of 60,000.
        seed: of that split.

    Trials: inputs (steps, batch, 784), 0 or 1; targets (batch,), the digit. The decision is the largest output on
    average over time. dt is 1 ms.

    Source: LeCun et al. 1998; latencies as in Nowotny, Turner & Knight 2025.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the files are neither found nor to be downloaded, or damaged.
    """

    name: ClassVar[str] = "latency_mnist"

    rows: dict[str, PyTree[Array]]
    window: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    dark: float = eqx.field(static=True)

    def __init__(
        self, window: int = 20, steps: int = 30, dark: float = 0.2, validation: int = 5000, seed: int = 0
    ) -> None:
        self.window = integer("window", 2)(window)
        self.steps = integer("steps", self.window)(steps)
        self.dark = number("dark", 0, 1)(dark)
        self.rows = digits(validation, seed)

    @property
    def input_size(self) -> int:
        return PIXELS

    @property
    def output_size(self) -> int:
        return 10

    @property
    def dt(self) -> float:
        return 1.0

    def present(self, rows: PyTree[Array]) -> Trial:
        images, shown = rows
        dtype = jnp.result_type(float)
        grey = images.astype(dtype) / 255
        when = jnp.where(grey > self.dark, jnp.round((1 - grey) * (self.window - 1)), self.steps).astype(jnp.int32)
        at = jnp.arange(self.steps, dtype=jnp.int32)[:, None, None]
        return Trial((when[None] == at).astype(dtype), shown)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of digits named rightly by the mean of the outputs over time."""
        return trial_accuracy(outputs, trial.targets, trial.valid())

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One a digit."""
        return trial_decisions(outputs, trial.targets, trial.valid())
