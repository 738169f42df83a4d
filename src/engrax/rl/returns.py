"""From rewards and values to what an action was worth. Arrays are (steps, batch).

    delta(t) = r(t) + gamma V(t+1) - V(t)                       temporal-difference error
    A(t)     = sum_k (gamma lambda)^k delta(t + k)              advantage; with lambda = 1 it is R(t) - V(t)

(Schulman et al. 2016). The other way round, with F(t) = gamma lambda F(t-1) + u(t), it holds that

    sum_t delta(t) F(t) = sum_t A(t) u(t):

what is collected forwards, each error when it is known (Bellec et al. 2020), is what is summed backwards.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def td_errors(
    rewards: Float[Array, "steps batch"],
    values: Float[Array, "steps batch"],
    alive: Float[Array, "steps batch"],
    last: Float[Array, " batch"],
    discount: float,
) -> Float[Array, "steps batch"]:
    """Temporal-difference errors, 0 where an episode is over.

    Args:
        alive: 1 at the steps at which an episode was still going on, that of its end included.
        last: the value of where an episode was cut off; 0 where it came to its end.
    """
    values = values * alive
    after = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])
    final = alive * (1 - jnp.concatenate([alive[1:], jnp.zeros_like(alive[:1])]))
    return alive * (rewards + discount * (after + final * last[None]) - values)


def advantages(errors: Float[Array, "steps batch"], decay: float) -> Float[Array, "steps batch"]:
    """Sums of the errors to come, each step by `decay` = gamma lambda less."""

    def back(later: Array, error: Array) -> tuple[Array, Array]:
        now = error + decay * later
        return now, now

    return jax.lax.scan(back, jnp.zeros_like(errors[0]), errors, reverse=True)[1]
