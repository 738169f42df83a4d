"""Trained time constants of units that native loops run: what they do to the loops' coefficients, and back.

    v(t) = alpha v~(t-1) + gain I(t) - reset(t),    a(t) = rho a(t-1) + jump z(t-1)

Loops know dE by alpha, gain, rho and jump; how these depend on time constants the model itself says (`Neuron.loop`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..kernels.units import Unit
from ..neurons import Neuron
from ..parameter import is_parameter
from .cotangents import split_parameters


def trained(neuron: Neuron) -> list[str]:
    """Names of the fields that hold parameters that train."""
    fields = {name: getattr(neuron, name) for name in neuron.__dataclass_fields__}
    return [n for n, x in fields.items() if any(map(is_parameter, jax.tree.leaves(x, is_leaf=is_parameter)))]


def known(neuron: Neuron, unit: Unit) -> bool:
    """Whether loops know what all of a model's trained parameters do."""
    fine = unit.kind != "rate" and not unit.synaptic
    return fine and set(trained(neuron)) <= set(neuron.loop_times)


def pulled(neuron: Neuron, found: dict[str, Array]) -> PyTree:
    """dE by the values of a model's trained parameters, as `split_parameters` has them, from "by_alpha" and so on."""
    by = {name.removeprefix("by_"): x for name, x in found.items() if name.startswith("by_")}
    parameters, rest = split_parameters(neuron)

    def coefficients(values: PyTree) -> dict[str, Array]:
        there = eqx.combine(values, rest).loop().coefficients
        return {n: jnp.broadcast_to(there[n], x.shape) for n, x in by.items()}

    return jax.vjp(coefficients, parameters)[1](by)[0]
