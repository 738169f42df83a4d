"""Which class is taken for which."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..network import Network
from ..tasks import Split, Task
from ..trial import Episodes, Trial


def confusion(net: Network, task: Task, split: Split = "test", batch: int = 64) -> np.ndarray | None:
    """Counts of decisions, (wanted, decided); None for a task that decides nothing.

    Args:
        net: the network.
        task: the task; `Task.decisions` says what was decided.
        split: the trials to look at.
        batch: trials at a time.
    """
    total: np.ndarray | None = None
    for trial in task.batches(split, batch):
        part = _counts(net, task, trial)
        if part is None:
            return None
        total = np.asarray(part, np.float64) + (0 if total is None else total)
    return total


@eqx.filter_jit
def _counts(net: Network, task: Task, trial: Trial | Episodes) -> Array | None:
    given, record = task.perform(net, trial)
    found = task.decisions(record.outputs, given)
    if found is None:
        return None
    place = found.wanted * task.output_size + found.decided
    counts = jnp.zeros(task.output_size**2, found.weights.dtype).at[place.reshape(-1)].add(found.weights.reshape(-1))
    return counts.reshape(task.output_size, task.output_size)
