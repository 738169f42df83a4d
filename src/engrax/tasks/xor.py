"""Exclusive or in time (Pearlmutter 1989): two constant inputs, and an answer that is due for a while.

Four trials, one of each pair of inputs 0 and 1; between `window` time units the output must be their exclusive or.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import TaskError
from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, number
from .task import Split, Task

CASES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


class XOR(Task):
    """Exclusive or of two constant inputs. Metric: loss, the mean squared error while the answer is due.

    Settings:
        start, horizon: when the answer is due; the trial ends with it.
        dt: length of a step, in the unit of these times.

    Trials: inputs (time, batch, 2), 0 or 1; targets (time, batch, 1), 0 or 1, step k due at time (k + 1) dt; mask
    (time, batch). A batch of four, or of a multiple, has every pair alike. `metrics` gives "rmse" and "right", the
    share of trials whose output is on the right side of 1/2 all the while.

    Raises:
        TaskError: a setting has an impossible value.

    Source: Pearlmutter 1989: due from 2 to 3, steps of 0.1.
    """

    name: ClassVar[str] = "xor"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    start: float = eqx.field(static=True, default=2.0, converter=number("start", 0.0))
    horizon: float = eqx.field(static=True, default=3.0, converter=number("horizon", 0.0, exclusive=True))
    dt: float = eqx.field(static=True, default=0.1, converter=number("dt", 0.0, exclusive=True))

    def __check_init__(self) -> None:
        if self.start >= self.horizon:
            raise TaskError(f"start must come before the horizon, {self.horizon:g}, got {self.start:g}.")

    @property
    def input_size(self) -> int:
        return 2

    @property
    def output_size(self) -> int:
        return 1

    def trial(self, pairs: Float[Array, "batch 2"]) -> Trial:
        """A trial of each pair of inputs."""
        times = self.dt * jnp.arange(1.0, round(self.horizon / self.dt) + 1.0)
        steps, batch = len(times), len(pairs)
        answer = jnp.abs(pairs[:, 0] - pairs[:, 1])
        mask = (times >= self.start - self.dt / 2).astype(pairs.dtype)
        return Trial(
            jnp.broadcast_to(pairs, (steps, batch, 2)),
            jnp.broadcast_to(answer[:, None], (steps, batch, 1)),
            jnp.broadcast_to(mask[:, None], (steps, batch)),
        )

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """The pairs in turn, from one that is drawn.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        first = jax.random.randint(key, (), 0, 4)
        return self.trial(jnp.asarray(CASES)[(first + jnp.arange(check_batch(batch))) % 4])

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """All four pairs once.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        pairs, batch = jnp.asarray(CASES), check_batch(batch)
        return (self.trial(pairs[i : i + batch]) for i in range(0, 4, batch))

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error while the answer is due."""
        return mean_squared_error(outputs, trial)

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """ "rmse": the root of the loss; "right": of the trials."""
        assert trial.mask is not None
        wrong = ((outputs > 0.5) != (trial.targets > 0.5)).any(axis=-1) & (trial.mask > 0)
        right = jnp.mean(1 - wrong.any(axis=0).astype(outputs.dtype))
        return {"rmse": jnp.sqrt(self.score(outputs, trial)), "right": right}
