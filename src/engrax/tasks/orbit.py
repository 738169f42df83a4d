"""Orbits in the plane that a network without inputs must come to and keep: Pearlmutter 1989's circle and figure eight.

Until `start` there is no target; from then on the two outputs go round, a turn in `period`, until `horizon`:

    circle:  1/2 - radius cos p, 1/2 + radius sin p          p = 2 pi (t - start) / period
    eight:   1/2 + 0.3 sin p, 1/2 + 0.2 sin 2p               turned about (1/2, 1/2) by an angle that two inputs tell

Radius and amplitudes are not in the paper; these are ours.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import TaskError
from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, integer, number, word
from .task import Split, Task

RADIUS, WIDE, HIGH = 0.25, 0.3, 0.2


class Orbit(Task):
    """Two outputs on an orbit. Metric: loss, the mean squared error where there is a target.

    Settings:
        shape: "circle" or "eight".
        horizon: when a trial ends; `engrax.curriculum` lengthens it by and by.
        start: when the orbit begins; before, the network finds its way from where it is started.
        period: of a turn.
        angles: how many angles the figure is shown at in training, evenly spread over a turn; 1: it is not turned. Test
            trials are those half-way between.
        dt: length of a step, in the unit of the times above.

    Trials: inputs (time, batch, 2), cosine and sine of the angle, or (time, batch, 1) of zeros if it is not turned;
    targets (time, batch, 2), of which step k is due at time (k + 1) dt; mask (time, batch). `metrics` gives "rmse".

    Raises:
        TaskError: a setting has an impossible value.

    Source: Pearlmutter 1989, simulations; 1995, the rotated figure eight.
    """

    name: ClassVar[str] = "orbit"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    shape: str = eqx.field(static=True, default="circle", converter=word("shape", ("circle", "eight")))
    horizon: float = eqx.field(static=True, default=37.0, converter=number("horizon", 0.0, exclusive=True))
    start: float = eqx.field(static=True, default=5.0, converter=number("start", 0.0))
    period: float = eqx.field(static=True, default=16.0, converter=number("period", 0.0, exclusive=True))
    angles: int = eqx.field(static=True, default=1, converter=integer("angles", 1))
    dt: float = eqx.field(static=True, default=0.1, converter=number("dt", 0.0, exclusive=True))

    def __check_init__(self) -> None:
        if self.start >= self.horizon:
            raise TaskError(f"start must come before the horizon, {self.horizon:g}, got {self.start:g}.")

    @property
    def input_size(self) -> int:
        return 1 if self.angles == 1 else 2

    @property
    def output_size(self) -> int:
        return 2

    @property
    def times(self) -> Float[Array, " time"]:
        """When the outputs of the steps are due."""
        return self.dt * jnp.arange(1.0, round(self.horizon / self.dt) + 1.0)

    def place(self, time: Float[Array, "*any"], angle: Float[Array, ""] | float = 0.0) -> Float[Array, "*any 2"]:
        """Where the orbit is at a time, whether or not it has begun."""
        p = 2 * jnp.pi * (time - self.start) / self.period
        if self.shape == "circle":
            x, y = -RADIUS * jnp.cos(p), RADIUS * jnp.sin(p)
        else:
            x, y = WIDE * jnp.sin(p), HIGH * jnp.sin(2 * p)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return 0.5 + jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)

    def trial(self, angles: Float[Array, " batch"]) -> Trial:
        """A trial of each angle, in radians."""
        times = self.times
        targets = jax.vmap(lambda a: self.place(times, a), out_axes=1)(angles)
        told = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1) if self.angles > 1 else 0 * angles[:, None]
        inputs = jnp.broadcast_to(told, (len(times), *told.shape))
        # Times are sums of steps: half a step of doubt.
        mask = (times >= self.start - self.dt / 2).astype(targets.dtype)
        return Trial(inputs, targets, jnp.broadcast_to(mask[:, None], targets.shape[:2]))

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """Trials of angles that are shown in this split, drawn evenly.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        known = self._angles(check_split(split))
        return self.trial(known[jax.random.randint(key, (check_batch(batch),), 0, len(known))])

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """A trial of each angle.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        known, batch = self._angles(check_split(split)), check_batch(batch)
        return (self.trial(known[i : i + batch]) for i in range(0, len(known), batch))

    def _angles(self, split: Split) -> Float[Array, " angles"]:
        between = 0.5 if split == "test" and self.angles > 1 else 0.0
        return 2 * jnp.pi * (jnp.arange(float(self.angles)) + between) / self.angles

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over outputs, and steps that have a target."""
        return mean_squared_error(outputs, trial)

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """ "rmse": the root of the loss."""
        return {"rmse": jnp.sqrt(self.score(outputs, trial))}
