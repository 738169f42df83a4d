"""Measuring: one pass over a split with frozen weights, every figure weighted so that batches average exactly."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import ArgumentError
from ..network import Network
from ..parameter import positive_integer
from ..tasks import Split, Task
from ..trial import Trial
from .check import check_fit
from .run import Run

RATE = "firing_rate_hz"


def evaluate(run: Run | Network, task: Task | None = None, split: Split = "test", batch: int = 64) -> dict[str, float]:
    """What a network reaches on a split of a task.

    Args:
        run: a run (its best network is measured), or a network.
        task: the task; None: the run's own.
        split: "train", "validation" or "test".
        batch: trials at a time. It changes memory and speed, not the figures.

    Returns:
        The task's metric by its name ("accuracy" or "loss") and its further metrics; for networks with spiking
        populations "firing_rate_hz", mean over their units and all valid steps, and with several of them also
        "firing_rate_hz.NAME" of each.

    Raises:
        ArgumentError: an argument is impossible, or network and task do not fit.
        TaskError: an unknown split.
    """
    if not isinstance(run, Run | Network):
        raise ArgumentError(f"run must be what ex.fit returned, or an ex.Network, got {run!r}.")
    net = run.network if isinstance(run, Run) else run
    if task is None and isinstance(run, Run):
        task = run.task
    if not isinstance(task, Task):
        raise ArgumentError(f'task must be a task, such as ex.tasks.get("digits"), got {task!r}.')
    positive_integer("batch")(batch)
    check_fit(net, task)
    return {name: float(value[0]) for name, value in measure(net, task, split, batch, many=False).items()}


def measure(nets: Network, task: Task, split: Split, batch: int, many: bool) -> dict[str, np.ndarray]:
    """All figures as (seeds,) arrays; `many`: the networks' arrays carry a leading axis of seeds."""
    sums: dict[str, np.ndarray] = {}
    for trial in task.batches(split, batch):
        for name, array in _sums(nets, trial, task, many).items():
            sums[name] = sums.get(name, np.zeros(1)) + np.atleast_1d(np.asarray(array, np.float64))
    seconds = sums.pop("seconds")
    figures = {}
    counts = {name: sums.pop(name) for name in list(sums) if name.startswith("spikes.")}
    for name in [name for name in sums if not name.startswith("weight.")]:
        figures[name] = sums[name] / sums[f"weight.{name}"]
    if counts:
        sizes = {name: nets.populations[name.removeprefix("spikes.")].size for name in counts}
        figures[RATE] = sum(counts.values()) / (seconds * sum(sizes.values()))
        if len(counts) > 1:
            for name, total in counts.items():
                figures[f"{RATE}.{name.removeprefix('spikes.')}"] = total / (seconds * sizes[name])
    return figures


@eqx.filter_jit
def _sums(nets: Network, trial: Trial, task: Task, many: bool) -> dict[str, Array]:
    """Sums over one batch: figures times weight, weights, spikes by population, seconds of valid steps."""
    spiking = tuple(name for name, neuron in nets.populations.items() if neuron.spiking)

    def one(net: Network) -> dict[str, Any]:
        # Always the same key: stochastic models are measured on the same draws each time.
        record = net.run(trial.inputs, key=jax.random.key(0), record=spiking)
        weight = task.weight(trial)
        figures = {task.metric: task.score(record.outputs, trial), **task.metrics(record.outputs, trial)}
        sums: dict[str, Array] = {}
        for name, figure in figures.items():
            value, items = figure if isinstance(figure, tuple) else (figure, weight)
            sums[name], sums[f"weight.{name}"] = value * items.astype(value.dtype), items
        valid = trial.valid()[..., None]
        for name in spiking:
            spikes = record[name]
            sums[f"spikes.{name}"] = jnp.sum(spikes * jnp.broadcast_to(valid.astype(spikes.dtype), spikes.shape))
        return {**sums, "seconds": jnp.sum(valid) * (net.dt / 1000)}

    return eqx.filter_vmap(one)(nets) if many else one(nets)
