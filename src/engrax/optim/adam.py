"""Adam as TensorFlow and NEST compute it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ..errors import ArgumentError
from .schedules import is_number, schedule


class AdamState(NamedTuple):
    """Steps taken, and the running means of the gradient and of its square."""

    steps: Array
    mean: PyTree
    square: PyTree


def adam_tensorflow(
    learning_rate: float | optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam as TensorFlow and NEST compute it: step t is -lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).

    `optax.adam` adds eps to the corrected root instead, which is another number as long as gradients are small. The
    published loss sequences of e-prop need this one.

    Args:
        learning_rate: a number, or an Optax schedule of the steps taken so far.
        b1, b2: decay of the running means of the gradient and of its square, in [0, 1).
        eps: > 0.

    Raises:
        ArgumentError: a value is impossible.

    Source: Kingma & Ba 2015, the form below Algorithm 1 (end of Section 2).
    """
    rate = learning_rate if callable(learning_rate) else schedule(learning_rate)
    for name, value in (("b1", b1), ("b2", b2)):
        if not is_number(value) or not 0 <= value < 1:
            raise ArgumentError(f"adam_tensorflow: {name} must lie in [0, 1), got {value!r}.")
    if not is_number(eps) or not eps > 0:
        raise ArgumentError(f"adam_tensorflow: eps must be a number > 0, got {eps!r}.")

    def init(params: PyTree) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: PyTree, state: AdamState, params: PyTree | None = None) -> tuple[PyTree, AdamState]:
        del params
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.square, updates)
        count = optax.safe_increment(state.steps)

        def step(m: Array, v: Array) -> Array:
            t = count.astype(m.dtype)
            size = jnp.asarray(rate(state.steps), m.dtype) * jnp.sqrt(1 - b2**t) / (1 - b1**t)
            return -size * m / (jnp.sqrt(v) + eps)

        return jax.tree.map(step, mean, square), AdamState(count, mean, square)

    return optax.GradientTransformation(init, update)
