"""Training on tasks that get harder, one after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from jaxtyping import PRNGKeyArray

from ..errors import ArgumentError
from ..network import Network
from ..rules import Rule
from ..tasks import Task
from .fit import fit
from .run import Run


def curriculum(
    net: Network,
    tasks: Sequence[Task],
    rule: Rule,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    until: float,
    key: PRNGKeyArray | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> list[Run]:
    """Train a network on one task after the other, on to the next as soon as it is good enough.

    Every stage goes on with the best network of the one before. The optimiser, and its schedule, begin anew.

    Args:
        net, rule, optimizer: as for `fit`.
        tasks: easiest first. All must fit the network.
        steps: optimiser steps on each task at most. After so many the next begins all the same.
        until: see `fit`; the last task is trained for all of its steps.
        key: drives feedback weights and trials, those of each stage of their own.
        out: folder for the runs of the stages, "1" and so on.
        options: further ones of `fit`, but for `seeds`.

    Returns:
        The run of each stage; Ctrl-C ends the one that goes on, and is the last.

    Raises:
        ArgumentError: there are no tasks, or as for `fit`.
        DataError, TrainingError: as for `fit`.
    """
    if isinstance(tasks, Task) or not tasks:
        raise ArgumentError("tasks must be a list of tasks, the easiest first.")
    if "seeds" in options:
        raise ArgumentError("a curriculum trains one network: call it once for each seed, with a key of its own.")
    runs: list[Run] = []
    key = jax.random.key(0) if key is None else key
    for stage, task in enumerate(tasks):
        last = stage == len(tasks) - 1
        options |= {"key": jax.random.fold_in(key, stage), "until": None if last else until}
        folder = None if out is None else Path(out) / str(stage + 1)
        run = fit(net, task, rule, optimizer, steps, out=folder, **options)
        runs.append(run)
        net = run.network
        if run.interrupted:
            break
    return runs
