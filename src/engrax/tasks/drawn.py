"""Tasks whose trials are drawn: new ones at every key, and fixed ones to measure by."""

import abc
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..trial import Trial
from .settings import check_batch, check_split, integer
from .task import SPLITS, Split, Task


class DrawnTask(Task):
    """Base class of tasks that make their trials up. A subclass defines `draw`, sizes and `score`.

    Settings:
        trials, validation_trials: trials in a pass of `batches`, over "train" or "test" and over "validation".
        seed: fixes those trials.
    """

    trials: int = eqx.field(static=True, default=1000, converter=integer("trials", 1), kw_only=True)
    validation_trials: int = eqx.field(
        static=True, default=320, converter=integer("validation_trials", 1), kw_only=True
    )
    seed: int = eqx.field(static=True, default=0, converter=integer("seed", 0), kw_only=True)

    @abc.abstractmethod
    def draw(self, keys: Array) -> Trial:
        """A trial for each of a batch of keys (of either style), which no other key has a part in. Pure."""

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """`batch` new trials; the same key gives other trials for another split. Pure.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        key = jax.random.fold_in(key, SPLITS.index(check_split(split)))
        return _draw(self, jax.random.split(key, check_batch(batch)))

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """The fixed trials of `split`; trial i is the same whatever the size of the batch.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        batch = check_batch(batch)
        count = self.validation_trials if check_split(split) == "validation" else self.trials
        key = jax.random.fold_in(jax.random.key(self.seed), SPLITS.index(split))
        starts = range(0, count, batch)
        return (_pass(self, key, jnp.arange(start, min(start + batch, count))) for start in starts)


@eqx.filter_jit
def _draw(task: DrawnTask, keys: Array) -> Trial:
    return task.draw(keys)


@eqx.filter_jit
def _pass(task: DrawnTask, key: PRNGKeyArray, index: Int[Array, " batch"]) -> Trial:
    return task.draw(jax.vmap(lambda i: jax.random.fold_in(key, i))(index))
