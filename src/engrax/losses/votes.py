"""Votes: every step votes for classes by its softmax, and the sum of votes over time is what is classified.

E = -log softmax(sum over steps of softmax(y))[class]
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import LossError
from ..trial import Trial
from .loss import Sequence, cross_entropy


class Votes(Sequence):
    """Cross-entropy of the votes of all valid steps, by the name "cross_entropy_votes". Offline only.

    Targets are classes (batch,). No step's vote is larger than 1, so that none outvotes the others by its scale.

    Args:
        reduction: "mean" over trials, or "sum".
        scale: multiplies the result.

    Raises:
        LossError: targets are no classes, one a trial (when the loss is taken).

    Source: the program of Yin et al. 2021 for the Spiking Heidelberg Digits.
    """

    def __init__(self, *, reduction: str = "mean", scale: float = 1.0) -> None:
        self.function = votes
        self.reduction = reduction
        self.scale = scale


def votes(outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, " batch"]:
    """-log probability of every trial's class, in nats."""
    targets: Any = trial.targets
    if jnp.ndim(targets) != 1 or jnp.issubdtype(jnp.asarray(targets).dtype, jnp.floating):
        raise LossError(f"cross_entropy_votes needs integer classes of shape (batch,), got {jnp.shape(targets)}.")
    valid = trial.valid().astype(outputs.dtype)[..., None]
    # Padding may hold anything, even what is not a number.
    each = jax.nn.softmax(jnp.where(valid > 0, outputs, 0), axis=-1)
    return cross_entropy(jnp.sum(valid * each, axis=0), targets)
