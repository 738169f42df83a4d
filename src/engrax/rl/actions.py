"""What an agent may do: how a policy readout's numbers become an action, and how probable it was.

Both kinds give `outputs` numbers of the policy, `sample`, `best`, `log_probability`, `limited` and `entropy`, over
leading axes.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import ArgumentError


class Discrete(eqx.Module):
    """One of `count` actions, by a softmax of the policy's outputs."""

    count: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 2:
            raise ArgumentError(f"Discrete: count must be an integer of at least 2, got {self.count!r}.")

    @property
    def outputs(self) -> int:
        """Numbers that the policy gives."""
        return self.count

    def sample(self, key: PRNGKeyArray, policy: Float[Array, " count"]) -> Int[Array, ""]:
        """An action, drawn."""
        return jax.random.categorical(key, policy)

    def best(self, policy: Float[Array, "... count"]) -> Int[Array, "..."]:
        """The most probable action."""
        return jnp.argmax(policy, axis=-1)

    def log_probability(self, policy: Float[Array, "... count"], action: Int[Array, "..."]) -> Float[Array, "..."]:
        """log pi(action)."""
        return jnp.take_along_axis(jax.nn.log_softmax(policy), action[..., None], axis=-1)[..., 0]

    def limited(self, action: Int[Array, "..."]) -> Int[Array, "..."]:
        """What the environment is given: the action."""
        return action

    def entropy(self, policy: Float[Array, "... count"]) -> Float[Array, "..."]:
        """-sum pi log pi, in nats."""
        return -jnp.sum(jax.nn.softmax(policy) * jax.nn.log_softmax(policy), axis=-1)


class Continuous(eqx.Module):
    """`size` numbers around the policy's outputs, with independent Gaussian noise.

    Args:
        size: numbers.
        spread: standard deviation of the noise.
        low, high: limits of what the environment is given, for all numbers or each. The noise itself is not limited.
    """

    size: int = eqx.field(static=True)
    spread: float = eqx.field(static=True, default=0.3)
    low: float | tuple[float, ...] = eqx.field(static=True, default=-math.inf)
    high: float | tuple[float, ...] = eqx.field(static=True, default=math.inf)

    def __check_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ArgumentError(f"Continuous: size must be an integer of at least 1, got {self.size!r}.")
        if not 0 < self.spread < math.inf:
            raise ArgumentError(f"Continuous: spread must be a number > 0, got {self.spread!r}.")
        low, high = (x if isinstance(x, tuple) else (x,) * self.size for x in (self.low, self.high))
        if not len(low) == len(high) == self.size:
            raise ArgumentError(f"Continuous: low and high must be a number, or {self.size}, got {low!r} and {high!r}.")
        if not all(a < b for a, b in zip(low, high)):
            raise ArgumentError(f"Continuous: low must lie below high, got {self.low!r} and {self.high!r}.")

    @property
    def outputs(self) -> int:
        """Numbers that the policy gives."""
        return self.size

    def sample(self, key: PRNGKeyArray, policy: Float[Array, " size"]) -> Float[Array, " size"]:
        """An action, drawn."""
        return policy + self.spread * jax.random.normal(key, policy.shape, policy.dtype)

    def best(self, policy: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """The most probable action."""
        return policy

    def log_probability(
        self, policy: Float[Array, "... size"], action: Float[Array, "... size"]
    ) -> Float[Array, "..."]:
        """log of the density of an action, before limits."""
        away = (action - policy) / self.spread
        constant = math.log(self.spread) + 0.5 * math.log(2 * math.pi)
        return jnp.sum(-0.5 * jnp.square(away) - constant, axis=-1)

    def limited(self, action: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """What the environment is given: the action, within the limits."""
        low, high = (jnp.broadcast_to(jnp.asarray(x, action.dtype), action.shape[-1:]) for x in (self.low, self.high))
        return jnp.clip(action, jnp.broadcast_to(low, action.shape), jnp.broadcast_to(high, action.shape))

    def entropy(self, policy: Float[Array, "... size"]) -> Float[Array, "..."]:
        """Of the Gaussian, in nats: the same whatever the policy."""
        one = math.log(self.spread) + 0.5 * math.log(2 * math.pi * math.e)
        return jnp.full(policy.shape[:-1], self.size * one, policy.dtype)


Actions = Discrete | Continuous
