"""Leaky rate unit: h(t) = h(t-1) + dt / tau (-h(t-1) + phi(I(t))), output h.

The leak acts on the rate, the nonlinearity inside the bracket: the network of Murray 2019 (RFLO), Eq. 1.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import Unit
from ..parameter import Value, parameter
from .activations import ACTIVATIONS, Activation, as_activation
from .base import Neuron


class RateState(NamedTuple):
    """Rate."""

    rate: Float[Array, "..."]


class Rate(Neuron):
    """Leaky rate unit.

    Args:
        size: number of units.
        tau: time constant, ms, at least one time step.
        activation: "tanh", "relu", "sigmoid", "identity", "gelu", or an elementwise function.
        initial: rate before the first step.

    State: rate.

    Source: Murray 2019, Eq. 1.
    """

    tau: Value = parameter("tau", 10.0, minimum=0, exclusive=True)
    activation: Activation = eqx.field(static=True, default="tanh", converter=as_activation)
    initial: Value = parameter("initial", 0.0)

    def init_state(self) -> RateState:
        return RateState(jnp.broadcast_to(self.initial, self.size))

    def step(self, state: RateState, current: Array) -> tuple[RateState, Array]:
        rate = state.rate + self.dt / self.tau * (self.activation(current) - state.rate)
        return RateState(rate), rate

    def derivative(self, state: RateState, current: Array) -> RateState:
        return RateState((self.activation(current) - state.rate) / self.tau)

    def output(self, state: RateState) -> Array:
        return state.rate

    def loop(self) -> Unit | None:
        names = [n for n in ("tanh", "relu", "sigmoid") if ACTIVATIONS[n] is self.activation]
        if type(self) is not Rate or not names:
            return None
        leak = self.dt / self.tau
        return Unit("rate", {"alpha": 1 - leak, "gain": leak}, activation=names[0])
