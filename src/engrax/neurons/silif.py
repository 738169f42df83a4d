"""SiLIF: the adaptive unit in the parameters of structured state-space models.

    w(t) = rho w(t-1) + q (a v(t-1) + b z(t-1))         rho = exp(-pace dt / tau_adaptation)
    v(t) = alpha (v(t-1) - v_th z(t-1)) + (1 - alpha) (I(t) - w(t))
    z(t) = H(v(t) - v_th)                               alpha = exp(-pace dt / tau)

It is `AdLIF` without 1 - rho beside q, which is 1, and with a step that a unit's two decays share, `pace`.

Fabre, Dudchenko, Bouhadjar & Neftci 2025 and their program (`models/snns.py`), which optimises logarithms of the rates
and of the step: `trainable(x, positive="log")`.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..parameter import Value, choice, parameter
from .adlif import AdLIF
from .surrogates import Boxcar, Surrogate, as_surrogate


class SiLIF(AdLIF):
    """Adaptive leaky integrate-and-fire in a state-space model's parameters.

    Args:
        size, tau, tau_adaptation, threshold, refractory, input_scale, a, b, integration: as for `AdLIF`.
        reset, coupled: as for `AdLIF`; by default "subtract" and "before".
        gain: q, by which both couplings are multiplied.
        pace: > 0; both of a unit's decays see pace times the network's step.
        surrogate: pseudo-derivative of the spike; default `Boxcar(1.0, 0.5)`.

    Source: Fabre et al. 2025.
    """

    reset: str = choice("reset", "subtract", ("zero", "subtract"))
    coupled: str = choice("coupled", "before", ("after", "before"))
    surrogate: Surrogate = eqx.field(default=Boxcar(1.0, 0.5), converter=as_surrogate)
    gain: Value = parameter("gain", 1.0, minimum=0, exclusive=True)
    pace: Value = parameter("pace", 1.0, minimum=0, exclusive=True)

    def _decays(self) -> tuple[Array, Array, Array]:
        alpha, rho = (jnp.exp(-self.pace * self.dt / tau) for tau in (self.tau, self.tau_adaptation))
        return alpha, rho, self.gain
