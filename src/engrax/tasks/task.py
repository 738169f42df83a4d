"""The contract of a task: where trials come from and how answers are scored."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..trial import Trial
from .scoring import Decisions, step_decisions, step_weights, trial_decisions

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Task(eqx.Module):
    """Base class of tasks.

    Subclasses define `input_size`, `output_size` and `dt` (milliseconds) as fields or properties, `sample` and
    `batches`, and set `metric`. Arrays of data are ordinary fields, so that a task travels into compiled code.

    Class attributes:
        metric: "accuracy" (higher is better) or "loss" (lower is better): what `score` returns.
    """

    metric: ClassVar[Literal["accuracy", "loss"]] = "accuracy"

    input_size: eqx.AbstractVar[int]
    output_size: eqx.AbstractVar[int]
    dt: eqx.AbstractVar[float]

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """A random batch of `batch` trials. Pure: may be jitted and vmapped over `key`."""
        raise TypeError(f"{type(self).__name__} must define sample(key, batch, split).")

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """One pass over `split` in fixed order, in batches of at most `batch`; the same trials at every call."""
        raise TypeError(f"{type(self).__name__} must define batches(split, batch).")

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """The task's own metric on a batch: accuracy between 0 and 1, or a loss."""
        raise TypeError(f"{type(self).__name__} must define score(outputs, trial).")

    def weight(self, trial: Trial) -> Float[Array, ""]:
        """How many scored items `trial` holds, so that scores of batches average exactly. Default: its trials."""
        return jnp.asarray(trial.batch, jnp.result_type(float))

    def metrics(self, outputs: Array, trial: Trial) -> dict[str, Array | tuple[Array, Array]]:
        """Further figures beside `score`, by name. Default: none.

        A figure alone is averaged over batches by `weight`; where it counts other items than `score` does, give the
        pair (figure, number of its items).
        """
        return {}

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions | None:
        """What was decided and what was right, for tables of confusion; None where nothing is decided.

        Default: with a class for each trial, the largest output on average over its valid steps; with a class for each
        step, the largest output at each, weighted by the mask; with real targets None.
        """
        if jnp.issubdtype(trial.targets.dtype, jnp.floating):
            return None
        if trial.targets.ndim == 1:
            return trial_decisions(outputs, trial.targets, trial.valid())
        return step_decisions(outputs, trial.targets, step_weights(trial))
