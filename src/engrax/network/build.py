"""What is drawn when a network is made: weights that were not given, and parameters with a spread."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from ..neurons import Neuron
from ..parameter import is_parameter
from ..synapses import Projection


def drawn(populations: Mapping[str, Neuron], key: PRNGKeyArray | None) -> "OrderedDict[str, Neuron]":
    """Populations with their parameters drawn, where each unit has its own."""
    # Projections have the keys that `key` is split into: this one is of another kind.
    base = None if key is None else jax.random.fold_in(key, 2**32 - 1)
    found = OrderedDict()
    for i, (name, population) in enumerate(populations.items()):
        parts, shape = jax.tree.flatten(population, is_leaf=is_parameter)
        for j, part in enumerate(parts):
            if is_parameter(part) and part.prior is not None:
                part = part.at(jnp.broadcast_to(part.value, population.size))
                parts[j] = part if base is None else part.draw(jax.random.fold_in(base, 1000 * i + j))
        found[name] = jax.tree.unflatten(shape, parts)
    return found


def built(
    projections: Mapping[str, Projection],
    populations: Mapping[str, Neuron],
    inputs: Mapping[str, int],
    key: PRNGKeyArray | None,
) -> "OrderedDict[str, Projection]":
    """Projections with the weights that were not given drawn."""
    sizes = {**inputs, **{n: p.size for n, p in populations.items()}}
    keys = [None] * len(projections) if key is None else list(jax.random.split(key, len(projections) or 1))
    dtype, found = common_dtype(projections), OrderedDict()
    for subkey, (name, projection) in zip(keys, projections.items(), strict=False):
        post = populations[projection.post]
        shape: tuple[int, ...] = (post.size, sizes[projection.pre])
        if post.ports and projection.port is None:
            shape = (len(post.ports), *shape)
        found[name] = projection.build(subkey, shape, dtype)
    return found


def common_dtype(projections: Mapping[str, Projection]) -> Any:
    """The floating-point type of the weights that were given."""
    given = [p.weight.dtype for p in projections.values() if p.weight is not None]
    # Weights of several types meet in the widest, whatever promotion the caller allows elsewhere.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*given) if given else jnp.result_type(float)


def typed(tree: PyTree, dtype: Any) -> PyTree:
    """A tree with its arrays of numbers in another floating-point type."""
    # Plain Python numbers of a user's model stay what they are: constants.
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)
