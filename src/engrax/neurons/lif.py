"""Leaky integrate-and-fire unit.

    v(t) = alpha v(t-1) + s I(t) - v_th z(t-1)          alpha = exp(-dt / tau)
    z(t) = H(v(t) - v_th), 0 while refractory           s = 1, or 1 - alpha with input_scale="leak"

Bellec et al. 2020, Eqs. 6-7, and the authors' code where it decides the bits: the spike is strict (>), the reset
takes one threshold off in the step after the spike, the voltage goes on integrating while the unit is refractory,
and a refractory period of n steps blocks the n - 1 steps that follow a spike.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import ArgumentError
from ..kernels import Unit
from ..parameter import Parameter, Value, checked, choice, is_parameter, parameter, resolve, trainable
from .base import Neuron
from .surrogates import Surrogate, Triangular, as_surrogate


class LIFState(NamedTuple):
    """Voltage before reset, and the steps left of the refractory period."""

    voltage: Float[Array, "..."]
    refractory: Int[Array, "..."] | None


def _period(x: Any) -> Array | None:
    """A refractory period; None where no unit has one, so that nothing has to be counted."""
    if is_parameter(x):
        raise ArgumentError("refractory is a number of steps and cannot be trainable.")
    period = checked("refractory", minimum=0)(x)
    assert isinstance(period, jax.Array)
    known = not isinstance(period, jax.core.Tracer)
    return None if known and period.size and not np.any(np.asarray(period)) else period


class LIF(Neuron):
    """Leaky integrate-and-fire.

    Args:
        size: number of units.
        tau: membrane time constant, ms.
        threshold: firing threshold, > 0.
        refractory: refractory period, ms: the earliest next spike comes that long after the last (at least one step).
            0 everywhere: none, held as None.
        reset: "subtract" takes the threshold off after a spike; "zero" discards the voltage.
        input_scale: "one" adds the current as it is; "leak" multiplies it by 1 - alpha.
        surrogate: pseudo-derivative of the spike; default `Triangular(0.3)`, as wide as the threshold.

    Parameters may be scalars or one value a unit, fixed or `trainable`. State: voltage (before reset), refractory.

    Source: Bellec et al. 2020, Eqs. 6-7.
    """

    tau: Value = parameter("tau", 20.0, minimum=0, exclusive=True)
    threshold: Value = parameter("threshold", 1.0, minimum=0, exclusive=True)
    refractory: Value = eqx.field(default=0.0, converter=_period, metadata={"parameter": "refractory"})
    reset: str = choice("reset", "subtract", ("subtract", "zero"))
    input_scale: str = choice("input_scale", "one", ("one", "leak"))
    surrogate: Surrogate = eqx.field(default=Triangular(), converter=as_surrogate)

    spiking: ClassVar[bool] = True
    loop_times: ClassVar[tuple[str, ...]] = ("tau",)

    def init_state(self) -> LIFState:
        return LIFState(jnp.zeros(self.size, self.threshold.dtype), self._counter())

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        spiked = self._spike(state)
        return self._advance(state, current, spiked, spiked)

    def local_step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        spiked = jax.lax.stop_gradient(self._spike(state))
        return self._advance(state, current, spiked, spiked)

    def escape(self, state: Any, current: Array, spiked: Array) -> tuple[Any, Array, Array]:
        """One step of the unit with escape noise, whose spike is drawn by the caller.

        Args:
            state, current: as for `step`.
            spiked: whether it spiked in the step before.

        Returns:
            the next state, the voltage above threshold, and whether the unit must be silent (refractory).
        """
        after, _ = self._advance(state, current, spiked, spiked)
        blocked = jnp.zeros(self.size, bool) if after.refractory is None else after.refractory > 0
        return after, self._above(after), blocked

    def _advance(self, state: LIFState, current: Array, spiked: Array, resets: Array) -> tuple[LIFState, Array]:
        alpha = jnp.exp(-self.dt / self.tau)
        voltage = self._reset(alpha * state.voltage, resets, self.threshold) + self._drive(alpha, current)
        state = LIFState(voltage, self._count(state.refractory, spiked))
        return state, self._spike(state)

    def _spike(self, state: Any) -> Array:
        return self._gated(self._above(state), state.refractory)

    def _above(self, state: Any) -> Array:
        return state.voltage - self.threshold

    def _gated(self, above: Array, refractory: Array | None) -> Array:
        spike = self.surrogate(above, jnp.broadcast_to(self.threshold, above.shape))
        return spike if refractory is None else jnp.where(refractory == 0, spike, jnp.zeros_like(spike))

    def _drive(self, alpha: Array, current: Array) -> Array:
        return (1 - alpha) * current if self.input_scale == "leak" else current

    def _reset(self, voltage: Array, resets: Array, threshold: Array) -> Array:
        return voltage * (1 - resets) if self.reset == "zero" else voltage - threshold * resets

    def _counter(self) -> Array | None:
        return None if self.refractory is None else jnp.zeros(self.size, jnp.int32)

    def _count(self, left: Array | None, spiked: Array) -> Array | None:
        if left is None or self.refractory is None:
            return None
        steps = jnp.round(self.refractory / self.dt).astype(jnp.int32)
        return jnp.clip(left + steps * spiked.astype(jnp.int32) - 1, 0, jnp.maximum(steps, 0))

    def loop(self) -> Unit | None:
        return self._loop() if type(self) is LIF else None

    def _loop(self) -> Unit:
        alpha = jnp.exp(-self.dt / self.tau)
        gain = 1 - alpha if self.input_scale == "leak" else jnp.ones_like(alpha)
        coefficients = {"alpha": alpha, "gain": gain, "threshold": self.threshold}
        psi = None
        if type(self.surrogate) is Triangular:
            width = self.threshold if self.surrogate.width is None else jnp.full((), self.surrogate.width, alpha.dtype)
            coefficients |= {"height": self.surrogate.dampening / width, "slope": 1 / width}
        else:
            psi = lambda x: self.surrogate.psi(x, jnp.broadcast_to(self.threshold, x.shape))
        period = None if self.refractory is None else jnp.round(self.refractory / self.dt).astype(jnp.int32)
        return Unit("spiking", coefficients, self.reset, period=period, psi=psi)

    def uniform(self) -> tuple[str, ...]:
        return ("voltage",) if self.reset == "subtract" and self.tau.ndim == 0 else ()

    def with_input_scale(self, input_scale: str) -> "LIF":
        """The same unit in the other input-scaling convention: equal spikes for equal weights.

        Decays are those of the unit's own `dt`: give `dt=` to the model where the network's is not 1 ms.

        threshold(one) = threshold(leak) / (1 - alpha); the voltage scales with it. Needs a surrogate whose width
        is relative to the threshold.

        Raises:
            ArgumentError: unknown convention, or a surrogate of absolute width.
        """
        return self._rescaled(input_scale, {})

    def _rescaled(self, input_scale: str, more: dict[str, Any]) -> Any:
        if input_scale not in ("one", "leak"):
            raise ArgumentError(f"input_scale must be 'one' or 'leak', got {input_scale!r}.")
        if input_scale == self.input_scale:
            return self
        if not self.surrogate.relative():
            raise ArgumentError(
                "with_input_scale rescales voltages, so the surrogate's width must be relative to the threshold "
                "(width=None); give the new neuron its surrogate by hand."
            )
        tau = resolve(self.tau)
        factor = 1 - jnp.exp(-self.dt / tau)
        factor = factor if input_scale == "leak" else 1 / factor
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["refractory"] = 0.0 if self.refractory is None else self.refractory
        changed = {"input_scale": input_scale, "threshold": _times(self.threshold, factor), **more}
        return type(self)(**{**fields, **changed})


def _times(x: Array | Parameter, factor: Array) -> Array | Parameter:
    if not isinstance(x, Parameter):
        return x * factor
    if x.bounds is None:
        return trainable(x.value * factor, x.positive)
    by = np.unique(np.asarray(factor))
    if by.size > 1:
        raise ArgumentError("a parameter with bounds cannot be converted where each unit has a factor of its own.")
    return trainable(x.value * factor, bounds=[float(by[0]) * end for end in x.bounds])
