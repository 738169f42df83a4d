"""Surrogates: the spike is a step function, its derivative is replaced by a smooth pseudo-derivative psi(x).

x is the voltage above threshold, v - A. All go through one `custom_jvp`, so forward mode (eligibility traces, RTRL)
and reverse mode (BPTT) see the same psi. Widths are in the units of the voltage; `width=None` stands for the
unit's own baseline threshold, the scaling of Bellec et al. 2020.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError, unknown


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spike(psi: Callable[[Array, Array], Array], x: Array, scale: Array) -> Array:
    return (x > 0).astype(x.dtype)


@_spike.defjvp
def _spike_jvp(psi: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, scale = primals
    return _spike(psi, x, scale), psi(x, scale) * tangents[0]


def _real(name: str, minimum: float = 0.0) -> Callable[[Any], float]:
    def convert(x: Any) -> float:
        return finite(f"surrogate: {name}", x, minimum, exclusive=True)

    return convert


def _width(x: Any) -> float | None:
    return None if x is None else _real("width")(x)


class Surrogate(eqx.Module):
    """Base class: define `psi(x, threshold)`, the pseudo-derivative of the spike by the voltage."""

    def psi(self, x: Float[Array, "..."], threshold: Float[Array, "..."]) -> Float[Array, "..."]:
        """Pseudo-derivative at `x` = v - A; `threshold` is the baseline threshold, for relative widths."""
        raise TypeError(f"{type(self).__name__} must define psi(x, threshold).")

    def relative(self) -> bool:
        """Whether psi scales with the threshold, so that it keeps its shape when voltages are rescaled."""
        return getattr(self, "width", 0.0) is None

    def __call__(self, x: Float[Array, "..."], threshold: Float[Array, "..."]) -> Float[Array, "..."]:
        """The spike: 1 where x > 0 (strictly), else 0; differentiates as psi."""
        return _spike(self.psi, x, threshold)


class Triangular(Surrogate):
    """psi = dampening / w * max(0, 1 - |x| / w). Zero beyond w. Bellec et al. 2020 (dampening 0.3, w the threshold)."""

    dampening: float = eqx.field(static=True, default=0.3, converter=_real("dampening"))
    width: float | None = eqx.field(static=True, default=None, converter=_width)

    def psi(self, x: Array, threshold: Array) -> Array:
        w = threshold if self.width is None else self.width
        return self.dampening / w * jnp.maximum(0, 1 - jnp.abs(x) / w)


def _normal(x: Array, sigma: float) -> Array:
    return jnp.exp(-0.5 * jnp.square(x / sigma)) / (sigma * (2 * jnp.pi) ** 0.5)


class Gaussian(Surrogate):
    """psi = dampening * N(x; 0, sigma). Yin et al. 2020 (sigma 0.5; their code multiplies by 0.5)."""

    sigma: float = eqx.field(static=True, default=0.5, converter=_real("sigma"))
    dampening: float = eqx.field(static=True, default=0.5, converter=_real("dampening"))

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.dampening * _normal(x, self.sigma)


class MultiGaussian(Surrogate):
    """psi = dampening * ((1 + h) N(x; 0, sigma) - h N(x; sigma, s sigma) - h N(x; -sigma, s sigma)). Yin et al. 2021.

    The negative tails pull far-off units back towards their threshold.
    """

    sigma: float = eqx.field(static=True, default=0.5, converter=_real("sigma"))
    h: float = eqx.field(static=True, default=0.15, converter=_real("h"))
    s: float = eqx.field(static=True, default=6.0, converter=_real("s"))
    dampening: float = eqx.field(static=True, default=0.5, converter=_real("dampening"))

    def psi(self, x: Array, threshold: Array) -> Array:
        wide = self.s * self.sigma
        tails = _normal(x - self.sigma, wide) + _normal(x + self.sigma, wide)
        return self.dampening * ((1 + self.h) * _normal(x, self.sigma) - self.h * tails)


class DoubleGaussian(Surrogate):
    """psi = dampening * ((1 + h) N(x; 0, sigma) - 2 h N(x; 0, s sigma)). Higuchi et al. 2024.

    `MultiGaussian` with both tails in the middle: nowhere does it differ by more than 0.0006.
    """

    sigma: float = eqx.field(static=True, default=0.5, converter=_real("sigma"))
    h: float = eqx.field(static=True, default=0.15, converter=_real("h"))
    s: float = eqx.field(static=True, default=6.0, converter=_real("s"))
    dampening: float = eqx.field(static=True, default=0.5, converter=_real("dampening"))

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.dampening * ((1 + self.h) * _normal(x, self.sigma) - 2 * self.h * _normal(x, self.s * self.sigma))


class Boxcar(Surrogate):
    """psi = height where |x| < w, else 0. Kaiser et al. 2020 (height 1, w 0.5); adLIF of Bittar & Garner 2022."""

    height: float = eqx.field(static=True, default=1.0, converter=_real("height"))
    width: float | None = eqx.field(static=True, default=None, converter=_width)

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.height * (jnp.abs(x) < (threshold if self.width is None else self.width)).astype(x.dtype)


class FastSigmoid(Surrogate):
    """psi = height / (1 + |x| / w)^2. Zenke & Ganguli 2018; NEST's fast_sigmoid_derivative."""

    height: float = eqx.field(static=True, default=1.0, converter=_real("height"))
    width: float | None = eqx.field(static=True, default=None, converter=_width)

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.height / jnp.square(1 + jnp.abs(x) / (threshold if self.width is None else self.width))


