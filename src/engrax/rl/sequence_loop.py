"""An auxiliary loop that puts learnt movements into order: gated striatal units, a winner, reward-modulated Hebb.

    network -- at the end of a movement --> striatal units -- the winner --> next tonic input of the network

(Murray 2019, Fig. 4.) The network makes a movement for each of its tonic inputs and learns no more; all that learns is
the map from its state at a movement's end to the next movement.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._checks import finite
from ..errors import ArgumentError


class SequenceLoop(eqx.Module):
    """Striatal units, one for each movement.

    Args:
        weight: (movements, units), from the network's units.
        rate: learning rate.
        explore: probability of a random movement in place of the winner.

    z = W h is read at the end of a movement only; the largest allowed z wins. After a transition with reward R the
    winner, whose activity is 1 and that of the others 0, learns by reward-modulated Hebb, dW(i, j) = rate R z(i) h(j),
    and rows keep their length, since reward alone potentiates.

    Source: Murray 2019; rate, initial weights and normalisation are ours, the paper does not say.
    """

    weight: Float[Array, "movements units"]
    rate: float = eqx.field(static=True, default=0.01)
    explore: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        finite("rate", self.rate, 0, exclusive=True)
        if not 0 <= self.explore <= 1:
            raise ArgumentError(f"explore must be a probability, got {self.explore!r}.")

    @staticmethod
    def draw(movements: int, units: int, key: PRNGKeyArray, rate: float = 0.01, explore: float = 0.1) -> "SequenceLoop":
        """One with normal weights, rows of length about 1."""
        return SequenceLoop(jax.random.normal(key, (movements, units)) / units**0.5, rate, explore)

    def choose(
        self, state: Float[Array, " units"], allowed: Bool[Array, " movements"], key: PRNGKeyArray | None = None
    ) -> Int[Array, ""]:
        """The next movement; with a key, sometimes a random one of those allowed."""
        winner = jnp.argmax(jnp.where(allowed, self.weight @ state, -jnp.inf))
        if key is None:
            return winner
        when, which = jax.random.split(key)
        odds = jnp.where(allowed, 0.0, -jnp.inf).astype(self.weight.dtype)
        return jnp.where(jax.random.bernoulli(when, self.explore), jax.random.categorical(which, odds), winner)

    def learn(self, state: Float[Array, " units"], chosen: Int[Array, ""], reward: Float[Array, ""]) -> "SequenceLoop":
        """After a transition from `state` to a movement."""
        moved = self.weight.at[chosen].add(self.rate * reward * state)
        before, after = (jnp.linalg.norm(w, axis=1, keepdims=True) for w in (self.weight, moved))
        return eqx.tree_at(lambda loop: loop.weight, self, moved * (before / after))


class Learnt(NamedTuple):
    """A loop after learning, and the share of right transitions in each trial."""

    loop: SequenceLoop
    right: Float[Array, " trials"]


def learn_sequence(
    loop: SequenceLoop,
    ends: Float[Array, "movements units"],
    steps: Float[Array, "movements axes"],
    sequence: tuple[int, ...],
    trials: int,
    key: PRNGKeyArray,
) -> Learnt:
    """Learn the transitions of a sequence by trial and error.

    Args:
        ends: the network's state at the end of each movement.
        steps: where each movement brings the cursor; movements that would leave the board from -1 to 1 are excluded.
        sequence: movements in order; the first is given.
        trials: of as many movements.
    """
    order = jnp.asarray(sequence)

    def trial(loop: SequenceLoop, key: PRNGKeyArray) -> tuple[SequenceLoop, Array]:
        def movement(carry: tuple[SequenceLoop, Array, Array], xs: tuple[Array, PRNGKeyArray]) -> Any:
            loop, here, place = carry
            wanted, key = xs
            allowed = jnp.all(jnp.abs(place[None] + steps) <= 1, axis=1)
            chosen = loop.choose(ends[here], allowed, key)
            # A transition is rewarded as the sequence has it, from the movement that was made.
            follows = jnp.any((order[:-1] == here) & (order[1:] == chosen))
            loop = loop.learn(ends[here], chosen, follows.astype(loop.weight.dtype))
            return (loop, chosen, place + steps[chosen]), chosen == wanted

        start = (loop, order[0], steps[order[0]])
        right: Array
        (loop, _, _), right = jax.lax.scan(movement, start, (order[1:], jax.random.split(key, len(sequence) - 1)))
        return loop, jnp.mean(right.astype(loop.weight.dtype))

    learnt, right = jax.lax.scan(trial, loop, jax.random.split(key, trials))
    return Learnt(learnt, right)


def play(
    loop: SequenceLoop,
    ends: Float[Array, "movements units"],
    steps: Float[Array, "movements axes"],
    first: int,
    length: int,
) -> Int[Array, " length"]:
    """The movements that the loop makes without exploring."""

    def movement(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        here, place = carry
        allowed = jnp.all(jnp.abs(place[None] + steps) <= 1, axis=1)
        chosen = loop.choose(ends[here], allowed).astype(here.dtype)
        return (chosen, place + steps[chosen]), chosen

    start = jnp.asarray(first, jnp.int32)
    _, made = jax.lax.scan(movement, (start, steps[first]), None, length - 1)
    return jnp.concatenate([start[None], made])
