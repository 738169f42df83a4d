"""Relay: z(t) = f(I(t)), without a state: what stands between a pooling projection and a dense one, or a layer of a
feed-forward network.
"""

import equinox as eqx
from jaxtyping import Array

from .activations import Activation, as_activation
from .base import Neuron


class Relay(Neuron):
    """Unit that hands its current on within the step. Errors pass through it under every rule: it has no state to cut.

    Args:
        size: number of units.
        activation: "identity", "tanh", "relu", "sigmoid", "gelu", or an elementwise function f.

    State: none.
    """

    activation: Activation = eqx.field(static=True, default="identity", converter=as_activation)

    def init_state(self) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        return state, self.activation(current)
