"""Long short-term memory: four currents, one for each gate.

    c(t) = f c(t-1) + i g          i, f, o = sigmoid(I_input), sigmoid(I_forget + forget_bias), sigmoid(I_output)
    m(t) = o tanh(c(t))            g = tanh(I_cell)

Hochreiter & Schmidhuber 1997, Gers et al. 2000; no peepholes. The output m returns through a projection of the
network ("x->x"), so a local rule that cuts projections keeps c alone: Bellec et al. 2020, Supplementary Note 4.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..parameter import Value, parameter
from .base import Neuron


class LSTMState(NamedTuple):
    """Cell."""

    cell: Float[Array, "..."]


class LSTM(Neuron):
    """Long short-term memory. Currents: (4, size) in the order of `ports`.

    Args:
        size: number of units.
        forget_bias: added to the forget gate's current.

    State: cell.

    Source: Gers et al. 2000, without peepholes.
    """

    forget_bias: Value = parameter("forget_bias", 1.0)

    ports: ClassVar[tuple[str, ...]] = ("input", "forget", "cell", "output")

    @property
    def macs(self) -> int:
        """Gates' slopes and products, as the literature on spiking networks counts them."""
        return 17

    def init_state(self) -> LSTMState:
        return LSTMState(jnp.zeros(self.size, self.forget_bias.dtype))

    def step(self, state: LSTMState, current: Array) -> tuple[LSTMState, Array]:
        into, forget, cell, out = (current[..., port, :] for port in range(4))
        kept = jax.nn.sigmoid(forget + self.forget_bias) * state.cell
        cell = kept + jax.nn.sigmoid(into) * jnp.tanh(cell)
        return LSTMState(cell), jax.nn.sigmoid(out) * jnp.tanh(cell)
