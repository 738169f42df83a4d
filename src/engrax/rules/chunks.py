"""Sequences cut into chunks of equal length: padding at the end, and a leading chunk axis."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def padded(tree: PyTree, size: int) -> PyTree:
    """Every (time, ...) leaf, zeros appended until its length is a multiple of `size`."""

    def pad(x: jax.Array) -> jax.Array:
        missing = -x.shape[0] % size
        return jnp.concatenate([x, jnp.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    return jax.tree.map(pad, tree)


def cut(tree: PyTree, size: int) -> PyTree:
    """Every (time, ...) leaf as (chunks, size, ...); its length must be a multiple of `size`."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)
