"""Gated recurrent unit: four currents; the reset gate acts on what comes back from the network.

    r, u = sigmoid(I_reset), sigmoid(I_update)
    h(t) = u h(t-1) + (1 - u) tanh(I_candidate + r I_recurrent)

Cho et al. 2014, in the form that cuDNN, PyTorch and Keras compute: the gate multiplies the recurrent current, not the
recurrent output. For their network, inputs have projections onto "reset", "update" and "candidate", and the population
itself onto "reset", "update" and "recurrent"; in a network of Engrax any projection may go onto any port.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..parameter import Value, parameter
from .base import Neuron


class GRUState(NamedTuple):
    """Output."""

    hidden: Float[Array, "..."]


class GRU(Neuron):
    """Gated recurrent unit. Currents: (4, size) in the order of `ports`.

    Args:
        size: number of units.
        update_bias: added to the update gate's current; above 0 the unit keeps more of what it held.

    State: hidden, which is the output.

    Source: Cho et al. 2014.
    """

    update_bias: Value = parameter("update_bias", 0.0)

    ports: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate", "recurrent")

    @property
    def macs(self) -> int:
        """Gates' slopes and products, as the literature on spiking networks counts them."""
        return 14

    def init_state(self) -> GRUState:
        return GRUState(jnp.zeros(self.size, self.update_bias.dtype))

    def step(self, state: GRUState, current: Array) -> tuple[GRUState, Array]:
        reset, update, candidate, recurrent = (current[..., port, :] for port in range(4))
        kept = jax.nn.sigmoid(update + self.update_bias)
        new = jnp.tanh(candidate + jax.nn.sigmoid(reset) * recurrent)
        hidden = kept * state.hidden + (1 - kept) * new
        return GRUState(hidden), hidden
