"""A task whose trials also tell a network what it should answer, as teacher forcing asks for."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import ArgumentError
from ..network import Network, Record
from ..neurons import ForcedCTRNN
from ..tasks import Split, Task
from ..tasks.scoring import Decisions
from ..trial import Trial


def taught(task: Task) -> Task:
    """The same task, with its targets as a second input "teacher" beside "input", which `ForcedCTRNN` units take.

    Networks are measured on it without the teacher's hand: what they do by themselves.

    Args:
        task: one whose trials have one input and real targets at every step.

    Raises:
        ArgumentError: it is no task; when trials are drawn, it has several inputs, or classes for targets.
    """
    if not isinstance(task, Task):
        raise ArgumentError(f"taught: task must be an engrax Task, got {task!r}.")
    return _Taught(task=task, input_size=task.input_size, output_size=task.output_size, dt=task.dt)


def unforced(net: Network) -> Network:
    """The same network with `forcing=0` in its `ForcedCTRNN` units; it still has the input "teacher"."""
    populations = {
        name: eqx.tree_at(lambda p: p.forcing, p, jnp.zeros((), net.dtype)) if isinstance(p, ForcedCTRNN) else p
        for name, p in net.populations.items()
    }
    return net.replace(populations=OrderedDict(populations))


class _Taught(Task):
    task: Task
    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    @property
    def metric(self) -> Any:  # type: ignore[override]
        return self.task.metric

    @property
    def outside(self) -> Any:  # type: ignore[override]
        return self.task.outside

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        return _told(self.task.sample(key, batch, split))

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        return map(_told, self.task.batches(split, batch))

    def perform(self, net: Network, trial: Any, record: tuple[str, ...] = ()) -> tuple[Trial, Record]:
        return self.task.perform(unforced(net), trial, record)

    def score(self, outputs: Array, trial: Trial) -> Array:
        return self.task.score(outputs, _untold(trial))

    def weight(self, trial: Trial) -> Array:
        return self.task.weight(_untold(trial))

    def metrics(self, outputs: Array, trial: Trial) -> dict[str, Array | tuple[Array, Array]]:
        return self.task.metrics(outputs, _untold(trial))

    def decisions(self, outputs: Array, trial: Trial) -> Decisions | None:
        return self.task.decisions(outputs, _untold(trial))


def _told(trial: Trial) -> Trial:
    targets = trial.targets
    if isinstance(trial.inputs, dict) or isinstance(targets, dict):
        raise ArgumentError("taught: the task must have one input and one output.")
    if getattr(targets, "ndim", 0) != 3 or not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ArgumentError("taught: the task must have real targets (time, batch, outputs), which a teacher can show.")
    return trial.replace(inputs={"input": trial.inputs, "teacher": targets})


def _untold(trial: Trial) -> Trial:
    return trial.replace(inputs=trial.inputs["input"])
