"""Balanced harmonic resonate-and-fire unit: `BRF` as an equation of second order, a weight on a spring.

    b(t) = damping + d omega^2 / 2 + q(t-1)
    x(t) = x(t-1) + d v(t-1)
    v(t) = v(t-1) + d (I(t) - 2 b(t) v(t-1) - omega^2 x(t))
    z(t) = H(v(t) - theta - q(t-1))
    q(t) = g q(t-1) + z(t)

x moves first and v takes the new x: a symplectic step, to which d omega^2 / 2 adds a damping that grows with frequency.
It does not grow while (d omega)^2 < 4/3 (1 - d (damping + q)), with room to spare for d omega <= 1. d is what a step of
the network is on the unit's own clock. There is no reset: a spike acts through q.

Higuchi, Kairat, Bohte & Otte 2024 and their program, `snn/modules/hrf.py`, where 0.005 omega^2 is d omega^2 / 2 with
d = 0.01, and the velocity is what spikes.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .brf import _Oscillator


class BHRFState(NamedTuple):
    """Velocity (what spikes), place, and what recent spikes add to threshold and damping."""

    voltage: Float[Array, "..."]
    place: Float[Array, "..."]
    recent: Float[Array, "..."]


class BHRF(_Oscillator):
    """Balanced harmonic resonate-and-fire.

    Args:
        size, damping, threshold, decay, clock, surrogate: as for `BRF`.
        omega: as for `BRF`, for the same bound.

    State: voltage (the velocity v), place (x), recent (q). All carry gradient.

    Raises:
        ArgumentError: omega above 1 / clock.

    Source: Higuchi et al. 2024.
    """

    @property
    def macs(self) -> int:
        """Damping, spring, place and q."""
        return 4

    def init_state(self) -> BHRFState:
        zeros = jnp.zeros(self.size, self.threshold.dtype)
        return BHRFState(zeros, zeros, zeros)

    def step(self, state: BHRFState, current: Array) -> tuple[BHRFState, Array]:
        d, square = self.clock, jnp.square(self._frequency())
        b = self.damping + d * square / 2 + state.recent
        place = state.place + d * state.voltage
        voltage = state.voltage + d * (current - 2 * b * state.voltage - square * place)
        spike = self._spike(voltage, state.recent)
        return BHRFState(voltage, place, self.decay * state.recent + spike), spike
