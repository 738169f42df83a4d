"""To do as another network does: noise goes into a fixed random network, whose outputs are the targets, as a stream.

    a(t) = (1 - leak) a(t-1) + leak tanh(W a(t-1) + V x(t) + b),    z(t) = U a(t) + c

Marschall, Cho and Savin 2020.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..trial import Trial
from .drawn import DrawnTask
from .scoring import mean_squared_error
from .settings import integer, number

# Steps before a trial, in which the teacher forgets where it started.
BEFORE = 100


class Mimic(DrawnTask):
    """Coins in, the outputs of a fixed random network of tanh units wanted. Metric: loss, the mean squared error.

    Settings:
        steps: of a trial, which is a piece of a stream in its stride.
        inputs, units, outputs: of the teacher.
        leak: its step, 1 for units without memory of their own.
        hold: steps that an input stays.
        teacher: seed of its weights: orthogonal among the units, normal with variance 1 / inputs, 1 / units for the
            others, biases of standard deviation 0.1.
        trials, validation_trials, seed: see `DrawnTask`.

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
    trials: int = eqx.field(static=True, default=10, converter=integer("trials", 1), kw_only=True)
    validation_trials: int = eqx.field(static=True, default=10, converter=integer("validation_trials", 1), kw_only=True)

    @property
    def input_size(self) -> int:
        return self.inputs

    @property
    def output_size(self) -> int:
        return self.outputs

    @property
    def dt(self) -> float:
        return 1.0

    def draw(self, keys: Array) -> Trial:
        """A piece of a stream for each key."""
        symbols = -(-(self.steps + BEFORE) // self.hold)
        drawn = jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, (symbols, self.inputs)), out_axes=1)(keys)
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

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over steps, trials and outputs."""
        return mean_squared_error(outputs, trial)
