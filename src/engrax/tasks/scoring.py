"""What a batch of answers is worth: accuracies and the mean squared error, over chosen steps.

An answer that is not a number is a wrong answer: `argmax` alone would call it class 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..trial import Trial


def step_weights(trial: Trial) -> Float[Array, "time batch"]:
    """How much each step counts: 0 in padding, the trial's mask (its mean over outputs) elsewhere."""
    valid = trial.valid()
    if trial.mask is None:
        return valid
    mask = trial.mask if trial.mask.ndim == 2 else jnp.mean(trial.mask, axis=-1)
    return valid * mask.astype(valid.dtype)


def right(logits: Float[Array, "*axes outputs"], classes: Int[Array, "*axes"]) -> Bool[Array, "*axes"]:
    """Whether the largest of `logits` is the one of the class asked for, and all of them are numbers."""
    # The index type of argmax follows the x64 switch; strict promotion wants it to be that of the classes.
    decision = jnp.argmax(logits, axis=-1).astype(classes.dtype)
    return (decision == classes) & ~jnp.any(jnp.isnan(logits), axis=-1)


def step_accuracy(
    outputs: Float[Array, "time batch outputs"],
    classes: Int[Array, "time batch"],
    weights: Float[Array, "time batch"] | Bool[Array, "time batch"] | None = None,
) -> Float[Array, ""]:
    """Share of right decisions at single steps, weighted by `weights` (None: all steps alike)."""
    correct = right(outputs, classes).astype(outputs.dtype)
    if weights is None:
        return jnp.mean(correct)
    return _mean(correct, weights.astype(outputs.dtype))


def trial_accuracy(
    outputs: Float[Array, "time batch outputs"],
    classes: Int[Array, " batch"],
    weights: Float[Array, "time batch"],
) -> Float[Array, ""]:
    """Share of trials decided rightly by the mean of the outputs over time, weighted by `weights`."""
    weights = weights.astype(outputs.dtype)[..., None]
    # The sum decides as the mean does. Outputs of steps that do not count may be anything, even not a number.
    total = jnp.sum(jnp.where(weights > 0, outputs * weights, 0.0), axis=0)
    return jnp.mean(right(total, classes).astype(outputs.dtype))


class Decisions(NamedTuple):
    """What was decided and what was right, one entry a decision: (trials,) or (time, trials); weights say how much."""

    decided: Int[Array, "*axes"]
    wanted: Int[Array, "*axes"]
    weights: Float[Array, "*axes"]


def step_decisions(
    outputs: Float[Array, "time batch outputs"],
    classes: Int[Array, "time batch"],
    weights: Float[Array, "time batch"],
) -> Decisions:
    """One decision a step: the largest output."""
    return Decisions(jnp.argmax(outputs, axis=-1).astype(classes.dtype), classes, weights)


def trial_decisions(
    outputs: Float[Array, "time batch outputs"],
    classes: Int[Array, " batch"],
    weights: Float[Array, "time batch"],
) -> Decisions:
    """One decision a trial: the largest mean output."""
    weights = weights.astype(outputs.dtype)[..., None]
    total = jnp.sum(jnp.where(weights > 0, outputs * weights, 0.0), axis=0)
    ones = jnp.ones(classes.shape, outputs.dtype)
    return Decisions(jnp.argmax(total, axis=-1).astype(classes.dtype), classes, ones)


def mean_squared_error(outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
    """Mean of (output - target)^2 over outputs and all steps that count, weighted by the trial's mask."""
    weights = trial.valid().astype(outputs.dtype)[..., None]
    if trial.mask is not None:
        mask = trial.mask if trial.mask.ndim == 3 else trial.mask[..., None]
        weights = weights * mask.astype(outputs.dtype)
    weights = jnp.broadcast_to(weights, outputs.shape)
    return _mean((outputs - trial.targets.astype(outputs.dtype)) ** 2, weights)


def _mean(x: Array, weights: Array) -> Array:
    total = jnp.sum(weights)
    # No step counts: the score is 0 with weight 0, not 0/0, so that it vanishes from a mean over batches.
    return jnp.sum(jnp.where(weights > 0, x * weights, 0.0)) / jnp.where(total > 0, total, 1.0)
