"""Interval matching, or ready-set-go: two pulses some time apart, and a third to be made after the same time.

Murray 2019, Fig. 3.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import TaskError
from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, integer, number
from .task import SPLITS, Split, Task


class ReadySetGo(Task):
    """A pulse, another one a random delay later, and a target pulse as much later again. Metric: loss.

    Settings:
        longest, shortest: the delay in steps, uniform between them, both included.
        width: standard deviation of the pulses in steps.
        trials: of validation, and of test.

    Trials: inputs (steps, batch, 1), two Gaussian pulses of height 1; targets (steps, batch, 1), one; steps = 6 width +
    2 longest. The delay of a trial can be told from its target: `delays(trial)`.
    Figures: "loss", mean squared error; "peak_error", steps between the output's peak after the second pulse and the
    target's, on average.

    Raises:
        TaskError: a setting has an impossible value.

    Source: Murray 2019: width 15, delays to 15, 20, 25 time constants of 10 steps; the shortest delay is ours.
    """

    name: ClassVar[str] = "ready_set_go"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    longest: int = eqx.field(static=True, default=150, converter=integer("longest", 1))
    shortest: int = eqx.field(static=True, default=45, converter=integer("shortest", 1))
    width: float = eqx.field(static=True, default=15.0, converter=number("width", 0.0, exclusive=True))
    trials: int = eqx.field(static=True, default=50, converter=integer("trials", 1))

    def __check_init__(self) -> None:
        if self.shortest > self.longest:
            raise TaskError(f"shortest must not be above longest = {self.longest}, got {self.shortest}.")

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    @property
    def dt(self) -> float:
        return 1.0

    @property
    def steps(self) -> int:
        """Length of a trial."""
        return 2 * self._start + 2 * self.longest

    @property
    def _start(self) -> int:
        """Step of the first pulse's peak."""
        return round(3 * self.width)

    def trial(self, delays: Float[Array, " batch"]) -> Trial:
        """Trials with given delays, in steps."""
        steps = jnp.arange(self.steps)[:, None].astype(delays.dtype)

        def pulse(at: Array) -> Array:
            return jnp.exp(-0.5 * ((steps - at[None]) / self.width) ** 2)

        first = jnp.full_like(delays, self._start)
        inputs = pulse(first) + pulse(first + delays)
        return Trial(inputs[..., None], pulse(first + 2 * delays)[..., None])

    def delays(self, trial: Trial) -> Float[Array, " batch"]:
        """The delays of trials, in steps."""
        peak = jnp.argmax(trial.targets[..., 0], axis=0)
        return (peak - self._start).astype(trial.targets.dtype) / 2

    def peaks(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, " batch"]:
        """Steps from the second pulse to the output's largest value after it."""
        second = self._start + self.delays(trial)
        steps = jnp.arange(self.steps)[:, None].astype(second.dtype)
        after = jnp.where(steps > second[None], outputs[..., 0], -jnp.inf)
        return jnp.argmax(after, axis=0).astype(second.dtype) - second

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """Trials with random delays, whole steps.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        delays = jax.random.randint(key, (check_batch(batch),), self.shortest, self.longest + 1)
        return self.trial(delays.astype(jnp.result_type(float)))

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """Trials with random delays; training's are as many as validation's.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        random = np.random.RandomState(SPLITS.index(split))  # its numbers are guaranteed from version to version
        delays = random.randint(self.shortest, self.longest + 1, self.trials)
        size = check_batch(batch)
        for first in range(0, self.trials, size):
            yield self.trial(jnp.asarray(delays[first : first + size], jnp.result_type(float)))

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over time, batch and outputs."""
        return mean_squared_error(outputs, trial)

    def metrics(self, outputs: Array, trial: Trial) -> dict[str, Array | tuple[Array, Array]]:
        """Steps between the peak of the output and that of the target, on average."""
        return {"peak_error": jnp.mean(jnp.abs(self.peaks(outputs, trial) - self.delays(trial)))}
