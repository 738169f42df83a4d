"""A periodic output made out of nothing: the network is started in a fixed state and hears no input.

Murray 2019, Fig. 2: one trial is one period of y(t) = sin(2 pi t/T) + sin(4 pi t/T) / 2 + sin(8 pi t/T) / 4.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, integer
from .task import Split, Task


class Periodic(Task):
    """One trial, always the same, in every split. Metric: loss, the mean squared error; that of silence is 0.656.

    Settings:
        period: its length in steps, T.

    Trials: inputs (period, batch, 1), zero; targets (period, batch, 1). Something must start the network: an initial
    state (`Rate(initial=0.1)`).

    Raises:
        TaskError: a setting has an impossible value.

    Source: Murray 2019; periods of 200 to 1600 steps, time constants of 10.
    """

    name: ClassVar[str] = "periodic"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    period: int = eqx.field(static=True, default=200, converter=integer("period", 8))

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
    def curve(self) -> Float[Array, " time"]:
        """The target, whose first step is t = 1."""
        phase = 2 * jnp.pi * jnp.arange(1.0, self.period + 1.0) / self.period
        return jnp.sin(phase) + jnp.sin(2 * phase) / 2 + jnp.sin(4 * phase) / 4

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """The trial, `batch` times; neither `key` nor `split` changes it.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        shape = (self.period, check_batch(batch), 1)
        curve = jnp.broadcast_to(self.curve[:, None, None], shape)
        return Trial(jnp.zeros(shape, curve.dtype), curve)

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """The trial, once.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        check_batch(batch)
        curve = self.curve[:, None, None]
        return iter([Trial(jnp.zeros_like(curve), curve)])

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over time, batch and outputs."""
        return mean_squared_error(outputs, trial)
