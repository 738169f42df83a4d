"""Losses, by what they need of time.

A *running* loss is a weighted sum of one number per step: a rule can use it as it goes. A *terminal* loss is a function
of a weighted sum of the outputs over time (their mean, last value, or a spike count): known at the trial's end.
A *sequence* loss needs the whole sequence at once and can only be used offline.

`mask` weights running losses only; means, counts and last steps use `lengths`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError, LossError, unknown
from ..trial import Trial

REDUCTIONS = ("mean", "sum")


def mean_squared_error(
    output: Float[Array, "batch outputs"], target: Float[Array, "batch outputs"]
) -> Float[Array, " batch"]:
    """mean_k (y_k - y*_k)^2, without a factor 1/2."""
    if target.ndim == output.ndim - 1:
        raise LossError(f"mse needs real targets of shape (time, batch, {output.shape[-1]}), got classes.")
    return jnp.mean(jnp.square(output - target.astype(output.dtype)), axis=-1)


def cross_entropy(output: Float[Array, "batch outputs"], target: Any) -> Float[Array, " batch"]:
    """-log softmax(y) at the target class."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(output), target[..., None].astype(jnp.int32), axis=-1)
    return -chosen[..., 0]


def soft_cross_entropy(
    output: Float[Array, "batch outputs"], target: Float[Array, "batch outputs"]
) -> Float[Array, " batch"]:
    """-sum_k p_k log softmax(y)_k, in nats, p the probabilities of the classes."""
    return -jnp.sum(target.astype(output.dtype) * jax.nn.log_softmax(output), axis=-1)


