"""Pattern generation: turn one frozen volley of noise spikes into a given curve, a sum of four sines.

Bellec et al. 2020, Suppl. Fig. 7, with the settings of the authors' program.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import TaskError
from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, integer, number
from .task import Split, Task

PERIODS = (1000, 500, 333, 200)


def sines(
    amplitudes: Sequence[float], phases: Sequence[float], periods: Sequence[int] = PERIODS, steps: int = 1000
) -> np.ndarray:
    """The target curve: sum_k A_k sin(x_k), less its first sample, over its largest magnitude; (steps,) in float64.

    x_k are `steps` points from phi_k to phi_k + 2 pi (steps // P_k), both ends included, as in the authors' program:
    whole periods only, and sampled a little more coarsely than one a step.
    """
    curve = np.zeros(steps) + sum(
        amplitude * np.sin(np.linspace(phase, phase + 2 * np.pi * (steps // period), steps))
        for amplitude, phase, period in zip(amplitudes, phases, periods, strict=True)
    )
    curve = curve - curve[0]
    return curve / np.max(np.abs(curve))


class Pattern(Task):
    """One trial, always the same, in every split. Metric: loss, the mean squared error.

    Settings:
        units: input units.
        rate: their firing rate in Hz, drawn once as independent spikes; the first step is silent.
        steps: length in steps of 1 ms.
        periods: of the sines, in ms. Amplitudes are drawn from U(0.5, 2), phases from U(0, 2 pi).
        seed: draws spikes, amplitudes and phases.

    Trials: inputs (steps, batch, units), spikes 0 or 1; targets (steps, batch, 1), between -1 and 1. All trials of a
    batch are alike. Other spikes or another curve: `eqx.tree_at(lambda t: (t.spikes, t.curve), task, (a, b))`.

    Raises:
        TaskError: a setting has an impossible value.
    """

    name: ClassVar[str] = "pattern"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    spikes: Float[Array, "time units"]
    curve: Float[Array, "time 1"]

    def __init__(
        self,
        units: int = 100,
        rate: float = 50.0,
        steps: int = 1000,
        periods: Sequence[int] = PERIODS,
        seed: int = 0,
    ) -> None:
        units, steps, seed = integer("units", 1)(units), integer("steps", 3)(steps), integer("seed", 0)(seed)
        probability = number("rate", 0.0, 1000.0, exclusive=True)(rate) / 1000.0
        chosen = _periods(periods, steps)
        random = np.random.RandomState(seed)  # its numbers are guaranteed from version to version
        spikes = random.random_sample((steps, units)) < probability
        spikes[0] = False
        amplitudes = random.uniform(0.5, 2.0, len(chosen))
        phases = random.uniform(0.0, 2 * np.pi, len(chosen))
        dtype = jnp.result_type(float)
        self.spikes = jnp.asarray(spikes, dtype)
        self.curve = jnp.asarray(sines(amplitudes.tolist(), phases.tolist(), chosen, steps)[:, None], dtype)

    @property
    def input_size(self) -> int:
        return self.spikes.shape[1]

    @property
    def output_size(self) -> int:
        return self.curve.shape[1]

    @property
    def dt(self) -> float:
        return 1.0

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """The trial, `batch` times; neither `key` nor `split` changes it.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        shape = (self.spikes.shape[0], check_batch(batch))
        return Trial(
            jnp.broadcast_to(self.spikes[:, None, :], (*shape, self.input_size)),
            jnp.broadcast_to(self.curve[:, None, :], (*shape, self.output_size)),
        )

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """The trial, once.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        check_batch(batch)
        return iter([Trial(self.spikes[:, None, :], self.curve[:, None, :])])

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over time, batch and outputs."""
        return mean_squared_error(outputs, trial)


def _periods(periods: Any, steps: int) -> tuple[int, ...]:
    if isinstance(periods, str) or not isinstance(periods, Sequence) or not periods:
        raise TaskError(f"periods must be a list of whole milliseconds, got {periods!r}.")
    chosen = tuple(integer("periods", 1)(period) for period in periods)
    if max(chosen) > steps:
        raise TaskError(f"periods must not exceed the {steps} steps of a trial, got {max(chosen)}.")
    return chosen
