"""A coin's probability that depends on two symbols of the past, as a stream without trials: how far back a rule learns.

    P(y = 1 at t) = 1/2 + x(t - first)/2 - x(t - second)/4,    x fair coins

Marschall, Cho and Savin 2020. Three entropies tell what a network has found out (`floors`).
"""

from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import TaskError
from ..losses.loss import soft_cross_entropy
from ..trial import Trial
from .drawn import DrawnTask
from .settings import integer


class Floors(NamedTuple):
    """The least cross-entropy in nats: of who remembers nothing, the symbol `first` back alone, and both."""

    nothing: float
    first: float
    both: float


class Add(DrawnTask):
    """Two inputs (x, 1 - x), two outputs whose softmax is to be (y, 1 - y). Metric: loss, the cross-entropy in nats.

    Settings:
        steps: of a trial, which is a piece of a stream in its stride: what lies before it counts, too.
        first, second: symbols back of the two that matter, second > first.
        hold: steps that a symbol stays.
        trials, validation_trials, seed: see `DrawnTask`.

    Trials: inputs (time, batch, 2); targets (time, batch, 2), probabilities: for the loss "soft_cross_entropy".

    Raises:
        TaskError: a setting has an impossible value.

    Source: Marschall, Cho and Savin 2020, and the authors' program: (5, 9) without hold, (2, 4) with a hold of 2.
    """

    name: ClassVar[str] = "add"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    steps: int = eqx.field(static=True, default=1000, converter=integer("steps", 1))
    first: int = eqx.field(static=True, default=5, converter=integer("first", 1))
    second: int = eqx.field(static=True, default=9, converter=integer("second", 2))
    hold: int = eqx.field(static=True, default=1, converter=integer("hold", 1))
    trials: int = eqx.field(static=True, default=10, converter=integer("trials", 1), kw_only=True)
    validation_trials: int = eqx.field(static=True, default=10, converter=integer("validation_trials", 1), kw_only=True)

    def __check_init__(self) -> None:
        if self.second <= self.first:
            raise TaskError(f"second must lie further back than first, {self.first} symbols, got {self.second}.")

    @property
    def input_size(self) -> int:
        return 2

    @property
    def output_size(self) -> int:
        return 2

    @property
    def dt(self) -> float:
        return 1.0

    @property
    def floors(self) -> Floors:
        """The three entropies, in nats."""
        x, other = np.array([0.0, 1.0]), np.array([0.0, 1.0])[:, None]
        p = 0.5 + x / 2 - other / 4
        levels = (_entropy(p.mean()), _entropy(p.mean(0)).mean(), _entropy(p).mean())
        return Floors(*(float(level) for level in levels))

    def draw(self, keys: Array) -> Trial:
        """A piece of a stream for each key."""
        symbols = -(-self.steps // self.hold)
        drawn = jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, (self.second + symbols,)), out_axes=1)(keys)
        x = drawn.astype(jnp.result_type(float))
        here, near, far = x[self.second :], x[self.second - self.first : -self.first], x[: -self.second]
        y = 0.5 + near / 2 - far / 4
        pairs = jnp.stack([jnp.stack([p, 1 - p], axis=-1) for p in (here, y)])
        inputs, targets = jnp.repeat(pairs, self.hold, axis=1)[:, : self.steps]
        return Trial(inputs, targets)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean cross-entropy over steps and trials, in nats."""
        return jnp.mean(jax.vmap(soft_cross_entropy)(outputs, trial.targets))


def _entropy(p: np.ndarray | np.floating) -> Any:
    """Of a coin, in nats."""
    q = np.stack([p, 1 - p])
    return -np.sum(np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0), axis=0)
