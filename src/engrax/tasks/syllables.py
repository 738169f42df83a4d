"""Reaches of a cursor, one for each of four tonic inputs, and sequences of them.

Murray 2019, Fig. 4: what a network learns before a loop through striatum puts it into order (`engrax.rl.SequenceLoop`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import TaskError
from ..trial import Trial
from .scoring import mean_squared_error
from .settings import check_batch, check_split, integer
from .task import Split, Task

# Right, up, left, down.
DIRECTIONS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


class Syllables(Task):
    """Move the cursor into the direction that a tonic input says, then hold it. Metric: loss.

    Settings:
        length: steps of a move, and of a hold.
        sequence: numbers of directions (right, up, left, down) to be made one after the other without being told:
            the only input is the first one's, during its move. None: single syllables.

    Trials: inputs (steps, batch, 4), 1 for the direction during the move; targets (steps, batch, 2), the cursor's
    velocity, a minimum-jerk profile of height 1 during the move and 0 during the hold. Single syllables start from a
    random place of a 3 x 3 board, which none of them leaves.

    Raises:
        TaskError: a setting has an impossible value.

    Source: Murray 2019: 20 time constants of 10 steps for move and hold each; profile, board and holds are ours.
    """

    name: ClassVar[str] = "syllables"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    length: int = eqx.field(static=True, default=200, converter=integer("length", 2))
    sequence: tuple[int, ...] | None = eqx.field(static=True, default=None, converter=lambda x: _sequence(x))

    @property
    def input_size(self) -> int:
        return 4

    @property
    def output_size(self) -> int:
        return 2

    @property
    def dt(self) -> float:
        return 1.0

    @property
    def profile(self) -> Float[Array, " time"]:
        """Speed during a move and the hold after it."""
        s = (jnp.arange(float(self.length)) + 0.5) / self.length
        return jnp.concatenate([16 * s**2 * (1 - s) ** 2, jnp.zeros(self.length)])

    def trial(self, directions: Int[Array, "moves batch"]) -> Trial:
        """Moves one after the other, of which the first alone is told."""
        moves, batch = directions.shape
        told = jax.nn.one_hot(directions[0], 4, dtype=jnp.result_type(float))
        inputs = jnp.zeros((moves * 2 * self.length, batch, 4), told.dtype).at[: self.length].set(told[None])
        velocity = self.profile[None, :, None, None] * jnp.asarray(DIRECTIONS, told.dtype)[directions][:, None]
        return Trial(inputs, velocity.reshape(-1, batch, 2))

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """Random syllables, or the sequence.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        size = check_batch(batch)
        if self.sequence is not None:
            return self.trial(jnp.broadcast_to(jnp.asarray(self.sequence)[:, None], (len(self.sequence), size)))
        here, there = jax.random.split(key)
        places = jax.random.randint(here, (size, 2), -1, 2)
        after = places[:, None] + jnp.asarray(DIRECTIONS, jnp.int32)[None]
        inside = jnp.all(jnp.abs(after) <= 1, axis=-1)
        chosen = jax.random.categorical(there, jnp.where(inside, 0.0, -jnp.inf).astype(jnp.result_type(float)), axis=-1)
        return self.trial(chosen[None])

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """Each syllable once, or the sequence.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        check_split(split)
        size = check_batch(batch)
        all_of = np.arange(4)[None] if self.sequence is None else np.array(self.sequence)[:, None]
        for first in range(0, all_of.shape[1], size):
            yield self.trial(jnp.asarray(all_of[:, first : first + size]))

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over time, batch and outputs."""
        return mean_squared_error(outputs, trial)


def _sequence(x: Any) -> tuple[int, ...] | None:
    if x is None:
        return None
    if isinstance(x, str) or not isinstance(x, Sequence) or not x:
        raise TaskError(f"sequence must be a list of directions from 0 to 3, got {x!r}.")
    chosen = tuple(integer("sequence", 0, 3)(i) for i in x)
    place = np.zeros(2)
    for i in chosen:
        place = place + DIRECTIONS[i]
        if np.abs(place).max() > 1:
            raise TaskError(f"sequence leaves the board, which reaches from -1 to 1: {list(chosen)} comes to {place}.")
    return chosen
