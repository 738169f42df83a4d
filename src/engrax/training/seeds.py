"""Many seeds in one program: side by side on an accelerator, one after the other on a CPU.

A CPU has no lanes to fill. Side by side, the seeds' arrays leave its caches and their sums are taken in another order
than a single network's; one after the other, each seed has the arithmetic that it has alone.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree


def over_seeds(function: Callable[..., Any], *args: PyTree, in_turn: bool = False) -> Any:
    """`function` of each seed's part of the arguments, whose arrays, like those of the result, lead with the seeds.

    What is not an array is the same for all seeds. To be called where JAX traces. `in_turn`: one after the other on
    an accelerator too.
    """
    if jax.default_backend() != "cpu" and not in_turn:
        return eqx.filter_vmap(function)(*args)
    arrays, rest = eqx.partition(args, eqx.is_array)
    others: list[PyTree] = []

    def one(arrays: PyTree) -> PyTree:
        found, other = eqx.partition(function(*eqx.combine(arrays, rest)), eqx.is_array)
        others.append(other)
        return found

    found = jax.lax.map(one, arrays)
    return eqx.combine(found, others[-1])
