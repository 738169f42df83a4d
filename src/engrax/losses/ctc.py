"""Connectionist temporal classification: what should be said is known, when is not.

    E = -log sum over alignments of product over frames of softmax(y)[symbol]

An alignment has a symbol a frame, a label or the blank (0); repeats drop out first, then blanks, and what is left must
be the label string. The sum is Optax's; here are the frames, the padding and the refusals. Graves et al. 2006.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import LossError
from ..trial import FrameTrial, Trial
from .loss import Sequence

BLANK = 0


class CTC(Sequence):
    """Connectionist temporal classification, by the name "ctc". Offline only: it needs the whole sequence at once.

    Targets are label strings (labels, batch): integers from 1 to outputs - 1, each string padded with 0 at its end.
    Output 0 stands for the blank. In a `FrameTrial` the outputs of a frame's steps are averaged first; in any other
    trial every step is a frame. `lengths` count; `mask` does not.

    A string that does not fit into its frames (labels, and one more frame for every label that repeats the one before)
    has no alignment; its loss is about 1e5 and its gradient says nothing.

    Args:
        reduction: "mean" over trials, or "sum".
        scale: multiplies the result.

    Raises:
        LossError: targets are no label strings (when the loss is taken).

    Source: Graves et al. 2006; `optax.ctc_loss`.
    """

    def __init__(self, *, reduction: str = "mean", scale: float = 1.0) -> None:
        self.function = ctc
        self.reduction = reduction
        self.scale = scale


def ctc(outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, " batch"]:
    """-log probability of every trial's label string, in nats."""
    import optax  # slow to import, and no other loss needs it

    check_strings(trial.targets, trial.batch)
    frames, valid = outputs, trial.valid()
    if isinstance(trial, FrameTrial):
        frames, valid = trial.by_frame(outputs), trial.valid_frames()
    labels = trial.targets.T.astype(jnp.int32)
    logits = jnp.swapaxes(frames, 0, 1)
    # Optax broadcasts ranks and mixes a float32 constant into double precision.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        loss = optax.ctc_loss(logits, 1 - valid.T, labels, (labels == BLANK).astype(valid.dtype), blank_id=BLANK)
    return loss.astype(outputs.dtype)


def check_strings(targets: Any, batch: int) -> None:
    """Raise a LossError unless `targets` are label strings of `batch` trials."""
    shape, dtype = jnp.shape(targets), getattr(targets, "dtype", None)
    if dtype is None or len(shape) != 2 or shape[1] != batch or not jnp.issubdtype(dtype, jnp.integer):
        raise LossError(
            f"ctc needs label strings as targets, integers of shape (labels, {batch}) padded with 0, got "
            f"{'nothing' if targets is None else f'{dtype}{list(shape)}'}."
        )
    if isinstance(targets, jax.core.Tracer):
        return
    labels = np.asarray(targets)
    if (labels < 0).any() or ((labels[:-1] == BLANK) & (labels[1:] != BLANK)).any():
        raise LossError("ctc needs label strings of integers from 1 on, padded with 0 at their end only.")
