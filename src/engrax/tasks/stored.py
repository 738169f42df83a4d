"""Tasks whose trials are stored: rows of arrays, one set a split, and a way to present rows as a trial.

Trials are drawn alike, or, from a task made `balanced`, classes are.
"""

import abc
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ..errors import TaskError
from ..trial import Trial
from .settings import boolean, check_batch, check_split
from .task import Split, Task


class Strata(NamedTuple):
    """Training samples by class, for classes that have any: their numbers, sorted by class; where each class starts
    among them, and how many it has."""

    samples: Int[Array, " samples"]
    start: Int[Array, " classes"]
    size: Int[Array, " classes"]


class StoredTask(Task):
    """Base class of tasks on recorded data. A subclass fills `rows` and defines `present`, sizes and `score`.

    Fields:
        rows: for "train", "validation" and "test", arrays whose first axis counts samples. They are leaves of the
            task, so that a task passed to a compiled function carries its data and is not baked in as a constant.
        strata: None, or training samples by class, for a task that was made `balanced`.
    """

    rows: dict[str, PyTree[Array]]
    strata: Strata | None = eqx.field(default=None, kw_only=True)

    @abc.abstractmethod
    def present(self, rows: PyTree[Array]) -> Trial:
        """The trial that shows `rows`, arrays of (batch, ...) as stored in one split."""

    def count(self, split: Split) -> int:
        """Number of samples in `split`."""
        return jax.tree.leaves(self.rows[check_split(split)])[0].shape[0]

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """`batch` samples of `split`, drawn independently (with replacement). Pure.

        Of a balanced task's training samples, every class comes equally often, but for one more of those classes, drawn
        anew each time, that a remainder falls to; within a class samples are drawn independently.

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

    def balanced(self) -> "StoredTask":
        """The same task, whose training batches hold all classes equally often (classes without a sample left out).

        Validation and test are what they were.

        Raises:
            TaskError: trials have not one class each.
        """
        classes = _classes(self)
        if classes is None:
            name = type(self).__name__
            raise TaskError(f"{name} cannot be balanced: its trials have not one class each, but targets at each step.")
        numbers = np.asarray(classes)
        _, size = np.unique(numbers, return_counts=True)
        parts = np.argsort(numbers, kind="stable"), size.cumsum() - size, size
        copy = object.__new__(type(self))
        for name, value in vars(self).items():
            object.__setattr__(copy, name, value)
        object.__setattr__(copy, "strata", Strata(*(jnp.asarray(x, jnp.int32) for x in parts)))
        return copy


def factory(kind: type[Task]) -> Callable[..., Task]:
    """What makes a task from its settings: its class; for stored tasks with the setting `balanced` beside its own."""
    if not issubclass(kind, StoredTask):
        return kind

    def make(*, balanced: bool = False, **settings: Any) -> Task:
        wanted = boolean("balanced")(balanced)
        task = kind(**settings)
        return task.balanced() if wanted else task

    own = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(kind).parameters.values()]
    more = inspect.Parameter("balanced", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=bool)
    make.__signature__ = inspect.Signature([*own, more])  # type: ignore[attr-defined]
    return make


@eqx.filter_jit
def _classes(task: StoredTask) -> Array | None:
    """The class of each training sample, if trials have one; inputs are made for nobody, and so not made."""
    targets = task.present(task.rows["train"]).targets
    single = isinstance(targets, jax.Array) and targets.ndim == 1 and jnp.issubdtype(targets.dtype, jnp.integer)
    return targets if single else None


@eqx.filter_jit
def _sample(task: StoredTask, key: PRNGKeyArray, batch: int, split: Split) -> Trial:
    if task.strata is not None and split == "train":
        index = _evenly(task.strata, key, batch)
    else:
        index = jax.random.randint(key, (batch,), 0, task.count(split))
    return task.present(jax.tree.map(lambda x: x[index], task.rows[split]))


@eqx.filter_jit
def _present(task: StoredTask, rows: PyTree[Array]) -> Trial:
    return task.present(rows)


def _evenly(strata: Strata, key: PRNGKeyArray, batch: int) -> Int[Array, " batch"]:
    """Numbers of samples, of one class after another, in an order of the classes that the key shuffles."""
    order, within = jax.random.split(key)
    classes = len(strata.size)
    of = jax.random.permutation(order, classes)[jnp.arange(batch, dtype=jnp.int32) % classes]
    return strata.samples[strata.start[of] + jax.random.randint(within, (batch,), 0, strata.size[of])]
