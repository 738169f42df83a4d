"""What `fit` is given, checked before anything is compiled; every message names the argument and the remedy."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from .._checks import check_key
from ..errors import ArgumentError
from ..network import Network, trainable_leaves
from ..parameter import positive_integer
from ..rules import Rule
from ..tasks import Task


def check_arguments(
    net: Any,
    task: Any,
    rule: Any,
    optimizer: Any,
    steps: Any,
    batch: Any,
    seeds: Any,
    key: Any,
    update_every: Any,
    validate_every: Any,
    checkpoint_every: Any,
    until: Any,
    out: Any,
    resume: Any,
    watch: Any,
    tensorboard: Any,
    progress: Any,
) -> None:
    """Raise an ArgumentError for an argument of `fit` that is impossible or does not fit the others."""
    for name, value, kind, remedy in (
        ("net", net, Network, "an ex.Network"),
        ("task", task, Task, 'a task, such as ex.tasks.get("digits")'),
        ("rule", rule, Rule, "a rule, such as ex.rules.EProp(); a class must be called"),
    ):
        if not isinstance(value, kind):
            raise ArgumentError(f"{name} must be {remedy}, got {value!r}.")
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise ArgumentError(f"optimizer must be an Optax transformation, such as optax.adam(1e-3), got {optimizer!r}.")
    positive_integer("steps")(steps)
    positive_integer("batch")(batch)
    if not isinstance(seeds, int):
        _check_seeds(seeds)
    every = {
        "seeds": seeds if isinstance(seeds, int) else None,
        "update_every": update_every,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
    }
    for name, value in every.items():
        if value is not None:
            positive_integer(name)(value)
    for name, value in (("resume", resume), ("tensorboard", tensorboard), ("progress", progress)):
        if not isinstance(value, bool):
            raise ArgumentError(f"{name} must be True or False, got {value!r}.")
    if until is not None and (isinstance(until, bool) or not isinstance(until, int | float) or until != until):
        raise ArgumentError(f"until must be a number, such as an accuracy of 0.93, got {until!r}.")
    if watch is not None and not callable(watch):
        raise ArgumentError(f"watch must be a function of (step, networks), got {watch!r}.")
    if resume and out is None:
        raise ArgumentError("resume: give out=, the folder of the run that is to go on.")
    if tensorboard and out is None:
        raise ArgumentError("tensorboard: give out=, the folder of the run; its curves go there.")
    if key is not None:
        check_key(key)
    if update_every is not None and not hasattr(rule, "update"):
        raise ArgumentError(
            f"update_every: {type(rule).__name__} gives no gradient before a trial's end; leave it out."
        )
    if update_every is not None and _asks_again(net, optimizer):
        raise ArgumentError(
            "update_every: this optimizer asks for the loss again within a step, which a stream has not; leave it out."
        )
    check_fit(net, task)


def _asks_again(net: Network, optimizer: Any) -> bool:
    """Whether an optimiser needs more than the gradient, as a line search does."""
    moving = eqx.filter(net, trainable_leaves(net))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        try:
            jax.eval_shape(lambda moving: optimizer.update(moving, optimizer.init(moving), moving)[0], moving)
        except TypeError as problem:
            return "keyword-only" in str(problem)
    return False


def _check_seeds(seeds: Any) -> None:
    """Several seeds by their numbers."""
    if seeds is None:
        return
    fine = isinstance(seeds, Sequence) and not isinstance(seeds, str) and len(seeds) > 0
    if not fine or not all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in seeds):
        raise ArgumentError(f"seeds must be how many, or a sequence of integers >= 0, got {seeds!r}.")
    if len(set(seeds)) < len(seeds):
        raise ArgumentError(f"seeds: each can be trained once, got {list(seeds)}.")


def check_fit(net: Network, task: Task) -> None:
    """Raise an ArgumentError where sizes or time steps of a network and a task differ."""
    if len(net.inputs) == 1:
        name, size = next(iter(net.inputs.items()))
        if size != task.input_size:
            raise ArgumentError(
                f"net and task do not fit: input {name!r} has {size} units, the task gives {task.input_size}. "
                "Use inputs={...: task.input_size}."
            )
    if net.single_output:
        label, population, _ = net.output_specs[0]
        size = net.populations[population].size
        if size != task.output_size:
            raise ArgumentError(
                f"net and task do not fit: output {label!r} has {size} units, the task needs {task.output_size}. "
                "Give that population the size task.output_size."
            )
    if abs(net.dt - task.dt) > 1e-6 * task.dt:
        raise ArgumentError(
            f"net and task do not fit: the network's dt is {net.dt:g} ms, the task's {task.dt:g} ms. Use dt=task.dt."
        )


def check_folder(out: Any, resume: bool = False) -> Path:
    """The folder for a run's files, made if need be.

    Raises:
        ArgumentError: `out` is no path, is a file, holds a run already that is not to be resumed, or cannot be made.
    """
    if not isinstance(out, str | os.PathLike) or not str(out):
        raise ArgumentError(f"out must be a folder's path, got {out!r}.")
    folder = Path(out).expanduser()
    for file in ("metrics.jsonl", "result.json", "checkpoints"):
        if (folder / file).exists() and not resume:
            raise ArgumentError(
                f"out: {folder} already holds a run ({file}). Choose another folder, remove it, or go on with it "
                "(resume=True, --resume)."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"out: the folder {folder} cannot be made ({error.strerror}).") from error
    return folder
