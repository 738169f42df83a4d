"""`check_task`: does a task give what networks, rules and metrics rely on?"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import LossError
from ..events import dense
from ..losses import as_loss
from ..tasks.task import SPLITS, Task
from ..trial import FrameTrial, Trial
from .errors import require


def check_task(task: Task, batch: int = 4) -> None:
    """Check a task: shapes, determinism for a key, jit and vmap of `sample`, repeatable `batches`, scores in range.

    Classes (labels, batch) that are not as many as there are steps are taken for label strings, with 0 for the blank.

    Raises:
        ConformanceError: the first check that fails.
    """
    require(isinstance(task, Task), f"{task!r} is not an engrax Task.")
    name = type(task).__name__
    for field in ("input_size", "output_size"):
        value = getattr(task, field)
        require(
            isinstance(value, int) and value >= 1, f"{name}.{field} must be an integer of at least 1, got {value!r}."
        )
    require(task.dt > 0, f"{name}.dt must be positive, got {task.dt!r}.")
    require(task.metric in ("accuracy", "loss"), f"{name}.metric must be 'accuracy' or 'loss', got {task.metric!r}.")
    keys = jax.random.split(jax.random.PRNGKey(0), 2)
    for split in SPLITS:
        trial = task.sample(keys[0], batch, split)
        _check_trial(f"{name}.sample({split!r})", task, trial, batch)
        _same(f"{name}.sample({split!r}) twice with one key", trial, task.sample(keys[0], batch, split))
        seen = 0
        for first, second in zip(task.batches(split, batch), task.batches(split, batch), strict=True):
            _check_trial(f"{name}.batches({split!r})", task, first, first.batch)
            _same(f"{name}.batches({split!r}) at two calls", first, second)
            require(
                1 <= first.batch <= batch,
                f"{name}.batches({split!r}) gave {first.batch} trials for a batch of {batch}.",
            )
            seen += first.batch
            if seen >= 3 * batch:
                break
        require(seen > 0, f"{name}.batches({split!r}) is empty.")
    compiled = jax.jit(lambda t, k: t.sample(k, batch))(task, keys[0])
    _same(f"{name}.sample under jit", compiled, task.sample(keys[0], batch))
    both = jax.vmap(lambda k: task.sample(k, batch))(keys)
    _same(f"{name}.sample under vmap", jax.tree.map(lambda x: x[1], both), task.sample(keys[1], batch))
    _check_score(name, task, task.sample(keys[0], batch))


def _check_trial(what: str, task: Task, trial: Trial, batch: int) -> None:
    require(isinstance(trial, Trial), f"{what} must give a Trial, got {type(trial).__name__}.")
    shape = trial.inputs.shape
    fits = len(shape) == 3 and shape[1:] == (batch, task.input_size)
    require(fits, f"{what}: inputs must be (time, {batch}, {task.input_size}), got {shape}.")
    require(jnp.all(jnp.isfinite(dense(trial.inputs))), f"{what}: inputs are not finite.")
    try:
        as_loss(None, trial.targets)
    except LossError as error:
        require(False, f"{what}: {error}")
    targets = jnp.asarray(trial.targets)
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        inside = jnp.all((targets >= 0) & (targets < task.output_size))
        require(inside, f"{what}: classes must lie in 0..{task.output_size - 1}.")
    if trial.lengths is not None:
        inside = jnp.all((trial.lengths >= 1) & (trial.lengths <= shape[0]))
        require(inside, f"{what}: lengths must lie in 1..{shape[0]}.")


def _check_score(name: str, task: Task, trial: Trial) -> None:
    right = _right(task, trial)
    best, worst = float(task.score(right, trial)), float(task.score(-right, trial))
    if task.metric == "accuracy":
        require(best == 1.0, f"{name}.score of right answers must be 1, got {best}.")
        # Of strings more can be wrong than was asked.
        least = float("-inf") if _strings(trial) else 0.0
        require(least <= worst < 1, f"{name}.score of wrong answers must be below 1, got {worst}.")
    else:
        require(best < worst, f"{name}.score must be lower for right answers ({best}) than for wrong ones ({worst}).")
    require(float(task.weight(trial)) > 0, f"{name}.weight must be positive.")


def _strings(trial: Trial) -> bool:
    """Whether label strings are asked, (labels, batch): classes that are as many as there are steps stand for steps."""
    targets = jnp.asarray(trial.targets)
    return jnp.issubdtype(targets.dtype, jnp.integer) and targets.ndim == 2 and len(targets) != trial.steps


def _right(task: Task, trial: Trial) -> Array:
    """Outputs (time, batch, outputs) that answer rightly."""
    dtype = jnp.result_type(float)
    targets = jnp.asarray(trial.targets)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        return targets.astype(dtype)
    if not _strings(trial):
        steps = targets if targets.ndim == 2 else jnp.broadcast_to(targets, (trial.steps, *targets.shape))
        return jax.nn.one_hot(steps, task.output_size, dtype=dtype)
    hold = trial.hold if isinstance(trial, FrameTrial) else 1
    # Labels and blanks by turns, blanks at both ends, each as long as the others.
    frames, labels = trial.valid()[::hold].sum(axis=0), jnp.sum(targets != 0, axis=0).astype(dtype)
    turn = jnp.arange(trial.steps // hold, dtype=dtype)[:, None] * ((2 * labels + 1) / frames)[None]
    blanks = jnp.zeros((1, trial.batch), targets.dtype)
    interleaved = jnp.concatenate([jnp.stack([jnp.zeros_like(targets), targets], 1).reshape(-1, trial.batch), blanks])
    place = jnp.minimum(turn.astype(jnp.int32), len(interleaved) - 1)
    said = jnp.repeat(jnp.take_along_axis(interleaved, place, axis=0), hold, axis=0)
    return jax.nn.one_hot(said, task.output_size, dtype=dtype)


def _same(what: str, a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        require(x.shape == y.shape and jnp.allclose(x, y, rtol=1e-6, atol=1e-6), f"{what} differs.")
