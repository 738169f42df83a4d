"""The training loop, on one page.

    net <- initialise, bind                                     once a seed
    repeat: trial <- task; loss, grads <- rule; step <- optimiser; net <- constrain(net + step)
    every so often: measure on validation trials, keep the best network of each seed, write a checkpoint

Seeds are one program: networks, optimiser states and keys carry a leading axis, the task does not.
"""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from ..errors import EngraxError, SilenceWarning, WorldError
from ..network import Network
from ..rl.surface import surfaced
from ..rules import Rule
from ..tasks import Task
from ..tasks.task import direction
from . import checkpoint
from .block import BLOCK, begin, block, choose
from .board import Board
from .check import check_arguments, check_folder
from .checkpoint import Position
from .diagnose import diagnose, silence
from .evaluate import measure, meter
from .progress import Progress
from .run import Run, finished
from .store import write_arrays, write_json, write_lines

Watch: TypeAlias = Callable[[int, Network], Mapping[str, Any]]


class TrainingError(EngraxError):
    """Training cannot go on: the loss is not a number any more. The message names step and population."""


class _Plan(NamedTuple):
    """What does not change during a training."""

    task: Task
    rule: Rule
    optimizer: optax.GradientTransformation
    keys: Array
    steps: int
    batch: int
    every: int
    saving: int
    many: bool
    numbers: Sequence[int]
    watch: Watch | None
    until: float | None
    within: int | None


