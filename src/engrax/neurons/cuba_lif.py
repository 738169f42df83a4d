"""Current-based leaky integrate-and-fire unit: the input passes a second leak, the synapse's, before the membrane's.

    i(t) = a_s i(t-1) + s_i I(t)                        a_s = exp(-dt / tau_synapse)
    v(t) = a_m v(t-1) + s_v i(t) - v_th z(t-1)          a_m = exp(-dt / tau)
    z(t) = H(v(t) - v_th), 0 while refractory           s_i = s_v = 1; 1 - a_s and 1 - a_m with input_scale="leak"

The membrane integrates the new i(t), as on Loihi (the CUBA model of Davies et al. 2018, as Lava's `proc/lif/models.py`
computes it: input_scale="one", reset="zero") and in snnTorch's `Synaptic` (input_scale="one", reset="subtract").
Neftci et al. 2019 and Norse (`functional/lif.py`, Euler steps, reset within the step) integrate the old i(t-1), which
is one step more of delay on all that reaches the unit. NIR's CubaLIF is in continuous time, tau_syn i' = -i + w_in I
and tau_mem v' = v_leak - v + r i: input_scale="leak" integrates it for w_in = r = 1 and v_leak = 0, holding I and the
new i over each step. Spike, reset and refractory period are those of LIF; no reset reaches i.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..errors import NetworkError
from ..kernels import Unit
from ..parameter import Value, parameter, resolve
from .event_unit import EventUnit
from .lif import LIF, _times


class CuBaLIFState(NamedTuple):
    """Synaptic current after the step's input, voltage before reset, and the steps left of the refractory period."""

    synaptic: Float[Array, "..."]
    voltage: Float[Array, "..."]
    refractory: Int[Array, "..."] | None


class CuBaLIF(LIF):
    """Current-based leaky integrate-and-fire: LIF whose input current is filtered by a synaptic time constant.

    Args:
        size, tau, threshold, refractory, reset, surrogate: as for `LIF`; a reset leaves the synaptic current alone.
        input_scale: "one" adds the current to the synaptic current, and that to the voltage, as they are; "leak"
            multiplies the first by 1 - a_s and the second by 1 - a_m, so that a constant current of 1 drives both to 1.
        tau_synapse: synaptic time constant, ms. Far below dt the unit is LIF.

    State: synaptic (its current), voltage (before reset), refractory. Two of them carry gradient. A bias of a
    projection passes the synaptic filter like any current.

    Source: Davies et al. 2018, in the order of operations of Lava's LIF process and snnTorch's Synaptic.
    """

    tau_synapse: Value = parameter("tau_synapse", 5.0, minimum=0, exclusive=True)

    def init_state(self) -> CuBaLIFState:
        zeros = jnp.zeros(self.size, self.threshold.dtype)
        return CuBaLIFState(zeros, zeros, self._counter())

    def step(self, state: CuBaLIFState, current: Array) -> tuple[CuBaLIFState, Array]:
        spiked = self._spike(state)
        return self._advance(state, current, spiked, spiked)

    def local_step(self, state: CuBaLIFState, current: Array) -> tuple[CuBaLIFState, Array]:
        spiked = jax.lax.stop_gradient(self._spike(state))
        return self._advance(state, current, spiked, spiked)

    def _advance(self, state: CuBaLIFState, current: Array, spiked: Array, resets: Array) -> tuple[CuBaLIFState, Array]:
        synapse, membrane = jnp.exp(-self.dt / self.tau_synapse), jnp.exp(-self.dt / self.tau)
        synaptic = synapse * state.synaptic + self._drive(synapse, current)
        kept = self._reset(membrane * state.voltage, resets, self.threshold)
        voltage = kept + self._drive(membrane, synaptic)
        state = CuBaLIFState(synaptic, voltage, self._count(state.refractory, spiked))
        return state, self._spike(state)

    def event_unit(self) -> EventUnit:
        """tau dv/dt = -v + i, tau_synapse di/dt = -i: a current of 1 over one step adds dt / tau_synapse to i; with
        input_scale="one", where a step adds all of both, tau / dt. Resets of both kinds are to 0."""
        if type(self) is not CuBaLIF:
            return super().event_unit()  # whose step may be another
        if self.refractory is not None:
            raise NetworkError("CuBaLIF has a refractory period, which an event-driven run has not.")
        tau, synapse, threshold = (jnp.broadcast_to(x, self.size) for x in (self.tau, self.tau_synapse, self.threshold))
        gain = self.dt / synapse if self.input_scale == "leak" else tau / self.dt
        return EventUnit(tau, synapse, threshold, gain, jnp.ones_like(tau))

    def loop(self) -> Unit | None:
        if type(self) is not CuBaLIF:
            return None
        unit, synapse = self._loop(), jnp.exp(-self.dt / self.tau_synapse)
        intake = 1 - synapse if self.input_scale == "leak" else jnp.ones_like(synapse)
        return unit._replace(synaptic=True, coefficients={**unit.coefficients, "synapse": synapse, "intake": intake})

    def uniform(self) -> tuple[str, ...]:
        # The voltage's eligibility vector holds the synaptic current's, so it is never shared alone.
        return ("synaptic", *super().uniform()) if self.tau_synapse.ndim == 0 else ()

    def with_input_scale(self, input_scale: str) -> "CuBaLIF":
        """The same unit in the other convention: equal spikes for equal weights.

        Decays are those of the unit's own `dt`: give `dt=` to the model where the network's is not 1 ms.

        threshold(one) = threshold(leak) / ((1 - a_s) (1 - a_m)); the voltage scales with it.

        Raises:
            ArgumentError: unknown convention, or a surrogate of absolute width.
        """
        synapse, membrane = resolve((self.tau_synapse, self.tau))
        factor = (1 - jnp.exp(-self.dt / synapse)) * (1 - jnp.exp(-self.dt / membrane))
        return self._rescaled(
            input_scale, {"threshold": _times(self.threshold, factor if input_scale == "leak" else 1 / factor)}
        )
