"""Delayed reaching: a place is shown, and after a while an arm of two joints is to go there from memory."""

import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ...encoders import PopulationCode
from ...tasks.settings import integer, number
from ..actions import Continuous
from ..environment import Environment

LINK, HOME, FAR = 0.5, (0.6, 1.8), 0.35


class ArmState(NamedTuple):
    """Joint angles (rad), the place (m), and how many actions were taken."""

    angles: Float[Array, "2"]
    place: Float[Array, "2"]
    taken: Int[Array, ""]


def tip(angles: Float[Array, "2"]) -> Float[Array, "2"]:
    """Where the arm ends, m: two links of 0.5 m, the second's angle relative to the first."""
    first, both = angles[0], angles[0] + angles[1]
    return LINK * jnp.stack([jnp.cos(first) + jnp.cos(both), jnp.sin(first) + jnp.sin(both)])


class Reaching(Environment):
    """A place on a circle of 0.35 m around the tip's rest is shown, then hidden; at the go the tip is to reach it.

    Actions: angular velocities of shoulder and elbow, limited to 1 and multiplied by `speed`; they move the arm after
    the go alone, and credit is given for those alone. Reward: what each action took off the distance to the place, in
    circle radii, and 1 more for arriving within `radius`, which ends the episode. A perfect return is 2 less
    radius / 0.35.

    The network is given population codes of the place while it is shown (zeros later), of both joint angles, and two
    units for "wait" and "go".

    Settings:
        places: how many there are, evenly spaced.
        cue, delay, move: actions while it is shown, while it is hidden, and at the most after the go.
        speed: rad an action. radius: m. spread: standard deviation of actions.
        units: input units a number. intensity: the current that the best-placed causes through a weight of 1.
        hold: the network's steps of 1 ms an action.

    `metrics` gives "arrived", the share of episodes in which the tip arrived.

    Source: delayed reaching by reward-based e-prop, Subramoney et al. 2019 (abstract). Its settings are not known;
    these are ours.
    """

    name: ClassVar[str] = "reaching"

    places: int = eqx.field(static=True, default=8, converter=integer("places", 2))
    cue: int = eqx.field(static=True, default=10, converter=integer("cue", 1))
    delay: int = eqx.field(static=True, default=10, converter=integer("delay", 0))
    move: int = eqx.field(static=True, default=30, converter=integer("move", 1))
    speed: float = eqx.field(static=True, default=0.1, converter=number("speed", 0.0, exclusive=True))
    radius: float = eqx.field(static=True, default=0.07, converter=number("radius", 0.0, FAR, exclusive=True))
    spread: float = eqx.field(static=True, default=0.3, converter=number("spread", 0.0, exclusive=True))
    units: int = eqx.field(static=True, default=10, converter=integer("units", 2))
    intensity: float = eqx.field(static=True, default=2.0, converter=number("intensity", 0.0, exclusive=True))
    hold: int = eqx.field(static=True, default=10, converter=integer("hold", 1))

    @property
    def dt(self) -> float:
        """1 ms."""
        return 1.0

    @property
    def code(self) -> PopulationCode:
        """Of the place's two coordinates and the two angles."""
        # By math: under jit `tip` gives no numbers.
        shoulder, both = HOME[0], sum(HOME)
        middle = [LINK * (f(shoulder) + f(both)) for f in (math.cos, math.sin)]
        low, high = ([x + side * 1.2 * FAR for x in middle] for side in (-1, 1))
        return PopulationCode((*low, -1.0, 0.2), (*high, 2.2, 3.0), self.units)

    @property
    def input_size(self) -> int:
        """Codes of four numbers, and two units for wait and go."""
        return 4 * self.units + 2

    @property
    def actions(self) -> Continuous:
        """Angular velocities of shoulder and elbow."""
        return Continuous(2, self.spread, -1.0, 1.0)

    @property
    def length(self) -> int:
        """Actions at the most."""
        return self.cue + self.delay + self.move

    def reset(self, key: PRNGKeyArray) -> tuple[ArmState, Float[Array, "7"]]:
        home = jnp.asarray(HOME)
        turn = (2 * jnp.pi / self.places) * jax.random.randint(key, (), 0, self.places).astype(home.dtype)
        place = tip(home) + FAR * jnp.stack([jnp.cos(turn), jnp.sin(turn)])
        state = ArmState(home, place, jnp.zeros((), jnp.int32))
        return state, self._seen(state)

    def step(
        self, state: ArmState, action: Float[Array, "2"], key: PRNGKeyArray
    ) -> tuple[ArmState, Float[Array, "7"], Float[Array, ""], Bool[Array, ""]]:
        go = state.taken >= self.cue + self.delay
        angles = state.angles + jnp.where(go, self.speed, 0.0) * jnp.clip(action, -1.0, 1.0)
        new = ArmState(angles, state.place, state.taken + 1)
        before, after = (jnp.linalg.norm(tip(s.angles) - s.place) for s in (state, new))
        there = go & (after <= self.radius)
        reward = (before - after) / FAR + jnp.where(there, 1.0, 0.0)
        return new, self._seen(new), reward, there | (new.taken == self.length)

    def asks(self, state: ArmState) -> Bool[Array, ""]:
        """After the go."""
        return state.taken >= self.cue + self.delay

    def _seen(self, state: ArmState) -> Float[Array, "7"]:
        """The place, the angles, and whether it is shown, to wait, to go."""
        shown, go = state.taken < self.cue, state.taken >= self.cue + self.delay
        flags = jnp.stack([shown, ~go, go]).astype(state.angles.dtype)
        return jnp.concatenate([state.place, state.angles, flags])

    def draw(self, axis: Any, state: Any, observation: Any) -> None:
        """The arm, the place (hollow while it is hidden); lengths in metres."""
        first, end = float(state.angles[0]), np.asarray(tip(state.angles))
        elbow = (LINK * math.cos(first), LINK * math.sin(first))
        axis.plot([0, elbow[0], end[0]], [0, elbow[1], end[1]], "o-", color="#0072B2", linewidth=6, markersize=9)
        filled = "#D55E00" if observation[4] else "none"
        axis.plot(*state.place, "o", markersize=16, markeredgecolor="#D55E00", markerfacecolor=filled)
        axis.set(xlim=(-0.6, 1.1), ylim=(-0.2, 1.2), aspect="equal", xlabel="x (m)", ylabel="y (m)")

    def encode(self, observation: Float[Array, "7"], key: PRNGKeyArray) -> Float[Array, "hold inputs"]:
        """Population codes and flags, all the time."""
        codes = self.code(observation[:4])
        half = 2 * self.units
        x = jnp.concatenate([observation[4] * codes[:half], codes[half:], observation[5:]])
        return jnp.broadcast_to(self.intensity * x, (self.hold, self.input_size))

    def metrics(self, outputs: Any, trial: Any) -> dict[str, Array | tuple[Array, Array]]:
        return {"arrived": jnp.mean((jnp.max(trial.rewards, axis=0) > 1).astype(trial.rewards.dtype))}
