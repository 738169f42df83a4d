"""Measuring: one pass over a split with frozen weights, every figure weighted so that batches average exactly."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from ..errors import ArgumentError
from ..meter import Activity, Bill, NeuroBench, Workload, bill, neurobench, observe, watched, workload
from ..network import Network
from ..parameter import positive_integer
from ..rl.surface import surfaced
from ..rules import Rule
from ..tasks import Split, Task
from .block import one_of
from .check import check_fit
from .run import Run
from .seeds import over_seeds

RATE, ENERGY = "firing_rate_hz", "energy_joules"


def evaluate(
    run: Run | Network,
    task: Task | None = None,
    split: Split = "test",
    batch: int = 64,
    rule: Rule | None = None,
) -> dict[str, float]:
    """What a network reaches on a split of a task.

    Args:
        run: a run (its best network is measured), or a network.
        task: the task; None: the run's own.
        split: "train", "validation" or "test".
        batch: trials at a time. It changes memory and speed, not the figures.
        rule: what runs the network is the engine of this rule; None: of the run's own, of a network `net.run`.

    Returns:
        The task's metric by its name ("accuracy", "loss" or "return") and its further ones; for networks with spiking
        populations "firing_rate_hz", mean over their units and all valid steps, and with several of them also
        "firing_rate_hz.NAME" of each; "energy_joules", of a mean trial at the meter's float32 prices (`engrax.meter`).

    Raises:
        ArgumentError: an argument is impossible, or network and task do not fit.
        TaskError: an unknown split.
        WorldError: an environment outside JAX failed.
    """
    if not isinstance(run, Run | Network):
        raise ArgumentError(f"run must be what ex.fit returned, or an ex.Network, got {run!r}.")
    net = run.network if isinstance(run, Run) else run
    if task is None and isinstance(run, Run):
        task = run.task
    if rule is not None and not isinstance(rule, Rule):
        raise ArgumentError(f"rule must be a rule, such as ex.rules.EventProp(), or None, got {rule!r}.")
    if rule is None and isinstance(run, Run):
        rule = run.rule
    if not isinstance(task, Task):
        raise ArgumentError(f'task must be a task, such as ex.tasks.get("digits"), got {task!r}.')
    positive_integer("batch")(batch)
    check_fit(net, task)
    return {name: float(value[0]) for name, value in measure(net, task, split, batch, many=False, rule=rule).items()}


def measure(
    nets: Network, task: Task, split: Split, batch: int, many: bool, rule: Rule | None = None
) -> dict[str, np.ndarray]:
    """All figures as (seeds,) arrays; `many`: the networks' arrays carry a leading axis of seeds."""
    return _figures(*_passes(nets, task, split, batch, many, rule), nets, many)


def meter(
    nets: Network, task: Task, split: Split, batch: int, many: bool, rule: Rule | None = None
) -> tuple[dict[str, np.ndarray], Bill]:
    """The figures that `measure` gives, and the energy bill of a trial, mean over seeds."""
    sums, activity = _passes(nets, task, split, batch, many, rule)
    mean = jax.tree.map(lambda x: np.mean(x, axis=0), activity)
    return _figures(sums, activity, nets, many), bill(one_of(nets, 0, many), mean)


def benchmark(net: Network, task: Task, split: Split, batch: int) -> NeuroBench:
    """NeuroBench's metrics of one network on a split."""
    return neurobench(net, _total(task, split, batch, lambda trial: _work(net, trial, task)))


def _passes(
    nets: Network, task: Task, split: Split, batch: int, many: bool, rule: Rule | None
) -> tuple[dict[str, np.ndarray], Activity]:
    """Sums over the whole split, in double precision, with a leading axis of seeds."""
    # A task knows how to run a network step by step, an environment too.
    other = None if rule is None or rule.engine == "run" else rule
    total = _total(task, split, batch, lambda trial: _sums(nets, trial, task, many, other))
    return total if many else jax.tree.map(lambda x: x[None], total)


def _total(task: Task, split: Split, batch: int, of: Callable[[Any], Any]) -> Any:
    """Sums over the whole split, in double precision, of what there is of each batch."""
    total: Any = None
    for trial in task.batches(split, batch):
        with surfaced():
            part = jax.tree.map(lambda x: np.asarray(x, np.float64), of(trial))
        total = part if total is None else jax.tree.map(np.add, total, part)
    return total


def _figures(sums: dict[str, np.ndarray], activity: Activity, nets: Network, many: bool) -> dict[str, np.ndarray]:
    names = [name for name in sums if not name.startswith("weight.")]
    figures = {name: sums[name] / sums[f"weight.{name}"] for name in names}
    seconds = activity.steps * (nets.dt / 1000)
    if activity.spikes:
        rates = {name: (x.sum(-1), nets.populations[name].size) for name, x in activity.spikes.items()}
        figures[RATE] = sum(x for x, _ in rates.values()) / (seconds * sum(size for _, size in rates.values()))
        if len(rates) > 1:
            figures |= {f"{RATE}.{name}": spikes / (seconds * size) for name, (spikes, size) in rates.items()}
    seeds = range(len(seconds))
    bills = [bill(one_of(nets, i, many), jax.tree.map(lambda x, i=i: x[i], activity)) for i in seeds]
    figures[ENERGY] = np.array([b.joules() for b in bills])
    return figures


@eqx.filter_jit
def _sums(nets: Network, trial: Any, task: Task, many: bool, rule: Rule | None) -> tuple[dict[str, Array], Activity]:
    """Sums over one batch: figures times weights, weights, and the activity."""
    spiking = tuple(name for name, neuron in nets.populations.items() if neuron.sends_events)

    def one(net: Network) -> tuple[dict[str, Array], Activity]:
        given, record = (
            task.perform(net, trial, spiking) if rule is None else (trial, rule.perform(net, trial, spiking))
        )
        weight = task.weight(given)
        figures = {task.metric: task.score(record.outputs, given), **task.metrics(record.outputs, given)}
        sums: dict[str, Array] = {}
        for name, figure in figures.items():
            value, items = figure if isinstance(figure, tuple) else (figure, weight)
            sums[name], sums[f"weight.{name}"] = value * items.astype(value.dtype), items
        return sums, observe(net, given, record)

    return over_seeds(one, nets, in_turn=task.outside or rule is not None) if many else one(nets)


@eqx.filter_jit
def _work(net: Network, trial: Any, task: Task) -> Workload:
    return workload(net, *task.perform(net, trial, watched(net)))
