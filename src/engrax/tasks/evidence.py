"""Accumulation of evidence: seven cues, left or right, a long silence, then: which side had more?

Bellec et al. 2020, Fig. 3, with the settings of the authors' program.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..errors import TaskError
from ..trial import Trial
from .drawn import DrawnTask
from .scoring import Decisions, step_weights, trial_accuracy, trial_decisions
from .settings import integer, number


def _longest(x: Any) -> int | None:
    return None if x is None else integer("longest_delay", 0)(x)


class Evidence(DrawnTask):
    """Cue accumulation. Metric: accuracy, of the largest output on average over the response window.

    Four groups of input units: left, right, recall, noise. Time runs in steps of 1 ms: for every cue a silence of
    `gap`, then `cue` ms in which the cue's side fires; then `delay`; then `recall` ms in which the recall group
    fires and the answer is asked. The noise group fires throughout. 7 (50 + 100) + 1050 + 150 = 2250 ms by default.

    Settings:
        cues: number of cues; odd, so that one side has more.
        cue, gap, delay, recall: durations in ms (whole).
        longest_delay: each trial draws its delay from `delay` to this, evenly, and begins with as much more silence as
            others wait longer, so that all answer at the same time; None: all wait for `delay`.
        group: input units a group.
        rate, noise: firing rates in Hz of a group that is on and of the noise group.
        probability: of a cue to the minority side; every trial's favoured side is chosen evenly and its cues are
            drawn independently. The answer is the side of most cues, whatever the side favoured.
        trials, validation_trials, seed: see `DrawnTask`.

    Trials: inputs (time, batch, 4 group), spikes 0 or 1; targets (time, batch), 0 left or 1 right at every step; mask
    (time, batch), 1 in the response window. `sample` draws new trials at every key.

    Raises:
        TaskError: a setting has an impossible value.
    """

    name: ClassVar[str] = "evidence"

    cues: int = eqx.field(static=True, default=7, converter=integer("cues", 1))
    cue: int = eqx.field(static=True, default=100, converter=integer("cue", 1))
    gap: int = eqx.field(static=True, default=50, converter=integer("gap", 0))
    delay: int = eqx.field(static=True, default=1050, converter=integer("delay", 0))
    recall: int = eqx.field(static=True, default=150, converter=integer("recall", 1))
    longest_delay: int | None = eqx.field(static=True, default=None, converter=_longest)
    group: int = eqx.field(static=True, default=10, converter=integer("group", 1))
    rate: float = eqx.field(static=True, default=40.0, converter=number("rate", 0.0, 1000.0, exclusive=True))
    noise: float = eqx.field(static=True, default=10.0, converter=number("noise", 0.0, 1000.0))
    probability: float = eqx.field(static=True, default=0.3, converter=number("probability", 0.0, 0.5))

    def __check_init__(self) -> None:
        if self.cues % 2 == 0:
            raise TaskError(f"cues must be odd, so that one side has more, got {self.cues}.")
        if self.longest_delay is not None and self.longest_delay < self.delay:
            raise TaskError(f"longest_delay must be at least delay, {self.delay} ms, got {self.longest_delay}.")

    @property
    def input_size(self) -> int:
        return 4 * self.group

    @property
    def output_size(self) -> int:
        return 2

    @property
    def dt(self) -> float:
        return 1.0

    @property
    def steps(self) -> int:
        """Steps of a trial."""
        delay = self.delay if self.longest_delay is None else self.longest_delay
        return self.cues * (self.gap + self.cue) + delay + self.recall

    def probabilities(
        self, cues: Int[ArrayLike, "batch cues"], delays: Int[ArrayLike, " batch"] | None = None
    ) -> Float[Array, "time batch units"]:
        """Probability of a spike of each input unit at each step, given the side of each cue.

        Args:
            cues: 0 (left) or 1 (right).
            delays: in ms, from `delay` to `longest_delay`; None: the longest.
        """
        waits = None if delays is None else jnp.asarray(delays)
        active = self._active(self._sides(cues), waits).astype(jnp.result_type(float)) * (self.rate / 1000.0)
        noise = jnp.full((self.steps, active.shape[1], 1), self.noise / 1000.0, active.dtype)
        return jnp.repeat(jnp.concatenate([active, noise], axis=-1), self.group, axis=-1)

    def trial(self, cues: Int[ArrayLike, "batch cues"], spikes: ArrayLike) -> Trial:
        """The trial with these cues and input spikes, for instance those of another program.

        Args:
            cues: 0 (left) or 1 (right), (batch, cues).
            spikes: 0 or 1, (time, batch, 4 group).

        Raises:
            TaskError: a shape does not fit the settings, or a cue is neither 0 nor 1.
        """
        sides = self._sides(cues)
        inputs = jnp.asarray(spikes).astype(jnp.result_type(float))
        expected = (self.steps, sides.shape[0], self.input_size)
        if inputs.shape != expected:
            raise TaskError(f"spikes must have shape {expected} (time, batch, units), got {inputs.shape}.")
        answer = (jnp.sum(sides, axis=1, dtype=jnp.int32) > self.cues // 2).astype(jnp.int32)
        shape = (self.steps, sides.shape[0])
        window = (np.arange(self.steps) >= self.steps - self.recall).astype(inputs.dtype)[:, None]
        return Trial(inputs, jnp.broadcast_to(answer[None, :], shape), jnp.broadcast_to(window, shape))

    def draw(self, keys: Array) -> Trial:
        """A trial for each key."""

        # All of a trial's random numbers in one call, because the generator's code is what takes long to compile.
        size = 1 + self.cues + self.steps * 2 * self.group
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (size,)))(keys)
        favoured, cues, rest = jnp.split(uniform, [1, 1 + self.cues], axis=1)
        share = jnp.where(favoured < 0.5, self.probability, 1.0 - self.probability)
        sides = (cues < share).astype(jnp.int32)
        # At most one of left, right and recall is on at a step, so one stream of spikes serves the three.
        rest = jnp.swapaxes(rest.reshape(-1, self.steps, 2, self.group), 0, 1)
        stream, background = rest[:, :, 0] < self.rate / 1000.0, rest[:, :, 1] < self.noise / 1000.0
        delays = None
        if self.longest_delay is not None:
            draw = lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), self.delay, self.longest_delay + 1)
            delays = jax.vmap(draw)(keys)
        groups = self._active(sides, delays)[..., None] & stream[:, :, None, :]
        spikes = jnp.concatenate([groups, background[:, :, None, :]], axis=2)
        return self.trial(sides, spikes.reshape(self.steps, keys.shape[0], self.input_size))

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of right decisions by the mean of the outputs over the response window."""
        return trial_accuracy(outputs, trial.targets[-1], step_weights(trial))

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One decision a trial, as `score` takes it."""
        return trial_decisions(outputs, trial.targets[-1], step_weights(trial))

    def _sides(self, cues: ArrayLike) -> Int[Array, "batch cues"]:
        sides = jnp.asarray(cues)
        if sides.ndim != 2 or sides.shape[1] != self.cues or not jnp.issubdtype(sides.dtype, jnp.integer):
            raise TaskError(f"cues must be integers of shape (batch, {self.cues}), got {sides.dtype} {sides.shape}.")
        if not isinstance(sides, jax.core.Tracer) and not bool(jnp.all((sides == 0) | (sides == 1))):
            raise TaskError("cues must be 0 (left) or 1 (right).")
        return sides

    def _active(self, sides: Int[Array, "batch cues"], delays: Int[Array, " batch"] | None = None) -> Array:
        """Whether the left, right and recall groups are on: (time, batch, 3)."""
        period, step = self.gap + self.cue, jnp.arange(self.steps, dtype=jnp.int32)[:, None]
        recalled = jnp.broadcast_to(step >= self.steps - self.recall, (self.steps, sides.shape[0]))
        if delays is not None:
            step = step - (self.steps - self.recall - self.cues * period - delays.astype(jnp.int32))[None, :]
        index = step // period
        cued = (step >= 0) & (index < self.cues) & (step % period >= self.gap)
        index = jnp.broadcast_to(jnp.clip(index, 0, self.cues - 1), recalled.shape)
        side = jnp.take_along_axis(sides.T, index, axis=0)
        return jnp.stack([cued & (side == 0), cued & (side == 1), recalled], axis=-1)
