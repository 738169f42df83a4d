"""Sequences cut into chunks: one after another, the last one shorter; or padded, with a leading chunk axis."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def padded(tree: PyTree, size: int) -> PyTree:
    """Every (time, ...) leaf, zeros appended until its length is a multiple of `size`."""

    def pad(x: jax.Array) -> jax.Array:
        missing = -x.shape[0] % size
        return jnp.concatenate([x, jnp.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    return jax.tree.map(pad, tree)


def cut(tree: PyTree, size: int) -> PyTree:
    """Every (time, ...) leaf as (chunks, size, ...); its length must be a multiple of `size`."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def in_chunks(body: Callable[[Any, Any, bool], Any], carry: Any, tree: PyTree, size: int) -> Any:
    """What `carry` has become after `body(carry, chunk, last)` of every chunk of (time, ...) leaves, of `size` steps.

    The last chunk may be shorter. It is told that nothing comes after it.
    """
    steps = jax.tree.leaves(tree)[0].shape[0]
    before = (steps - 1) // size

    def piece(carry: Any, chunk: Array) -> tuple[Any, None]:
        start = chunk * size
        # Copies a chunk at a time, where a leading chunk axis would copy all that is not cut evenly.
        cut = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), tree)
        return body(carry, cut, False), None

    if before:
        carry, _ = jax.lax.scan(piece, carry, jnp.arange(before))
    return body(carry, jax.tree.map(lambda x: x[before * size :], tree), True)
