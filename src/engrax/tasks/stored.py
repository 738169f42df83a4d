"""Tasks whose trials are stored: rows of arrays, one set a split, and a way to present rows as a trial."""

import abc
import operator
from collections.abc import Iterator

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..trial import Trial
from .settings import check_batch, check_split
from .task import Split, Task


class StoredTask(Task):
    """Base class of tasks on recorded data. A subclass fills `rows` and defines `present`, sizes and `score`.

    Fields:
        rows: for "train", "validation" and "test", arrays whose first axis counts samples. They are leaves of the
            task, so that a task passed to a compiled function carries its data and is not baked in as a constant.
    """

    rows: dict[str, PyTree[Array]]

    @abc.abstractmethod
    def present(self, rows: PyTree[Array]) -> Trial:
        """The trial that shows `rows`, arrays of (batch, ...) as stored in one split."""

    def count(self, split: Split) -> int:
        """Number of samples in `split`."""
        return jax.tree.leaves(self.rows[check_split(split)])[0].shape[0]

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """`batch` samples of `split`, drawn independently (with replacement). Pure.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        return _sample(self, key, check_batch(batch), check_split(split))

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """All samples of `split` once, in stored order; the last batch holds what is left.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        batch, count, rows = check_batch(batch), self.count(split), self.rows[split]
        slices = (slice(start, start + batch) for start in range(0, count, batch))
        return (_present(self, jax.tree.map(operator.itemgetter(part), rows)) for part in slices)


@eqx.filter_jit
def _sample(task: StoredTask, key: PRNGKeyArray, batch: int, split: Split) -> Trial:
    index = jax.random.randint(key, (batch,), 0, task.count(split))
    return task.present(jax.tree.map(lambda x: x[index], task.rows[split]))


@eqx.filter_jit
def _present(task: StoredTask, rows: PyTree[Array]) -> Trial:
    return task.present(rows)
