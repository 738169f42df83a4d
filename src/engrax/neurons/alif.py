"""Adaptive leaky integrate-and-fire unit: every spike raises its own threshold for a while.

    a(t) = rho a(t-1) + s_a z(t-1)                      rho = exp(-dt / tau_adaptation)
    A(t) = v_th + beta a(t)
    v(t) = alpha v(t-1) + s I(t) - v_th z(t-1)
    z(t) = H(v(t) - A(t)), 0 while refractory           s = s_a = 1; 1 - alpha and 1 - rho with input_scale="leak"

Bellec et al. 2020, Eqs. 8-10. The reset takes the baseline threshold off; reset="threshold" takes A(t) itself, as
Yin et al. 2021 do (with input_scale="leak").
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..kernels import TRACES, Unit
from ..parameter import Value, choice, parameter, resolve
from .base import Neuron
from .lif import LIF, _times


class ALIFState(NamedTuple):
    """Voltage before reset, adaptation, and the steps left of the refractory period."""

    voltage: Float[Array, "..."]
    adaptation: Float[Array, "..."]
    refractory: Int[Array, "..."] | None


class ALIF(LIF):
    """Adaptive leaky integrate-and-fire. An LSNN mixes units with beta = 0 (LIF) and beta > 0.

    Args:
        size, tau, threshold, refractory, input_scale, surrogate: as for `LIF`; `threshold` is the baseline.
        reset: "subtract" the baseline threshold, the unit's current "threshold" A(t), or to "zero".
        tau_adaptation: adaptation time constant, ms.
        beta: threshold increase per unit of adaptation, >= 0.
        trace: how local rules carry eligibility through the adaptation: in "full" (Eq. 25); "simplified", a spike's
            dependence on the adaptation left out of the adaptation's own course (Eq. 26); "none", as if spikes did not
            raise the threshold (a control). BPTT knows no difference.

    State: voltage (before reset), adaptation, refractory. Two of them carry gradient.

    Source: Bellec et al. 2020, Eqs. 8-10; Yin et al. 2021 for reset="threshold".
    """

    loop_times: ClassVar[tuple[str, ...]] = ("tau", "tau_adaptation")

    reset: str = choice("reset", "subtract", ("subtract", "threshold", "zero"))
    tau_adaptation: Value = parameter("tau_adaptation", 200.0, minimum=0, exclusive=True)
    beta: Value = parameter("beta", 1.0, minimum=0)
    trace: str = choice("trace", "full", TRACES)

    @property
    def macs(self) -> int:
        """Two leaks and the threshold's sum (Yin et al. 2021 count 2 to 3)."""
        return 3

    def init_state(self) -> ALIFState:
        zeros = jnp.zeros(self.size, self.threshold.dtype)
        return ALIFState(zeros, zeros, self._counter())

    def step(self, state: ALIFState, current: Array) -> tuple[ALIFState, Array]:
        spiked = self._spike(state)
        return self._advance(state, current, spiked, spiked)

    def local_step(self, state: ALIFState, current: Array) -> tuple[ALIFState, Array]:
        # The own spike inside the adaptation is part of the unit's dynamics; only the one in its reset is held.
        spiked = self._spike(state)
        held = jax.lax.stop_gradient(spiked)
        if self.trace == "none":
            return self._advance(state, current, held, held)
        if self.trace == "simplified":
            spiked = self._spike(state._replace(adaptation=jax.lax.stop_gradient(state.adaptation)))
        return self._advance(state, current, spiked, held)

    def _advance(self, state: ALIFState, current: Array, spiked: Array, resets: Array) -> tuple[ALIFState, Array]:
        alpha, rho = jnp.exp(-self.dt / self.tau), jnp.exp(-self.dt / self.tau_adaptation)
        gain = 1 - rho if self.input_scale == "leak" else 1
        adaptation = rho * state.adaptation + gain * spiked
        off = self.threshold + self.beta * adaptation if self.reset == "threshold" else self.threshold
        voltage = self._reset(alpha * state.voltage, resets, off) + self._drive(alpha, current)
        state = ALIFState(voltage, adaptation, self._count(state.refractory, spiked))
        return state, self._spike(state)

    def _above(self, state: ALIFState) -> Array:
        return state.voltage - self.threshold - self.beta * state.adaptation

    def loop(self) -> Unit | None:
        if type(self) is not ALIF:
            return None
        rho = jnp.exp(-self.dt / self.tau_adaptation)
        jump = 1 - rho if self.input_scale == "leak" else jnp.ones_like(rho)
        unit = self._loop()
        own = {"rho": rho, "jump": jump, "beta": self.beta}
        return unit._replace(coefficients=unit.coefficients | own, adaptive=True, trace=self.trace)

    def with_input_scale(self, input_scale: str) -> "ALIF":
        """The same unit in the other convention: equal spikes for equal weights.

        Decays are those of the unit's own `dt`: give `dt=` to the model where the network's is not 1 ms.

        threshold(one) = threshold(leak) / (1 - alpha) and beta(one) = beta(leak) (1 - rho) / (1 - alpha).

        Raises:
            ArgumentError: unknown convention, or a surrogate of absolute width.
        """
        tau, slow = resolve((self.tau, self.tau_adaptation))
        ratio = (1 - jnp.exp(-self.dt / slow)) / (1 - jnp.exp(-self.dt / tau))
        return self._rescaled(input_scale, {"beta": _times(self.beta, ratio if input_scale == "one" else 1 / ratio)})


def with_trace(neuron: Neuron, trace: str) -> Neuron:
    """A copy with another `trace`; the model itself where it has no adaptation."""
    if not isinstance(neuron, ALIF):
        return neuron
    copy = neuron.with_dt(neuron.dt)
    object.__setattr__(copy, "trace", trace)
    return copy
