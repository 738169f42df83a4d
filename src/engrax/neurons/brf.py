"""Balanced resonate-and-fire unit: a damped oscillator that spikes at its crests, and is damped more after each.

    b(t) = p(omega) - damping - q(t-1)                  p(omega) = (-1 + sqrt(1 - (d omega)^2)) / d
    x(t) = x(t-1) + d (b(t) x(t-1) - omega y(t-1) + I(t))
    y(t) = y(t-1) + d (omega x(t-1) + b(t) y(t-1))
    z(t) = H(x(t) - theta - q(t-1))
    q(t) = g q(t-1) + z(t)

d is what a step of the network is on the unit's own clock, whatever `dt` is. With the damping p(omega) alone an Euler
step neither grows nor shrinks. There is no reset: a spike acts through q.

Higuchi, Kairat, Bohte & Otte 2024 and their program, `snn/modules/rf.py` (theta = 1, g = 0.9, d = 0.01). Their plain RF
unit, for comparison, has b(t) = -damping and no q.
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError
from ..parameter import Value, choice, parameter, resolve
from .base import Neuron
from .surrogates import DoubleGaussian, Surrogate, as_surrogate


class BRFState(NamedTuple):
    """The oscillator, x and y, and what recent spikes add to threshold and damping (None without)."""

    voltage: Float[Array, "..."]
    imaginary: Float[Array, "..."]
    recent: Float[Array, "..."] | None


class _Oscillator(Neuron):
    """What `BRF` and `BHRF` share: their parameters, the bound of the frequency, and how they spike."""

    omega: Value = parameter("omega", 10.0, minimum=0, exclusive=True)
    damping: Value = parameter("damping", 1.0, minimum=0)
    threshold: Value = parameter("threshold", 1.0, minimum=0, exclusive=True)
    decay: Value = parameter("decay", 0.9, minimum=0)
    clock: float = eqx.field(static=True, default=0.01, converter=lambda x: finite("clock", x, 0, exclusive=True))
    surrogate: Surrogate = eqx.field(default=DoubleGaussian(), converter=as_surrogate)

    spiking: ClassVar[bool] = True

    def __check_init__(self) -> None:
        omega = resolve(self.omega)
        if not isinstance(omega, jax.core.Tracer) and bool(jnp.any(omega * self.clock > 1)):
            raise ArgumentError(f"omega must be at most 1 / clock = {1 / self.clock:g}, got {omega}.")

    def _frequency(self) -> Array:
        """Just below the bound where training has passed it; the derivative goes through: it can return."""
        return self.omega + jax.lax.stop_gradient(jnp.minimum(self.omega, 0.999 / self.clock) - self.omega)

    def _spike(self, voltage: Array, recent: Array) -> Array:
        above = voltage - self.threshold - recent
        return self.surrogate(above, jnp.broadcast_to(self.threshold, above.shape))


class BRF(_Oscillator):
    """Balanced resonate-and-fire.

    Args:
        size: number of units.
        omega: angular frequency on the unit's clock, > 0 and at most 1 / clock; a trained one that passes it counts as
            the bound. A turn takes 2 pi / (omega clock) steps of the network.
        damping: >= 0, on that clock.
        threshold: theta > 0.
        decay: g of q, a step.
        kind: "balanced"; "plain" is without p(omega) and q, and grows where damping < clock omega^2 / 2.
        clock: d.
        surrogate: pseudo-derivative of the spike; default `DoubleGaussian()`.

    State: voltage (x), imaginary (y), recent (q). All carry gradient.

    Raises:
        ArgumentError: omega above 1 / clock, where an Euler step grows whatever the damping.

    Source: Higuchi et al. 2024.
    """

    kind: str = choice("kind", "balanced", ("balanced", "plain"))

    @property
    def macs(self) -> int:
        """Four for the turn, and one for q."""
        return 5 if self.kind == "balanced" else 4

    def init_state(self) -> BRFState:
        zeros = jnp.zeros(self.size, self.threshold.dtype)
        return BRFState(zeros, zeros, zeros if self.kind == "balanced" else None)

    def step(self, state: BRFState, current: Array) -> tuple[BRFState, Array]:
        x, y, recent = state
        d, b, omega = self.clock, -self.damping, self._frequency()
        held = jnp.zeros_like(x) if recent is None else recent
        if recent is not None:
            b = b - recent + (jnp.sqrt(1 - jnp.square(d * omega)) - 1) / d
        voltage = x + d * (b * x - omega * y + current)
        spike = self._spike(voltage, held)
        imaginary = y + d * (omega * x + b * y)
        return BRFState(voltage, imaginary, None if recent is None else self.decay * recent + spike), spike
