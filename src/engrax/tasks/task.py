"""The contract of a task: where trials come from and how answers are scored."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Network, Record
from ..trial import Trial
from .scoring import Decisions, step_decisions, step_weights, trial_decisions

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def direction(metric: str) -> int:
    """1 for a metric of which more is better, -1 for one of which less is."""
    return -1 if metric == "loss" else 1


class Task(eqx.Module):
    """Base class of tasks.

    Subclasses define `input_size`, `output_size` and `dt` (milliseconds) as fields or properties, `sample` and
    `batches`, and set `metric`. Arrays of data are ordinary fields, so that a task travels into compiled code.

    Class attributes:
        metric: "accuracy" or "return" (higher is better), or "loss" (lower is better): what `score` returns.
        outside: whether trials are made by calls out of compiled code. Such calls have an order, and seeds are
            therefore trained one after the other on any device.
    """

    metric: ClassVar[Literal["accuracy", "loss", "return"]] = "accuracy"
    outside: ClassVar[bool] = False

    input_size: eqx.AbstractVar[int]
    output_size: eqx.AbstractVar[int]
    dt: eqx.AbstractVar[float]

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """A random batch of `batch` trials. Pure: may be jitted and vmapped over `key`."""
        raise TypeError(f"{type(self).__name__} must define sample(key, batch, split).")

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """One pass over `split` in fixed order, in batches of at most `batch`; the same trials at every call."""
        raise TypeError(f"{type(self).__name__} must define batches(split, batch).")

    def perform(self, net: Network, trial: Any, record: tuple[str, ...] = ()) -> tuple[Trial, Record]:
        """A network's answer to a batch: the trials, and its run over them."""
        # Always the same key: stochastic models are measured on the same draws each time.
        return trial, net.run(trial.inputs, key=jax.random.key(0), record=record)

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
