"""What errors are of: parts of models and states that carry gradient, paths that carry it, and what it comes to."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..neurons import Neuron
from ..neurons.base import slots
from ..parameter import is_parameter, resolve
from ..synapses import Projection


class Path(NamedTuple):
    """An edge that carries errors from `projection.post` back to `projection.pre`, through an effective weight."""

    projection: Projection
    weight: Any


class Sent(NamedTuple):
    """What a population felt, and `weight` (post, pre) sends back `delay` steps: (time, batch, post)."""

    weight: Array
    delta: Array
    delay: int


class Cotangents(NamedTuple):
    """What a loss says of a run: dE by outputs, by state variables after each step, by final states and histories.

    outputs[name]: (time, batch, units).  variables[name][variable]: the same.
    states[name]: float leaves of the final state (None elsewhere).  history[name]: (depth, batch, units).
    """

    outputs: dict[str, Array]
    variables: dict[str, dict[str, Array]]
    states: dict[str, PyTree]
    history: dict[str, Array]


class Adjoint(NamedTuple):
    """The answer: delta per population, cotangents of its own parameters, of the initial states and histories.

    weights, biases: gradients by each trainable projection's effective weight and bias, where asked for; delta is then
        only of populations whose loops are not native.
    """

    delta: dict[str, Array]
    parameters: dict[str, PyTree]
    states: dict[str, PyTree]
    history: dict[str, Array]
    weights: dict[str, Any]
    biases: dict[str, Array]


def split_parameters(neuron: Neuron) -> tuple[PyTree, PyTree]:
    """A model's trainable parameters (their values) and the rest, to be put together by `eqx.combine`."""
    marks = jax.tree.map(is_parameter, neuron, is_leaf=is_parameter)
    return eqx.partition(resolve(neuron), marks)


def split_state(state: PyTree) -> tuple[PyTree, PyTree]:
    """Float leaves of a state, which carry gradient, and the rest, which does not."""
    return eqx.partition(state, eqx.is_inexact_array)


def pull_parameters(neuron: Neuron, cotangent: PyTree) -> PyTree:
    """A cotangent of trainable parameters' values as one of their raw numbers: the neuron's tree, None elsewhere."""
    marks = jax.tree.map(
        lambda p: jax.tree.map(lambda _: True, p) if is_parameter(p) else False, neuron, is_leaf=is_parameter
    )
    raw, rest = eqx.partition(neuron, marks)
    _, vjp = jax.vjp(lambda r: split_parameters(eqx.combine(r, rest))[0], raw)
    return vjp(cotangent)[0]


def local_step(parameters: PyTree, rest: PyTree, counters: PyTree, local: bool, floats: PyTree, current: Array) -> Any:
    """One unit-by-unit step of one trial as a function of what carries gradient: float state and current."""
    neuron = eqx.combine(parameters, rest)
    state, output = (neuron.local_step if local else neuron.step)(eqx.combine(floats, counters), current)
    return split_state(state)[0], output


def variable_cotangent(like: PyTree, neuron: Neuron, given: dict[str, Array]) -> PyTree:
    """Cotangents of named state variables as a tree shaped as the float part of the state."""
    zero = jax.tree.map(jnp.zeros_like, like)
    if not given:
        return zero
    names = slots(neuron.init_state())
    leaves, treedef = jax.tree.flatten(zero, is_leaf=lambda x: x is None)
    for name, value in given.items():
        leaves[names.index(name)] = value
    return jax.tree.unflatten(treedef, leaves)


def no_state(neuron: Neuron, batch: int) -> PyTree:
    """Zeros for the float leaves of a population's state, (batch, units)."""
    floats = split_state(resolve(neuron).init_state())[0]
    return jax.tree.map(lambda x: jnp.zeros((batch, *x.shape), x.dtype), floats)
