"""Leaky integrator, the usual readout: v(t) = kappa v(t-1) + s I(t), kappa = exp(-dt / tau), output v.

The paper (Bellec et al. 2020, Eq. 11) has s = 1, the authors' code s = 1 - kappa everywhere: the default here.
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import Unit
from ..parameter import Value, choice, parameter
from .base import Neuron
from .event_unit import EventUnit


class LIState(NamedTuple):
    """Voltage."""

    voltage: Float[Array, "..."]


class LI(Neuron):
    """Leaky integrator.

    Args:
        size: number of units.
        tau: time constant, ms.
        input_scale: "leak" multiplies the current by 1 - kappa; "one" adds it as it is.

    State: voltage.

    Source: Bellec et al. 2020, Eq. 11, and the authors' code for the factor.
    """

    loop_times: ClassVar[tuple[str, ...]] = ("tau",)

    tau: Value = parameter("tau", 20.0, minimum=0, exclusive=True)
    input_scale: str = choice("input_scale", "leak", ("one", "leak"))

    def init_state(self) -> LIState:
        return LIState(jnp.zeros(self.size, self.tau.dtype))

    def step(self, state: LIState, current: Array) -> tuple[LIState, Array]:
        kappa = jnp.exp(-self.dt / self.tau)
        gain = 1 - kappa if self.input_scale == "leak" else 1
        voltage = kappa * state.voltage + gain * current
        return LIState(voltage), voltage

    def derivative(self, state: LIState, current: Array) -> LIState:
        """tau dv/dt = -v + I; with input_scale="one", where a step adds its current, dv/dt = -v / tau + I / dt."""
        gain = 1 / self.tau if self.input_scale == "leak" else 1 / self.dt
        return LIState(gain * current - state.voltage / self.tau)

    def output(self, state: LIState) -> Array:
        return state.voltage

    def event_unit(self) -> EventUnit:
        if type(self) is not LI:
            return super().event_unit()  # whose step may be another
        tau = jnp.broadcast_to(self.tau, self.size)
        gain = self.dt / tau if self.input_scale == "leak" else jnp.ones_like(tau)
        return EventUnit(tau, tau, jnp.full_like(tau, jnp.inf), gain, jnp.zeros_like(tau))

    def loop(self) -> Unit | None:
        if type(self) is not LI:
            return None
        kappa = jnp.exp(-self.dt / self.tau)
        gain = 1 - kappa if self.input_scale == "leak" else jnp.ones_like(kappa)
        return Unit("leaky", {"alpha": kappa, "gain": gain})

    def uniform(self) -> tuple[str, ...]:
        return ("voltage",) if self.tau.ndim == 0 else ()
