"""`check_neuron`: does a model keep the contract that every rule relies on?"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..network.cotangents import split_state
from ..neurons import Neuron
from ..neurons.base import slots
from ..parameter import resolve
from .errors import require, same_structure

SIZE = 5


def instance(neuron: Any) -> Neuron:
    """A model from itself or from its class (built with five units)."""
    model = neuron(SIZE) if isinstance(neuron, type) else neuron
    require(isinstance(model, Neuron), f"{model!r} is not an engrax Neuron.")
    return model


def check_neuron(neuron: Any) -> None:
    """Check a neuron model (an instance, or a class that can be built from a size alone).

    Checks shapes and types of state and output, that `step` is pure, that every unit acts alone, that `local_step` has
    the values of `step`, that what `uniform` says of it is true, that forward and reverse mode agree, and, for models
    that send no events, that both agree with finite differences in float64.

    Raises:
        ConformanceError: the first check that fails.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = instance(neuron)
        model = _double(resolve(model))
        name = type(model).__name__
        state = _double(model.init_state())
        _check_shapes(name, model, state)
        shape = (len(model.ports), model.size) if model.ports else (model.size,)
        for scale in (1.0, 10.0):
            keys = jax.random.split(jax.random.PRNGKey(0), 8)
            for key in keys:
                current = scale * jax.random.normal(key, shape, jnp.float64)
                _check_step(name, model, state, current)
                state, _ = model.step(state, current)


def _double(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, tree)


def _check_shapes(name: str, model: Neuron, state: Any) -> None:
    for leaf in jax.tree.leaves(state):
        require(leaf.shape == (model.size,), f"{name}.init_state(): leaves must be (size,) arrays, got {leaf.shape}.")
    shape = (len(model.ports), model.size) if model.ports else (model.size,)
    after, output = model.step(state, jnp.zeros(shape, jnp.float64))
    require(jnp.shape(output) == (model.size,), f"{name}.step: output must be (size,), got {jnp.shape(output)}.")
    same = same_structure(after, state)
    require(
        same,
        f"{name}.step: the state's structure changed from {jax.tree.structure(state)} to {jax.tree.structure(after)}.",
    )
    for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        require(
            now.shape == before.shape, f"{name}.step: a state leaf changed shape from {before.shape} to {now.shape}."
        )
        require(
            now.dtype == before.dtype, f"{name}.step: a state leaf changed type from {before.dtype} to {now.dtype}."
        )


def _check_step(name: str, model: Neuron, state: Any, current: Array) -> None:
    floats, counters = split_state(state)

    def rows(floats: Any, current: Array, local: bool = False) -> Array:
        step = model.local_step if local else model.step
        after, output = step(jax.tree.map(lambda f, c: c if f is None else f, floats, counters, is_leaf=_none), current)
        leaves = jax.tree.leaves(split_state(after)[0])
        return jnp.stack([*leaves, output])

    once, again = rows(floats, current), rows(floats, current)
    require(jnp.all(jnp.isfinite(once)), f"{name}.step gave NaN or infinity.")
    require(jnp.array_equal(once, again), f"{name}.step is not a pure function: two calls differ.")
    local = rows(floats, current, True)
    require(jnp.allclose(once, local, rtol=1e-12, atol=0), f"{name}.local_step must have the values of step.")
    batched = jax.vmap(rows, in_axes=(0, 0))(jax.tree.map(lambda x: x[None], floats), current[None])[0]
    require(jnp.allclose(once, batched, rtol=1e-12, atol=1e-12), f"{name}.step changes under vmap.")

    forward = jax.jacfwd(rows, argnums=(0, 1))(floats, current)
    reverse = jax.jacrev(rows, argnums=(0, 1))(floats, current)
    for f, r in zip(jax.tree.leaves(forward), jax.tree.leaves(reverse), strict=True):
        require(jnp.allclose(f, r, rtol=1e-9, atol=1e-12), f"{name}.step: forward and reverse mode disagree.")
        off = f.reshape(f.shape[0], model.size, -1, model.size) * (1 - jnp.eye(model.size))[None, :, None, :]
        require(jnp.all(off == 0), f"{name}.step is not elementwise: one unit's state or current moves another unit.")
    _check_uniform(name, model, floats, jax.jacfwd(partial(rows, local=True), argnums=(0, 1))(floats, current))
    if model.sends_events:
        return
    step = 1e-6
    for position, argument in enumerate((floats, current)):
        for index, leaf in enumerate(jax.tree.leaves(argument)):
            # Elementwise, so all units can be moved at once.
            def moved(by: float, position: int = position, index: int = index, leaf: Array = leaf) -> Array:
                leaves, treedef = jax.tree.flatten((floats, current)[position])
                leaves[index] = leaf + by
                changed = jax.tree.unflatten(treedef, leaves)
                return rows(*((changed, current) if position == 0 else (floats, changed)))

            slope = (moved(step) - moved(-step)) / (2 * step)
            exact = jnp.sum(jax.tree.leaves(forward[position])[index].reshape(*slope.shape, -1), axis=-1)
            error = float(jnp.max(jnp.abs(slope - exact)))
            require(error < 1e-6, f"{name}.step: its derivative differs from finite differences by {error:.1e}.")


def _check_uniform(name: str, model: Neuron, floats: Any, jacobian: Any) -> None:
    """`jacobian`: of the rows of state and output, (row, unit, [port,] unit), by state and by current."""
    alike = model.uniform()
    held = jax.tree.leaves(floats, is_leaf=_none)
    names = [n for n, x in zip(slots(model.init_state()), held, strict=True) if x is not None]
    require(
        isinstance(alike, tuple) and set(alike) <= set(names),
        f"{name}.uniform must name state variables, some of {names}, in a tuple; got {alike!r}.",
    )
    by_state = [x[:, :, None] for x in jax.tree.leaves(jacobian[0])]
    by_current = jacobian[1].reshape(len(names) + 1, model.size, -1, model.size)
    for row, variable in enumerate(names):
        if variable not in alike:
            continue
        for other, block in zip([*names, "the current"], [*by_state, by_current], strict=True):
            own = jnp.diagonal(block[row], axis1=0, axis2=2)
            if other in names and other not in alike:
                require(jnp.all(own == 0), f"{name}.uniform names {variable!r}, but {other!r} moves it.")
            require(
                jnp.allclose(own, own[..., :1], rtol=1e-12, atol=0),
                f"{name}.uniform names {variable!r}, but {other!r} does not move it alike in all units.",
            )


def _none(x: object) -> bool:
    return x is None
