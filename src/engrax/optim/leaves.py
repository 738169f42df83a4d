"""Leaves of a network apart from the others: steps multiplied, or values along a schedule."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ..errors import ArgumentError, unknown
from ..parameter import Parameter
from .schedules import is_number


def multiply(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply the steps of some leaves, such as `{"hidden.tau": 3.0, "tau_adaptation": 2.0}`.

    A name is a part of a leaf's path, of whole words: "tau" is every population's tau, "hidden.tau" one population's,
    "input->hidden.weight" one projection's weight. Where several fit, the longest counts.

    Args:
        multipliers: factors >= 0 by name; 0 freezes.

    Raises:
        ArgumentError: a factor is impossible; at `init`, a name fits no trained leaf (the message lists them).
    """
    if not isinstance(multipliers, Mapping):
        raise ArgumentError(f"multipliers must be a dict of leaf names and factors, got {multipliers!r}.")
    for name, factor in multipliers.items():
        if not is_number(factor) or factor < 0:
            raise ArgumentError(f"multipliers: the factor of {name!r} must be a number >= 0, got {factor!r}.")

    def init(params: PyTree) -> optax.EmptyState:
        _check_names("multipliers", multipliers, params)
        return optax.EmptyState()

    def scaled(path: Any, update: Array) -> Array:
        fitting = [name for name in multipliers if _within(name, _path(path))]
        return multipliers[max(fitting, key=len)] * update if fitting else update

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.EmptyState]:
        del params
        return jax.tree.map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


class FollowState(NamedTuple):
    """The state of the optimiser of the rest, and updates done."""

    rest: PyTree
    steps: Array


def follow(optimizer: optax.GradientTransformation, values: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """Let some leaves follow schedules, whatever their gradient, and an optimiser move the others.

    So a teacher's forcing dies away, or a reset hardens: any number that a network holds as trainable.

    Args:
        optimizer: moves the rest; it is not told the gradients of leaves that follow.
        values: by name, as in `multiply`, a schedule of the updates done, such as `{"out.forcing":
            optax.linear_schedule(1.0, 0.0, 1000)}`. Until the first update a leaf is as it was made.

    Raises:
        ArgumentError: a schedule cannot be called; at `init`, a name fits no trained leaf (the message lists them).
    """
    if not isinstance(values, Mapping) or not all(callable(value) for value in values.values()):
        raise ArgumentError(f"follow: values must be a dict of leaf names and schedules, got {values!r}.")
    rest = optax.with_extra_args_support(optimizer)

    def chosen(path: Any) -> str | None:
        fitting = [name for name in values if _within(name, _path(path))]
        return max(fitting, key=len) if fitting else None

    def init(params: PyTree) -> FollowState:
        _check_names("values to follow", values, params)
        return FollowState(rest.init(params), jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: FollowState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, FollowState]:
        if params is None:
            raise ArgumentError("follow needs the parameters: optimizer.update(grads, state, params).")
        silent = lambda path, g: g if chosen(path) is None else jnp.zeros_like(g)
        moved, inner = rest.update(jax.tree.map_with_path(silent, updates), state.rest, params, **extra)
        count = optax.safe_increment(state.steps)

        def one(path: Any, step: Any, now: Any) -> Any:
            name = chosen(path)
            if name is None:
                return step
            held = now.raw if isinstance(now, Parameter) else now
            value = jnp.broadcast_to(jnp.asarray(values[name](count), held.dtype), held.shape)
            if isinstance(now, Parameter):
                # It is stored as what keeps it positive or within its bounds.
                return dataclasses.replace(step, raw=now.at(value).raw - held)
            return value - held

        is_leaf = lambda x: isinstance(x, Parameter)
        return jax.tree.map_with_path(one, moved, params, is_leaf=is_leaf), FollowState(inner, count)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_names(what: str, names: Mapping[str, Any], params: PyTree) -> None:
    paths = [_path(path) for path, _ in jax.tree.leaves_with_path(params)]
    for name in names:
        if not any(_within(name, path) for path in paths):
            raise unknown(f"trained leaf in {what}:", name, (p.removesuffix(".raw") for p in paths))


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _within(name: str, path: str) -> bool:
    return f".{name}." in f".{path}."