class Arctan(Surrogate):
    """psi = height / (1 + (x / w)^2). Fang et al. 2021; NEST's arctan."""

    height: float = eqx.field(static=True, default=1.0, converter=_real("height"))
    width: float | None = eqx.field(static=True, default=None, converter=_width)

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.height / (1 + jnp.square(x / (threshold if self.width is None else self.width)))


class Exponential(Surrogate):
    """psi = height * exp(-|x| / w). Shrestha & Orchard 2018 (SLAYER: height 1, w 0.2); NEST's exponential."""

    height: float = eqx.field(static=True, default=1.0, converter=_real("height"))
    width: float | None = eqx.field(static=True, default=None, converter=_width)

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.height * jnp.exp(-jnp.abs(x) / (threshold if self.width is None else self.width))


class Custom(Surrogate):
    """psi = function(x), the user's own. A plain function given as `surrogate=` becomes one of these."""

    function: Callable[[Array], Array] = eqx.field(static=True, converter=lambda x: _function(x))

    def psi(self, x: Array, threshold: Array) -> Array:
        return self.function(x)


def _function(x: Any) -> Callable[[Array], Array]:
    if not callable(x):
        raise ArgumentError(f"surrogate: function must be a function psi(x), got {x!r}.")
    return x


NAMED: dict[str, type[Surrogate]] = {
    "triangular": Triangular,
    "gaussian": Gaussian,
    "multi_gaussian": MultiGaussian,
    "double_gaussian": DoubleGaussian,
    "boxcar": Boxcar,
    "fast_sigmoid": FastSigmoid,
    "arctan": Arctan,
    "exponential": Exponential,
}


def as_surrogate(x: Any) -> Surrogate:
    """A surrogate from itself, its name, or a function psi(x).

    Raises:
        ArgumentError: neither of these.
    """
    if isinstance(x, Surrogate):
        return x
    if isinstance(x, str):
        if x not in NAMED:
            raise unknown("surrogate", x, NAMED)
        return NAMED[x]()
    if callable(x) and not isinstance(x, type):
        return Custom(x)
    raise ArgumentError(f"surrogate must be a Surrogate, one of {', '.join(NAMED)}, or a function psi(x), got {x!r}.")
