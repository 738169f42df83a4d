"""Whether inputs and a state are ones that a network can run from."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks import as_array
from ..errors import ArgumentError, unknown
from ..events import Events
from .state import NetworkState


def checked_inputs(net: Any, inputs: PyTree[Array]) -> dict[str, Any]:
    """Inputs as a dict of (time, batch, units) arrays, or events, of the network's dtype.

    Raises:
        ArgumentError: unknown or missing names, wrong rank or width, unequal lengths.
    """
    if not isinstance(inputs, Mapping):
        if len(net.inputs) != 1:
            raise ArgumentError(f"this network has several inputs: give a dict with {', '.join(net.inputs)}.")
        inputs = {next(iter(net.inputs)): inputs}
    for name in inputs:
        if name not in net.inputs:
            raise unknown("input", name, net.inputs)
    arrays = {}
    for name, size in net.inputs.items():
        if name not in inputs:
            raise ArgumentError(f"input {name!r} is missing.")
        given = inputs[name]
        x = given if isinstance(given, Events) else as_array(f"input {name!r}", given)
        if x.ndim != 3 or x.shape[-1] != size:
            raise ArgumentError(f"input {name!r} must be (time, batch, {size}), got shape {x.shape}.")
        arrays[name] = x.astype(net.dtype)
    if len({x.shape[:2] for x in arrays.values()}) > 1:
        raise ArgumentError("all inputs must have the same numbers of steps and trials.")
    return arrays


def check_state(net: Any, state: Any, batch: int) -> None:
    """Raise an ArgumentError unless `state` is one of this network, for `batch` trials."""
    if not isinstance(state, NetworkState):
        raise ArgumentError(f"state must be a network's (init_state, or a record's), got {type(state).__name__}.")
    sizes = net.inputs | {n: p.size for n, p in net.populations.items()}
    history = {n: (depth, batch, sizes[n]) for n, depth in net.depths().items()}
    fits = set(state.neurons) == set(net.populations)
    fits = fits and {n: jnp.shape(h) for n, h in state.history.items()} == history
    if not fits or any(jnp.shape(x) != (batch, sizes[n]) for n, s in state.neurons.items() for x in jax.tree.leaves(s)):
        raise ArgumentError(
            f"state must be one of this network, for {batch} trials as the inputs have: see init_state(batch)."
        )
