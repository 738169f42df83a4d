"""C-SiLIF: one complex voltage that decays and turns, in the parameters of diagonal state-space models.

    u(t) = exp(pace dt (-1 / tau + i omega)) (u(t-1) - r z(t-1)) + b I(t)          u = x + i y
    z(t) = H(2 x(t) - v_th)

Fabre, Dudchenko, Bouhadjar & Neftci 2025 and their program (`models/snns.py`: r = 0.5, v_th = 1; 1 / tau begins at 0.5
and omega at pi on a clock of which `pace` is drawn log-uniformly, as in S4D). Optimised there are the logarithms of 1 /
tau and of the pace: `trainable(x, positive="log")`.
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..parameter import Value, parameter
from .base import Neuron
from .surrogates import Boxcar, Surrogate, as_surrogate


class CSiLIFState(NamedTuple):
    """Real part before reset, and imaginary part."""

    voltage: Float[Array, "..."]
    imaginary: Float[Array, "..."]


class CSiLIF(Neuron):
    """Complex leaky integrate-and-fire in a state-space model's parameters.

    Args:
        size: number of units.
        tau: time constant of the decay, ms.
        omega: angular frequency, rad/ms.
        pace: > 0; decay and turn see pace times the network's step.
        b: what the current is multiplied by.
        removed: r, what a spike takes off the real part.
        threshold: of twice the real part, > 0.
        surrogate: pseudo-derivative of the spike; default `Boxcar(1.0, 0.5)`.

    State: voltage (x, before reset), imaginary (y). Both carry gradient.

    Source: Fabre et al. 2025.
    """

    tau: Value = parameter("tau", 20.0, minimum=0, exclusive=True)
    omega: Value = parameter("omega", 0.1, minimum=0)
    pace: Value = parameter("pace", 1.0, minimum=0, exclusive=True)
    b: Value = parameter("b", 1.0)
    removed: Value = parameter("removed", 0.5, minimum=0)
    threshold: Value = parameter("threshold", 1.0, minimum=0, exclusive=True)
    surrogate: Surrogate = eqx.field(default=Boxcar(1.0, 0.5), converter=as_surrogate)

    spiking: ClassVar[bool] = True

    @property
    def macs(self) -> int:
        """A complex multiplication, and the current's."""
        return 5

    def init_state(self) -> CSiLIFState:
        zeros = jnp.zeros(self.size, self.threshold.dtype)
        return CSiLIFState(zeros, zeros)

    def step(self, state: CSiLIFState, current: Array) -> tuple[CSiLIFState, Array]:
        return self._advance(state, current, self._spike(state))

    def local_step(self, state: CSiLIFState, current: Array) -> tuple[CSiLIFState, Array]:
        return self._advance(state, current, jax.lax.stop_gradient(self._spike(state)))

    def _advance(self, state: CSiLIFState, current: Array, spiked: Array) -> tuple[CSiLIFState, Array]:
        step = self.pace * self.dt
        size, turn = jnp.exp(-step / self.tau), step * self.omega
        real, imaginary = size * jnp.cos(turn), size * jnp.sin(turn)
        x, y = state.voltage - self.removed * spiked, state.imaginary
        state = CSiLIFState(real * x - imaginary * y + self.b * current, imaginary * x + real * y)
        return state, self._spike(state)

    def _spike(self, state: CSiLIFState) -> Array:
        above = 2 * state.voltage - self.threshold
        return self.surrogate(above, jnp.broadcast_to(self.threshold, above.shape))