def fit(
    net: Network,
    task: Task,
    rule: Rule,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch: int = 64,
    seeds: int | Sequence[int] | None = None,
    key: PRNGKeyArray | None = None,
    update_every: int | None = None,
    validate_every: int | None = None,
    checkpoint_every: int | None = None,
    until: float | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> Run:
    """Train a network on a task by a rule.

    Args:
        net: the network. Feedback weights need not be there: `fit` calls `rule.bind`.
        task: gives the trials.
        rule: gives loss and gradient.
        optimizer: any Optax transformation.
        steps: batches of trials, each with one optimiser step.
        batch: trials a step, and a batch of validation and test trials.
        seeds: None trains `net` as it is; n trains n networks drawn by `net.initialize`, in one program, seeds 0 to
            n - 1. A sequence trains those seeds; seed 7 is the same network with the same trials in whatever company.
        key: drives weights (with `seeds`), feedback weights and trials; None: `jax.random.key(0)`. A run with the
            same key is the same run.
        update_every: time steps after which the network is updated within a trial, by the mean gradient of these steps;
            1 is an update at every step. For rules that give gradients step by step. None: once a batch of trials.
        validate_every: steps between validations; None: ten in all. The last step is always validated.
        checkpoint_every: steps between checkpoints; None: one with every validation. They are written only with `out`.
        until: end early, at the first validation by which every seed has had a figure as good as this: an accuracy or
            a return at least so high, or a loss at most so high, as is the task's metric.
        out: folder to write `metrics.jsonl`, `result.json`, `network.safetensors` (best), `networks.safetensors` (all
            seeds) and `checkpoints/` to.
        resume: go on from the newest checkpoint in `out`, to the same bits as if nothing had happened. The other
            arguments must be the same. Where `out` holds no checkpoint, training starts at the beginning.
        watch: called at every validation with the step and the networks (arrays stacked over seeds, if there are
            seeds); the dict of numbers that it returns is added to the history. It must not change anything.
        tensorboard: also write the history to `out`/tensorboard, as TensorBoard reads it.
        progress: show progress on standard error.

    Returns:
        The run: networks (each seed's best on validation trials), history, test figures. Ctrl-C ends the training
        (with a checkpoint, if there is a folder) and gives the run so far, with `interrupted` set.

    Raises:
        ArgumentError: an argument is impossible or does not fit the others; the message names it. With `resume`: the
            run in `out` was made with other arguments.
        DataError: there are checkpoints, and none of them can be read.
        TrainingError: the loss is no longer finite; the message names the step and what is wrong there.
        WorldError: an environment outside JAX failed. Where there is a folder, there is a checkpoint to go on from.

    Warns:
        SilenceWarning: a population sends no spikes in any validation trial, of one seed at least.
    """
    check_arguments(
        net,
        task,
        rule,
        optimizer,
        steps,
        batch,
        seeds,
        key,
        update_every,
        validate_every,
        checkpoint_every,
        until,
        out,
        resume,
        watch,
        tensorboard,
        progress,
    )
    folder = None if out is None else check_folder(out, resume)
    started = time.perf_counter()
    every = max(1, steps // 10) if validate_every is None else validate_every
    many = seeds is not None
    key = jax.random.key(0) if key is None else key
    numbers = range(seeds or 1) if seeds is None or isinstance(seeds, int) else list(seeds)
    one = partial(jax.random.fold_in, key)
    keys = jax.vmap(one)(np.asarray(numbers, np.uint32)) if many else key
    saving = checkpoint_every or every
    plan = _Plan(task, rule, optimizer, keys, steps, batch, every, saving, many, numbers, watch, until, update_every)
    settings = {
        "steps": steps,
        "batch": batch,
        "seeds": seeds if seeds is None or isinstance(seeds, int) else list(seeds),
        "key": jax.random.key_data(key).tolist(),
        "validate_every": every,
        "task": type(task).__name__,
        "rule": type(rule).__name__,
        **({} if until is None else {"until": until}),
        **({} if update_every is None else {"update_every": update_every}),
    }

    nets, states = begin(net, keys, rule, optimizer, many)
    losses = np.zeros((len(numbers), steps) if many else steps)
    at = Position(0, nets, states, nets, np.full(len(numbers), -np.inf), losses, [], 0.0)
    interrupted = False
    with ExitStack() as opened:
        shown = opened.enter_context(Progress(steps, task.metric, progress))
        if folder is not None and resume:
            found = checkpoint.load(folder, at, settings, shown.say)
            shown.resumed(found.done if found else 0)
            at = found or at
        earlier = at.seconds
        board = opened.enter_context(Board(folder if tensorboard else None, at.done))
        try:
            while True:
                # First, because a run may have been stopped between a block and its validation.
                if _due(at, plan):
                    at = _validate(at, plan)
                    shown.validated(at.history[-1])
                    if said := silence(net, at.history):
                        warnings.warn(said, SilenceWarning, stacklevel=2)
                    board.add(at.history[-1])
                    if folder is not None:
                        write_lines(folder / "metrics.jsonl", at.history)
                if folder is not None and _saved(at, plan):
                    checkpoint.save(folder, at, settings)
                if at.done == steps or _reached(at, plan):
                    break
                at = _advance(at, plan, shown)._replace(seconds=earlier + time.perf_counter() - started)
        except KeyboardInterrupt:
            interrupted = True
            shown.say(f"stopped at step {at.done} of {steps} by Ctrl-C")
            if folder is not None:
                checkpoint.save(folder, at, settings)
        except WorldError:
            if folder is not None:
                checkpoint.save(folder, at, settings)
            raise
        chosen = at.best if at.history else at.nets  # nothing validated yet: the network as it is
        shown.say("measuring on test trials")
        test, energy = meter(chosen, task, "test", batch, many, rule)

    run = finished(
        nets=chosen,
        task=task,
        rule=rule,
        test=test,
        energy=energy,
        validation=direction(task.metric) * at.top,
        history=at.history,
        losses=at.losses[..., : at.done].astype(nets.dtype),
        steps=at.done,
        seconds=earlier + time.perf_counter() - started,
        interrupted=interrupted,
        many=many,
        out=folder,
    )
    if folder is not None:
        write_arrays(folder / "network.safetensors", run.network)
        if run.networks is not None:
            write_arrays(folder / "networks.safetensors", run.networks)
        write_json(folder / "result.json", run.summary())
    return run


def _due(at: Position, plan: _Plan) -> bool:
    """Whether a validation is to be made."""
    validated = at.history[-1]["step"] if at.history else 0
    return at.done > validated and (at.done % plan.every == 0 or at.done == plan.steps)


def _reached(at: Position, plan: _Plan) -> bool:
    """Whether every seed was good enough."""
    if plan.until is None or not at.history:
        return False
    return bool(np.all(at.top >= direction(plan.task.metric) * plan.until))


def _saved(at: Position, plan: _Plan) -> bool:
    """Whether a checkpoint is to be written."""
    regular = at.done % plan.saving == 0 or at.done % plan.every == 0
    return at.done > 0 and (regular or at.done == plan.steps)


def _advance(at: Position, plan: _Plan, shown: Progress) -> Position:
    """Make a block of steps, which ends where something else is due."""
    done = at.done
    count = min(BLOCK, plan.every - done % plan.every, plan.saving - done % plan.saving, plan.steps - done)
    span = jnp.asarray(done, jnp.int32), jnp.asarray(count, jnp.int32)
    with surfaced():
        nets, states, values, finite = block(
            at.nets,
            at.states,
            plan.keys,
            span,
            plan.task,
            plan.rule,
            plan.optimizer,
            plan.batch,
            plan.many,
            plan.within,
        )
        # Written in place: until `done` says so, nobody reads them.
        at.losses[..., done : done + count] = np.asarray(values)[..., :count]
    _check_finite(at, np.asarray(finite)[..., :count], plan)
    shown.advance(done + count, at.losses[..., done : done + count])
    return at._replace(done=done + count, nets=nets, states=states)


def _check_finite(at: Position, finite: np.ndarray, plan: _Plan) -> None:
    """Stop the training at the first step whose loss, or whose update, is no number."""
    losses = np.atleast_2d(at.losses)[:, at.done : at.done + finite.shape[-1]]
    wrong = np.argwhere(~(np.isfinite(losses) & np.atleast_2d(finite)))
    if not len(wrong):
        return
    seed, after = (int(x) for x in wrong[np.argmin(wrong[:, 1])])
    span = jnp.asarray(at.done, jnp.int32), jnp.asarray(after, jnp.int32)
    nets, *_ = block(
        at.nets, at.states, plan.keys, span, plan.task, plan.rule, plan.optimizer, plan.batch, plan.many, plan.within
    )
    step, loss = at.done + after, losses[seed, after]
    why = diagnose(nets, plan.task, plan.keys, plan.batch, step, seed if plan.many else None)
    whose = f" of seed {plan.numbers[seed]}" if plan.many else ""
    what = f"the loss{whose} became {loss}" if not np.isfinite(loss) else f"the update{whose} is not finite"
    raise TrainingError(
        f"{what} at step {step + 1}. {why} Lower the learning rate, clip the gradient (optax.clip_by_global_norm), "
        "or look for huge values in the inputs."
    )


def _validate(at: Position, plan: _Plan) -> Position:
    """Measure on validation trials, keep each seed's better network, and add a line to the history."""
    figures = measure(at.nets, plan.task, "validation", plan.batch, plan.many, plan.rule)
    scores = direction(plan.task.metric) * figures[plan.task.metric]
    better = scores > at.top  # False for a score that is not a number
    best = choose(jnp.asarray(better if plan.many else better[0]), at.nets, at.best)
    since = at.history[-1]["step"] if at.history else 0
    entry: dict[str, Any] = {
        "step": at.done,
        "seconds": round(at.seconds, 3),
        "loss": float(np.mean(at.losses[..., since : at.done])),
    }
    for name, values in figures.items():
        entry[f"validation_{name}"] = float(np.mean(values))
        if len(values) > 1:
            entry[f"validation_{name}_per_seed"] = [float(v) for v in values]
    if plan.watch is not None:
        entry.update(plan.watch(at.done, at.nets))
    return at._replace(best=best, top=np.where(better, scores, at.top), history=[*at.history, entry])
