"""The training loop, on one page.

    net <- initialise, bind                                     once a seed
    repeat: trial <- task; loss, grads <- rule; step <- optimiser; net <- constrain(net + step)
    every so often: measure on validation trials, keep the best network of each seed

Seeds are one program: networks, optimiser states and keys carry a leading axis, the task does not.
"""

import os
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..errors import EngraxError
from ..network import Network, trainable_leaves
from ..rules import Rule
from ..tasks import Task
from .check import check_arguments, check_folder
from .evaluate import measure
from .progress import Progress
from .run import Run, finished
from .store import write_arrays, write_json, write_lines

# The most steps that one compiled call makes: calling costs little beside them, and Ctrl-C is soon answered.
BLOCK = 25


class TrainingError(EngraxError):
    """Training cannot go on: the loss is not a number any more. The message names the step."""


def fit(
    net: Network,
    task: Task,
    rule: Rule,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch: int = 64,
    seeds: int | None = None,
    key: PRNGKeyArray | None = None,
    validate_every: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Run:
    """Train a network on a task by a rule.

    Args:
        net: the network. Feedback weights need not be there: `fit` calls `rule.bind`.
        task: gives the trials.
        rule: gives loss and gradient.
        optimizer: any Optax transformation.
        steps: optimiser steps.
        batch: trials a step, and a batch of validation and test trials.
        seeds: None trains `net` as it is; n trains n networks drawn by `net.initialize`, side by side.
        key: drives weights (with `seeds`), feedback weights and trials; None: `jax.random.key(0)`. A run with the
            same key is the same run.
        validate_every: steps between validations; None: ten in all. The last step is always validated.
        out: folder to write `metrics.jsonl`, `result.json`, `network.npz` (best) and `networks.npz` (all seeds) to.
        progress: show progress on standard error.

    Returns:
        The run: networks (each seed's best on validation trials), history, test figures. Ctrl-C ends the training
        and gives the run so far, with `interrupted` set.

    Raises:
        ArgumentError: an argument is impossible or does not fit the others; the message names it.
        TrainingError: the loss is no longer finite; the message names the step.
    """
    check_arguments(net, task, rule, optimizer, steps, batch, seeds, key, validate_every, progress)
    folder = None if out is None else check_folder(out)
    started = time.perf_counter()
    every = max(1, steps // 10) if validate_every is None else validate_every
    many = seeds is not None
    key = jax.random.key(0) if key is None else key
    keys = jax.random.split(key, seeds) if seeds is not None else key

    nets, states = _begin(net, keys, rule, optimizer, many)
    best, top = nets, np.full(seeds or 1, -np.inf)
    losses: list[np.ndarray] = []
    history: list[dict[str, Any]] = []
    done, interrupted = 0, False
    with Progress(steps, task.metric, progress) as shown:
        try:
            while done < steps:
                count = min(BLOCK, every - done % every, steps - done)
                span = jnp.asarray(done, jnp.int32), jnp.asarray(count, jnp.int32)
                nets, states, values = _block(nets, states, keys, span, task, rule, optimizer, batch, many)
                losses.append(_finite(np.asarray(values)[..., :count], done))
                done += count
                shown.advance(done, losses[-1])
                if done % every == 0 or done == steps:
                    figures = measure(nets, task, "validation", batch, many)
                    best, top = _keep(best, top, nets, figures[task.metric], task.metric, many)
                    seconds = time.perf_counter() - started
                    history.append(_entry(done, losses, history, figures, seconds))
                    shown.validated(history[-1])
                    _write_history(folder, history)
        except KeyboardInterrupt:
            interrupted = True
            shown.say(f"stopped at step {done} of {steps} by Ctrl-C")
        chosen = best if history else nets  # nothing validated yet: the network as it is
        shown.say("measuring on test trials")
        test = measure(chosen, task, "test", batch, many)

    run = finished(
        nets=chosen,
        task=task,
        test=test,
        validation=top if task.metric == "accuracy" else -top,
        history=history,
        losses=np.concatenate(losses, axis=-1) if losses else np.zeros((0,)),
        steps=done,
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
        many=many,
        out=folder,
    )
    if folder is not None:
        write_arrays(folder / "network.npz", run.network)
        if run.networks is not None:
            write_arrays(folder / "networks.npz", run.networks)
        write_json(folder / "result.json", run.summary())
    return run


@eqx.filter_jit
def _begin(net: Network, keys: Array, rule: Rule, optimizer: Any, many: bool) -> tuple[Network, PyTree]:
    """Networks, drawn anew for seeds and bound to the rule, and their optimisers' states."""

    def begin(key: PRNGKeyArray) -> tuple[Network, PyTree]:
        # Steps take their keys by fold_in of 0, 1, ...: the last number there is never one of them.
        draw, bind = jax.random.split(jax.random.fold_in(key, 2**32 - 1))
        bound = rule.bind(net.initialize(draw) if many else net, bind)
        return bound, optimizer.init(eqx.filter(bound, trainable_leaves(bound)))

    return eqx.filter_vmap(begin)(keys) if many else begin(keys)


@eqx.filter_jit
def _block(
    nets: Network,
    states: PyTree,
    keys: Array,
    span: tuple[Array, Array],
    task: Task,
    rule: Rule,
    optimizer: Any,
    batch: int,
    many: bool,
) -> tuple[Network, PyTree, Float[Array, "*seeds block"]]:
    """Up to `BLOCK` training steps as one program: (first step, number of steps) may change, the program does not."""
    first, count = span

    def step(net: Network, state: PyTree, key: PRNGKeyArray) -> tuple[Network, PyTree, Array]:
        sample, learn, repair = jax.random.split(key, 3)
        loss, grads = rule.value_and_grad(net, task.sample(sample, batch), learn)
        # Optax itself relies on implicit promotion, which a program that calls us may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = optimizer.update(grads, state, eqx.filter(net, trainable_leaves(net)))
        return eqx.apply_updates(net, updates).constrain(repair), state, loss

    def steps(net: Network, state: PyTree, key: PRNGKeyArray) -> tuple[Network, PyTree, Array]:
        arrays, rest = eqx.partition((net, state), eqx.is_array)

        def body(i: Array, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            net, state = eqx.combine(carry[0], rest)
            net, state, loss = step(net, state, jax.random.fold_in(key, first + i))
            return eqx.filter((net, state), eqx.is_array), carry[1].at[i].set(loss.astype(carry[1].dtype))

        arrays, losses = jax.lax.fori_loop(0, count, body, (arrays, jnp.zeros(BLOCK, net.dtype)))
        return *eqx.combine(arrays, rest), losses

    return eqx.filter_vmap(steps)(nets, states, keys) if many else steps(nets, states, keys)


def _keep(
    best: Network, top: np.ndarray, nets: Network, scores: np.ndarray, metric: str, many: bool
) -> tuple[Network, np.ndarray]:
    """Each seed's better network, and its score with larger as better."""
    scores = scores if metric == "accuracy" else -scores
    better = scores > top  # False for a score that is not a number
    chosen = _choose(jnp.asarray(better if many else better[0]), nets, best)
    return chosen, np.where(better, scores, top)


@eqx.filter_jit
def _choose(better: Array, new: Network, old: Network) -> Network:
    def choose(a: Any, b: Any) -> Any:
        if not eqx.is_array(a):
            return a
        return jnp.where(better.reshape(better.shape + (1,) * (a.ndim - better.ndim)), a, b)

    return jax.tree.map(choose, new, old)


def _finite(losses: np.ndarray, done: int) -> np.ndarray:
    wrong = np.argwhere(~np.isfinite(np.atleast_2d(losses)))
    if len(wrong):
        seed, at = wrong[np.argmin(wrong[:, 1])]
        whose = f" of seed {seed}" if losses.ndim == 2 else ""
        raise TrainingError(
            f"the loss{whose} became {np.atleast_2d(losses)[seed, at]} at step {done + at + 1}. Lower the learning "
            "rate, clip the gradient (optax.clip_by_global_norm), or look for huge values in the inputs."
        )
    return losses


def _entry(
    done: int, losses: list[np.ndarray], history: list[dict[str, Any]], figures: dict[str, np.ndarray], seconds: float
) -> dict[str, Any]:
    """A line of the history: the mean loss since the last one, and validation figures (mean over seeds)."""
    since = history[-1]["step"] if history else 0
    recent = np.concatenate(losses, axis=-1)[..., since:]
    entry: dict[str, Any] = {"step": done, "seconds": round(seconds, 3), "loss": float(np.mean(recent))}
    for name, values in figures.items():
        entry[f"validation_{name}"] = float(np.mean(values))
        if len(values) > 1:
            entry[f"validation_{name}_per_seed"] = [float(v) for v in values]
    return entry


def _write_history(folder: Path | None, history: list[dict[str, Any]]) -> None:
    if folder is not None:
        write_lines(folder / "metrics.jsonl", history)
