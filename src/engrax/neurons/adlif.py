"""Leaky integrate-and-fire unit with an adaptation current, that voltage and spikes drive: it may oscillate.

    r(t) = v(t-1), less what the reset takes off where z(t-1) = 1
    w(t) = rho w(t-1) + q (1 - rho) (a r(t) + b z(t-1))    rho = exp(-dt / tau_adaptation)
    v(t) = alpha r(t) + s (I(t) - w)                       alpha = exp(-dt / tau), s = 1 - alpha
    z(t) = H(v(t) - v_th)

With integration="symplectic" w in the third line is w(t), with "euler" it is w(t-1): forward in both. Where the unit
oscillates, a step multiplies its energy by alpha rho in the first form and by alpha rho + (1 - alpha) q (1 - rho) a in
the second, which may exceed 1 (Baronig et al. 2025, who call the first SE-adLIF, with q = 120 and a reset to zero).
Bittar & Garner's adLIF (2022) is, in their program, of the first kind as well, with another drive: v(t-1) before the
reset in place of r(t) (coupled="before"), and a factor of 1 in place of q (1 - rho), as `SiLIF` has it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..parameter import Value, choice, parameter, resolve
from .lif import LIF, _times


class AdLIFState(NamedTuple):
    """Voltage before reset, adaptation current, and the steps left of the refractory period."""

    voltage: Float[Array, "..."]
    adaptation: Float[Array, "..."]
    refractory: Int[Array, "..."] | None


class AdLIF(LIF):
    """Leaky integrate-and-fire with an adaptation current.

    Args:
        size, tau, threshold, refractory, surrogate: as for `LIF`.
        reset: "zero" discards the voltage after a spike, "subtract" takes the threshold off.
        input_scale: "leak" multiplies current less adaptation by 1 - alpha; "one" takes them as they are.
        tau_adaptation: time constant of the adaptation current, ms.
        a: adaptation that a unit of voltage drives. With a > 0 the unit resonates. From 0 to 1 in SE-adLIF and SiLIF,
            from -1 to 1 in adLIF.
        b: adaptation that a spike adds, >= 0.
        gain: q, by which both are multiplied.
        integration: "symplectic" or "euler".
        coupled: whether a multiplies the voltage "after" the reset or "before".

    State: voltage (before reset), adaptation, refractory. Two of them carry gradient. The derivative of a spike in the
    adaptation belongs to the unit's dynamics; local rules hold the one in the reset constant.

    Source: Baronig, Ferrand, Sabathiel & Legenstein 2025 (SE-adLIF); Bittar & Garner 2022 (adLIF).
    """

    reset: str = choice("reset", "zero", ("zero", "subtract"))
    input_scale: str = choice("input_scale", "leak", ("one", "leak"))
    tau_adaptation: Value = parameter("tau_adaptation", 200.0, minimum=0, exclusive=True)
    a: Value = parameter("a", 0.5)
    b: Value = parameter("b", 1.0, minimum=0)
    gain: Value = parameter("gain", 120.0, minimum=0, exclusive=True)
    integration: str = choice("integration", "symplectic", ("symplectic", "euler"))
    coupled: str = choice("coupled", "after", ("after", "before"))

    @property
    def macs(self) -> int:
        """Two leaks and two couplings."""
        return 4

    def init_state(self) -> AdLIFState:
        zeros = jnp.zeros(self.size, self.threshold.dtype)
        return AdLIFState(zeros, zeros, self._counter())

    def step(self, state: AdLIFState, current: Array) -> tuple[AdLIFState, Array]:
        spiked = self._spike(state)
        return self._advance(state, current, spiked, spiked)

    def local_step(self, state: AdLIFState, current: Array) -> tuple[AdLIFState, Array]:
        spiked = self._spike(state)
        return self._advance(state, current, spiked, jax.lax.stop_gradient(spiked))

    def _advance(self, state: AdLIFState, current: Array, spiked: Array, resets: Array) -> tuple[AdLIFState, Array]:
        alpha, rho, push = self._decays()
        kept = self._reset(state.voltage, resets, self.threshold)
        drives = kept if self.coupled == "after" else state.voltage
        adaptation = rho * state.adaptation + push * (self.a * drives + self.b * spiked)
        felt = adaptation if self.integration == "symplectic" else state.adaptation
        voltage = alpha * kept + self._drive(alpha, current - felt)
        state = AdLIFState(voltage, adaptation, self._count(state.refractory, spiked))
        return state, self._spike(state)

    def _decays(self) -> tuple[Array, Array, Array]:
        """Of voltage and adaptation, and what the adaptation's drive is multiplied by."""
        rho = jnp.exp(-self.dt / self.tau_adaptation)
        return jnp.exp(-self.dt / self.tau), rho, self.gain * (1 - rho)

    def uniform(self) -> tuple[str, ...]:
        return ()

    def with_input_scale(self, input_scale: str) -> "AdLIF":
        """The same unit in the other convention: equal spikes for equal weights.

        Decays are those of the unit's own `dt`: give `dt=` to the model where the network's is not 1 ms.

        threshold(one) = threshold(leak) / (1 - alpha) and a(one) = a(leak) (1 - alpha).

        Raises:
            ArgumentError: unknown convention, or a surrogate of absolute width.
        """
        factor = 1 - resolve(self)._decays()[0]
        factor = factor if input_scale == "leak" else 1 / factor
        more = {"threshold": _times(self.threshold, factor), "a": _times(self.a, 1 / factor)}
        return self._rescaled(input_scale, more)