class Loss(eqx.Module):
    """Base of losses. `reduction` "mean" divides a running loss by the sum of its mask and a terminal one by the number
    of trials; "sum" does not. `scale` multiplies the result. `kind` says what it needs of time: "running", "terminal"
    or "sequence"."""

    kind: ClassVar[str] = "sequence"

    reduction: str = eqx.field(static=True, default="mean", kw_only=True)
    scale: float = eqx.field(static=True, default=1.0, kw_only=True, converter=lambda x: finite("scale", x))

    def __check_init__(self) -> None:
        if not isinstance(self.reduction, str) or self.reduction not in REDUCTIONS:
            raise ArgumentError(f"reduction must be 'mean' or 'sum', got {self.reduction!r}.")

    def value(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """The loss of a whole batch of trials."""
        raise TypeError(f"{type(self).__name__} must define value(outputs, trial).")


class Running(Loss):
    """sum over steps and trials of weight * function(output, target), weight = mask (1 without one) within each length.

    Args:
        function: (batch, outputs), target -> (batch,).
    """

    kind: ClassVar[str] = "running"

    function: Callable[[Array, Array], Array] = eqx.field(static=True)

    def weights(self, trial: Trial) -> Float[Array, "time batch ..."]:
        """The weight of every step, normalisation and scale included."""
        valid = trial.valid()
        if trial.mask is None:
            weights = valid
        else:
            mask = jnp.asarray(trial.mask).astype(valid.dtype)
            extra = mask.ndim - valid.ndim
            weights = mask * valid.reshape(valid.shape + (1,) * extra)
        if self.reduction == "mean":
            total = jnp.sum(weights)
            weights = weights / jnp.where(total > 0, total, 1)
        return self.scale * weights

    def step(
        self, output: Float[Array, "batch outputs"], target: Any, weight: Float[Array, "batch ..."]
    ) -> Float[Array, ""]:
        """One step's share of the loss."""
        if weight.ndim == 1:
            each = self.function(output, target)
            if each.shape != weight.shape:
                raise LossError(
                    f"a loss function must return one number a trial, shape {weight.shape}, got {each.shape}."
                )
            return jnp.sum(weight.astype(each.dtype) * each)
        if self.function is not mean_squared_error:
            raise LossError("a mask with an outputs axis needs the mse loss.")
        return jnp.sum(weight.astype(output.dtype) * jnp.square(output - target.astype(output.dtype)))

    def value(self, outputs: Array, trial: Trial) -> Array:
        return jnp.sum(jax.vmap(self.step)(outputs, trial.targets, self.weights(trial)))


class Terminal(Loss):
    """function(m, target) with m = sum over steps of weight * output: the mean, last or counted output of a trial.

    Args:
        function: (batch, outputs), target -> (batch,).
        over: "mean", "last" or "count".
    """

    kind: ClassVar[str] = "terminal"

    function: Callable[[Array, Array], Array] = eqx.field(static=True)
    over: str = eqx.field(static=True, default="mean")

    def weights(self, trial: Trial) -> Float[Array, "time batch"]:
        """The weight of every step in m."""
        valid = trial.valid()
        if self.over == "count":
            return valid
        if self.over == "mean":
            return valid / jnp.maximum(jnp.sum(valid, axis=0, keepdims=True), 1)
        lengths = jnp.full(trial.batch, trial.steps) if trial.lengths is None else trial.lengths
        return (jnp.arange(1, trial.steps + 1, dtype=lengths.dtype)[:, None] == lengths[None, :]).astype(valid.dtype)

    def final(self, total: Float[Array, "batch outputs"], targets: Any) -> Float[Array, ""]:
        """The loss of the weighted sums."""
        each = self.function(total, targets)
        return self.scale * (jnp.mean(each) if self.reduction == "mean" else jnp.sum(each))

    def value(self, outputs: Array, trial: Trial) -> Array:
        return self.final(jnp.einsum("tb,tbk->bk", self.weights(trial).astype(outputs.dtype), outputs), trial.targets)


class Sequence(Loss):
    """function(outputs, trial) -> (batch,): needs the whole sequence, so no online or chunked evaluation can use it."""

    function: Callable[[Array, Trial], Array] = eqx.field(static=True)

    def value(self, outputs: Array, trial: Trial) -> Array:
        each = self.function(outputs, trial)
        return self.scale * (jnp.mean(each) if self.reduction == "mean" else jnp.sum(each))


NAMES = (
    "mse",
    "cross_entropy",
    "cross_entropy_mean",
    "cross_entropy_last",
    "cross_entropy_count",
    "cross_entropy_votes",
    "soft_cross_entropy",
    "mse_mean",
    "mse_last",
    "ctc",
)


def check_loss(loss: Any) -> None:
    """Raise an ArgumentError unless `loss` is None, a name, a Loss or a function."""
    if isinstance(loss, str) and loss not in NAMES:
        raise unknown("loss", loss, NAMES)
    if not (loss is None or isinstance(loss, str | Loss) or callable(loss)):
        raise ArgumentError(
            f"loss must be a name ({', '.join(NAMES)}), a function (output, target) -> (batch,), or None."
        )


def as_loss(loss: Any, targets: Any, reduction: str = "mean", scale: float = 1.0) -> Loss:
    """The loss meant by a name, a function or, for None, by the targets.

    None: real targets, mean squared error per step; integer targets (time, batch), cross-entropy per step; integer
    targets (batch,), cross-entropy of the mean output.

    Args:
        loss: a name, a `Loss`, a function `f(output, target) -> (batch,)` of one step, or None.
        targets: the trial's targets.
        reduction, scale: as for `Loss`.

    Raises:
        LossError: there are no targets, or they do not fit the loss.
    """
    check_loss(loss)
    if isinstance(loss, Loss):
        return loss
    if targets is None:
        raise LossError("the trial has no targets.")
    integer = not jnp.issubdtype(jnp.asarray(targets).dtype, jnp.floating)
    ndim = jnp.ndim(targets)
    if loss is None:
        if not integer and ndim != 3:
            raise LossError(f"real targets must be (time, batch, outputs), got {ndim} axes; or name the loss.")
        if integer and ndim not in (1, 2):
            raise LossError(f"class targets must be (batch,) or (time, batch), got {ndim} axes.")
        loss = "mse" if not integer else ("cross_entropy" if ndim == 2 else "cross_entropy_mean")
    if isinstance(loss, str) and loss.startswith("cross_entropy"):
        if not integer:
            raise LossError(f"{loss} needs integer classes as targets.")
        expected = 2 if loss == "cross_entropy" else 1
        if ndim != expected:
            raise LossError(
                f"{loss} needs targets of shape {'(batch,)' if expected == 1 else '(time, batch)'}, got {ndim} axes."
            )
    if loss == "ctc" and (not integer or ndim != 2):
        raise LossError(f"ctc needs integer label strings of shape (labels, batch) as targets, got {ndim} axes.")
    if isinstance(loss, str) and loss.startswith(("mse", "soft")):
        expected = 3 if loss in ("mse", "soft_cross_entropy") else 2
        if integer or ndim != expected:
            shape = "(time, batch, outputs)" if expected == 3 else "(batch, outputs)"
            raise LossError(
                f"{loss} needs real targets of shape {shape}, got {'classes' if integer else f'{ndim} axes'}."
            )
    chosen = named(loss, reduction, scale)
    assert chosen is not None
    return chosen


def named(loss: Any, reduction: str = "mean", scale: float = 1.0) -> Loss | None:
    """The loss that a name or function of one step stands for, whatever the targets; None for None."""
    options: dict[str, Any] = {"reduction": reduction, "scale": scale}
    if loss is None:
        return None
    if not isinstance(loss, str):
        return Running(loss, **options)
    if loss == "ctc":
        from .ctc import CTC

        return CTC(**options)
    if loss == "cross_entropy_votes":
        from .votes import Votes

        return Votes(**options)
    kind, _, over = loss.rpartition("_") if loss.endswith(("_mean", "_last", "_count")) else (loss, "", "")
    function = {"mse": mean_squared_error, "soft_cross_entropy": soft_cross_entropy}.get(kind, cross_entropy)
    return Terminal(function, over, **options) if over else Running(function, **options)
