"""Izhikevich's unit: a quadratic voltage and a recovery variable; four numbers choose among cortical firing patterns.

    v' = 0.04 v^2 + 5 v + 140 - u + I        u' = a (b v - u)        (mV, ms)
    where z(t-1) = 1, first  v <- c,  u <- u + d                     z(t) = H(v(t) - peak)

Izhikevich 2003, in the order of the program printed there: within a step v moves in equal parts of at most 0.5 ms, then
u by one part with the new v. A voltage that has passed the peak within a step is held there until the step's last part,
so that the square cannot run away.
"""

import math
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..parameter import Value, parameter
from .base import Neuron
from .surrogates import Surrogate, Triangular, as_surrogate

PART = 0.5


class IzhikevichState(NamedTuple):
    """Voltage before reset (mV), and recovery."""

    voltage: Float[Array, "..."]
    recovery: Float[Array, "..."]


class Izhikevich(Neuron):
    """Izhikevich's unit; the defaults are a regular spiking cell.

    Args:
        size: number of units.
        a: rate of recovery, 1/ms.
        b: recovery a mV.
        c: voltage after a spike, mV.
        d: recovery that a spike adds.
        peak: voltage of a spike, mV, > 0.
        surrogate: pseudo-derivative of the spike; default `Triangular(0.3)`, as wide as the peak: 30 mV.

    Fast spiking: a=0.1, d=2. Chattering: c=-50, d=2. Intrinsically bursting: c=-55, d=4.

    State: voltage (before reset, mV), recovery. Both carry gradient. It begins at rest: v = c, u = b c.

    Source: Izhikevich 2003, Eqs. 1-3.
    """

    a: Value = parameter("a", 0.02, minimum=0, exclusive=True)
    b: Value = parameter("b", 0.2)
    c: Value = parameter("c", -65.0)
    d: Value = parameter("d", 8.0)
    peak: Value = parameter("peak", 30.0, minimum=0, exclusive=True)
    surrogate: Surrogate = eqx.field(default=Triangular(), converter=as_surrogate)

    spiking: ClassVar[bool] = True

    @property
    def macs(self) -> int:
        """Three for each part of the voltage's step, and two for the recovery's."""
        return 3 * self._parts + 2

    @property
    def _parts(self) -> int:
        return math.ceil(self.dt / PART - 1e-9)

    def init_state(self) -> IzhikevichState:
        start = jnp.broadcast_to(self.c, (self.size,))
        return IzhikevichState(start, jnp.broadcast_to(self.b * start, (self.size,)))

    def step(self, state: IzhikevichState, current: Array) -> tuple[IzhikevichState, Array]:
        return self._advance(state, current, self._spike(state))

    def local_step(self, state: IzhikevichState, current: Array) -> tuple[IzhikevichState, Array]:
        return self._advance(state, current, jax.lax.stop_gradient(self._spike(state)))

    def _advance(self, state: IzhikevichState, current: Array, spiked: Array) -> tuple[IzhikevichState, Array]:
        v = state.voltage + spiked * (self.c - state.voltage)
        u = state.recovery + spiked * self.d
        part = self.dt / self._parts
        for _ in range(self._parts):
            v = jnp.minimum(v, self.peak)
            v = v + part * (0.04 * jnp.square(v) + 5 * v + 140 - u + current)
        state = IzhikevichState(v, u + self.dt * self.a * (self.b * v - u))
        return state, self._spike(state)

    def _spike(self, state: IzhikevichState) -> Array:
        above = state.voltage - self.peak
        return self.surrogate(above, jnp.broadcast_to(self.peak, above.shape))
