"""Linear recurrent unit: a damped oscillator in the complex plane, driven by two currents, of which the real part is
heard. A layer of them is a diagonal linear state-space model; what is nonlinear stands behind it, in a `Relay`.

    x(t) = lambda x(t-1) + sqrt(1 - |lambda|^2) (I_real(t) + i I_imaginary(t))      lambda = exp(-dt / tau + i omega dt)
    z(t) = Re x(t)

The factor of the current keeps the variance of x at that of white input, whatever the time constant.
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..parameter import Value, parameter
from .base import Neuron


class LRUState(NamedTuple):
    """Real and imaginary part."""

    real: Float[Array, "..."]
    imaginary: Float[Array, "..."]


class LRU(Neuron):
    """Linear recurrent unit.

    Args:
        size: number of units.
        tau: time constant of its decay, ms.
        omega: angular frequency, radians per ms; 0: a leaky integrator.

    Ports: "real", "imaginary": a projection onto the unit has a complex weight. State: real, imaginary.

    Source: Orvieto et al. 2023, Section 3, with the decay written as a time constant and the imaginary output left out.
    """

    ports: ClassVar[tuple[str, ...]] = ("real", "imaginary")

    tau: Value = parameter("tau", 50.0, minimum=0, exclusive=True)
    omega: Value = parameter("omega", 0.0, minimum=0)

    @property
    def macs(self) -> int:
        """A complex product, and two scalings of the current."""
        return 6

    def init_state(self) -> LRUState:
        zeros = jnp.zeros(self.size, self.tau.dtype)
        return LRUState(zeros, zeros)

    def step(self, state: LRUState, current: Array) -> tuple[LRUState, Array]:
        size, angle = jnp.exp(-self.dt / self.tau), self.omega * self.dt
        across, along = size * jnp.sin(angle), size * jnp.cos(angle)
        gain = jnp.sqrt(-jnp.expm1(-2 * self.dt / self.tau))
        real = along * state.real - across * state.imaginary + gain * current[..., 0, :]
        imaginary = across * state.real + along * state.imaginary + gain * current[..., 1, :]
        return LRUState(real, imaginary), real
