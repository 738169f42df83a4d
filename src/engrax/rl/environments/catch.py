"""Catch: a ball falls through a picture, a paddle moves below it."""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ...tasks.settings import integer, number
from ..actions import Discrete
from ..environment import Environment


class CatchState(NamedTuple):
    """Where ball and paddle are."""

    row: Int[Array, ""]
    column: Int[Array, ""]
    paddle: Int[Array, ""]


class Catch(Environment):
    """A ball starts in a random column of the top row and falls a row an action; the paddle starts in the middle.

    Observation: the picture, (rows, columns) of 0 and `brightness`. Actions: left, stay, right. Reward: 1 where the
    paddle is under the ball when it has come to the bottom row, else -1; nothing before. A perfect player returns 1,
    one that does not move 2 / columns - 1.

    Settings:
        rows, columns: of the picture; with more columns than about twice the rows some balls are out of reach.
        brightness: of ball and paddle: the current they cause through a weight of 1.
        hold: the network's steps of 1 ms an action.

    Source: Mnih et al. 2014 (recurrent models of visual attention); as here, Osband et al. 2020 (bsuite).
    """

    name: ClassVar[str] = "catch"

    rows: int = eqx.field(static=True, default=10, converter=integer("rows", 2))
    columns: int = eqx.field(static=True, default=10, converter=integer("columns", 2))
    brightness: float = eqx.field(static=True, default=1.0, converter=number("brightness", 0.0, exclusive=True))
    hold: int = eqx.field(static=True, default=10, converter=integer("hold", 1))

    @property
    def dt(self) -> float:
        """1 ms."""
        return 1.0

    @property
    def input_size(self) -> int:
        """Pixels."""
        return self.rows * self.columns

    @property
    def actions(self) -> Discrete:
        """Left, stay, right."""
        return Discrete(3)

    @property
    def length(self) -> int:
        """Actions until the ball is down."""
        return self.rows - 1

    def reset(self, key: PRNGKeyArray) -> tuple[CatchState, Float[Array, "rows columns"]]:
        column = jax.random.randint(key, (), 0, self.columns)
        state = CatchState(jnp.zeros_like(column), column, jnp.full_like(column, self.columns // 2))
        return state, self._picture(state)

    def step(
        self, state: CatchState, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[CatchState, Float[Array, "rows columns"], Float[Array, ""], Bool[Array, ""]]:
        paddle = jnp.clip(state.paddle + action.astype(state.paddle.dtype) - 1, 0, self.columns - 1)
        new = CatchState(state.row + 1, state.column, paddle)
        over = new.row >= self.rows - 1
        reward = jnp.where(over, jnp.where(new.paddle == new.column, 1.0, -1.0), 0.0)
        return new, self._picture(new), reward, over

    def _picture(self, state: CatchState) -> Float[Array, "rows columns"]:
        blank = jnp.zeros((self.rows, self.columns))
        return blank.at[state.row, state.column].set(self.brightness).at[-1, state.paddle].set(self.brightness)
