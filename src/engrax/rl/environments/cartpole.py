"""Cart-pole: a cart is pushed left or right so that the pole on it stays up."""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ...encoders import PopulationCode
from ...tasks.settings import integer, number
from ..actions import Discrete
from ..environment import Environment

GRAVITY, CART, POLE, HALF, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
WIDEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360


class CartPole(Environment):
    """Cart and pole of Barto, Sutton & Anderson (1983), with Gymnasium's constants (CartPole-v1).

    Observation: position (m), velocity, angle (rad), angular velocity, in a Gaussian population code. Actions: left,
    right, 10 N. Reward: 1 an action. Over when the cart is 2.4 m or the pole 12 degrees from the middle; cut off after
    `length` actions: 500 is the best return.

    Settings:
        length: the most actions.
        units: input units for each number. intensity: the current that the best-placed causes through a weight of 1.
        hold: the network's steps of 1 ms an action.
    """

    name: ClassVar[str] = "cartpole"

    length: int = eqx.field(static=True, default=500, converter=integer("length", 1))
    units: int = eqx.field(static=True, default=15, converter=integer("units", 2))
    intensity: float = eqx.field(static=True, default=1.0, converter=number("intensity", 0.0, exclusive=True))
    hold: int = eqx.field(static=True, default=10, converter=integer("hold", 1))

    @property
    def code(self) -> PopulationCode:
        """Of the four numbers."""
        return PopulationCode((-2.4, -3.0, -STEEPEST, -3.0), (2.4, 3.0, STEEPEST, 3.0), self.units)

    @property
    def dt(self) -> float:
        """1 ms."""
        return 1.0

    @property
    def input_size(self) -> int:
        """Four numbers' units."""
        return 4 * self.units

    @property
    def actions(self) -> Discrete:
        """Left, right."""
        return Discrete(2)

    def reset(self, key: PRNGKeyArray) -> tuple[Float[Array, "4"], Float[Array, "4"]]:
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, state

    def step(
        self, state: Float[Array, "4"], action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Float[Array, "4"], Float[Array, "4"], Float[Array, ""], Bool[Array, ""]]:
        _, speed, angle, turning = state
        force = jnp.where(action == 1, FORCE, -FORCE)
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        pushed = (force + POLE * HALF * turning**2 * sine) / (CART + POLE)
        bent = (GRAVITY * sine - cosine * pushed) / (HALF * (4 / 3 - POLE * cosine**2 / (CART + POLE)))
        moved = pushed - POLE * HALF * bent * cosine / (CART + POLE)
        new = state + SECONDS * jnp.stack([speed, moved, turning, bent])
        over = (jnp.abs(new[0]) > WIDEST) | (jnp.abs(new[2]) > STEEPEST)
        return new, new, jnp.ones(()), over

    def draw(self, axis: Any, state: Any, observation: Any) -> None:
        """Cart and pole from the side; lengths in metres."""
        place, angle = float(observation[0]), float(observation[2])
        axis.plot([-WIDEST, WIDEST], [0, 0], color="#666666", linewidth=1)
        axis.plot([place - 0.25, place + 0.25], [0, 0], color="#0072B2", linewidth=12, solid_capstyle="butt")
        tip = (place + 2 * HALF * math.sin(angle), 2 * HALF * math.cos(angle))
        axis.plot([place, tip[0]], [0.05, tip[1]], color="#D55E00", linewidth=5, solid_capstyle="round")
        axis.set(xlim=(-WIDEST - 0.2, WIDEST + 0.2), ylim=(-0.5, 1.8), aspect="equal", xticks=[-2, 0, 2], yticks=[])
        axis.set_xlabel("position (m)")

    def encode(self, observation: Float[Array, "4"], key: PRNGKeyArray) -> Float[Array, "hold inputs"]:
        """The population code, all the time."""
        return jnp.broadcast_to(self.intensity * self.code(observation), (self.hold, self.input_size))
