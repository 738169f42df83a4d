"""`check_task`: does a task give what networks, rules and metrics rely on?"""

from typing import Any

import jax
import jax.numpy as jnp

from ..errors import LossError
from ..events import dense
from ..losses import as_loss
from ..tasks.task import SPLITS, Task
from ..trial import Trial
from .errors import require


def check_task(task: Task, batch: int = 4) -> None:
    """Check a task: shapes, determinism for a key, jit and vmap of `sample`, repeatable `batches`, scores in range.

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
    dtype = jnp.result_type(float)
    targets = jnp.asarray(trial.targets)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        right = targets.astype(dtype)
    else:
        steps = targets if targets.ndim == 2 else jnp.broadcast_to(targets, (trial.steps, *targets.shape))
        right = jax.nn.one_hot(steps, task.output_size, dtype=dtype)
    best, worst = float(task.score(right, trial)), float(task.score(-right, trial))
    if task.metric == "accuracy":
        require(best == 1.0, f"{name}.score of right answers must be 1, got {best}.")
        require(0 <= worst < 1, f"{name}.score of wrong answers must be below 1, got {worst}.")
    else:
        require(best < worst, f"{name}.score must be lower for right answers ({best}) than for wrong ones ({worst}).")
    require(float(task.weight(trial)) > 0, f"{name}.weight must be positive.")


def _same(what: str, a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        require(x.shape == y.shape and jnp.allclose(x, y, rtol=1e-6, atol=1e-6), f"{what} differs.")
