"""To do as another network does: noise goes into a fixed random network, whose outputs are the targets, as a stream.

    a(t) = (1 - leak) a(t-1) + leak tanh(W a(t-1) + V x(t) + b),    z(t) = U a(t) + c

Marschall, Cho and Savin 2020.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, integer, number
from .task import Split, Task

TESTED = 10000
# Steps before a trial, in which the teacher forgets where it started.
BEFORE = 100


class Mimic(Task):
    """Coins in, the outputs of a fixed random network of tanh units wanted. Metric: loss, the mean squared error.

    Settings:
        steps: of a trial, which is a piece of a stream in its stride.
        inputs, units, outputs: of the teacher.
        leak: its step, 1 for units without memory of their own.
        hold: steps that an input stays.
        teacher: seed of its weights: orthogonal among the units, normal with variance 1 / inputs, 1 / units for the
            others, biases of standard deviation 0.1.

    Trials: inputs (time, batch, inputs), 0 or 1; targets (time, batch, outputs).

    Raises:
        TaskError: a setting has an impossible value.

    Source: Marschall, Cho and Savin 2020, and the authors' program: 32 of everything.
    """

    name: ClassVar[str] = "mimic"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    steps: int = eqx.field(static=True, default=1000, converter=integer("steps", 1))
    inputs: int = eqx.field(static=True, default=32, converter=integer("inputs", 1))
    units: int = eqx.field(static=True, default=32, converter=integer("units", 1))
    outputs: int = eqx.field(static=True, default=32, converter=integer("outputs", 1))
    leak: float = eqx.field(static=True, default=1.0, converter=number("leak", 0, 1, exclusive=True))
    hold: int = eqx.field(static=True, default=1, converter=integer("hold", 1))
    teacher: int = eqx.field(static=True, default=0, converter=integer("teacher", 0))

    @property
    def input_size(self) -> int:
        return self.inputs

    @property
    def output_size(self) -> int:
        return self.outputs

    @property
    def dt(self) -> float:
        return 1.0

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """Random pieces of a stream.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        symbols = -(-(self.steps + BEFORE) // self.hold)
        drawn = jax.random.bernoulli(key, 0.5, (symbols, check_batch(batch), self.inputs))
        x = jnp.repeat(drawn.astype(jnp.result_type(float)), self.hold, axis=0)[: self.steps + BEFORE]
        return Trial(x[BEFORE:], self.answer(x)[BEFORE:])

    def answer(self, x: Float[Array, "time batch inputs"]) -> Float[Array, "time batch outputs"]:
        """The teacher's outputs, from rest."""
        keys = jax.random.split(jax.random.key(self.teacher), 5)
        n, dtype = self.units, x.dtype
        recurrent = jax.random.orthogonal(keys[0], n, dtype=dtype)
        entering = jax.random.normal(keys[1], (n, self.inputs), dtype) / self.inputs**0.5
        leaving = jax.random.normal(keys[2], (self.outputs, n), dtype) / n**0.5
        bias = 0.1 * jax.random.normal(keys[3], (n,), dtype)
        offset = 0.1 * jax.random.normal(keys[4], (self.outputs,), dtype)

        def step(a: Array, x: Array) -> tuple[Array, Array]:
            current = a @ recurrent.T + x @ entering.T + bias[None]
            a = (1 - self.leak) * a + self.leak * jnp.tanh(current)
            return a, a

        _, rates = jax.lax.scan(step, jnp.zeros((x.shape[1], n), dtype), x)
        return rates @ leaving.T + offset[None, None]

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """About 10000 steps that are always the same.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        check_batch(batch)
        key = jax.random.fold_in(jax.random.key(2020), ("train", "validation", "test").index(split))
        left = max(1, TESTED // self.steps)
        for i in range(-(-left // batch)):
            yield self.sample(jax.random.fold_in(key, i), min(batch, left - i * batch), split)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over steps, trials and outputs."""
        return mean_squared_error(outputs, trial)
