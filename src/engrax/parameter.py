"""Parameters of a neuron: a number or one number a unit, fixed unless wrapped in `trainable`.

A model's `step` reads plain arrays (`self.tau`). Trainable ones are stored as a `Parameter`; the engine calls
`resolve` on a model before it steps it, so gradients reach `Parameter.raw` and no model needs to know.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from ._checks import finite
from .errors import ArgumentError

# Other ways to be positive than by softplus.
WORDS = ("log", "power_of_two")
# Most places that a chip's decay shifts by: a decay of 1 - 2^-15 forgets in 32768 steps.
MOST_SHIFTS = 15


def _inverse_softplus(x: Array) -> Array:
    return x + jnp.log(-jnp.expm1(-x))


def time_constant(shift: Any, dt: float) -> Array:
    """tau (ms) whose decay over one step, exp(-dt / tau), is 1 - 2^-shift: what a chip computes by a shift.

    Args:
        shift: k, 1 to 15, one number or an array.
        dt: the time step, ms.
    """
    places = jnp.asarray(shift, jnp.result_type(float))
    return -dt / jnp.log1p(-jnp.exp2(-places))


def _by_shift(tau: Array, dt: float) -> Array:
    """The nearest time constant (in k) that is one of a shift's, with the derivative of tau itself."""
    held = jax.lax.stop_gradient(tau)
    shift = jnp.clip(jnp.round(-jnp.log2(-jnp.expm1(-dt / held))), 1, MOST_SHIFTS)
    # In this order the second term is an exact zero.
    return time_constant(shift, dt).astype(tau.dtype) + (tau - held)


# What a model's constructor takes: a number, an array, or a `Parameter`; what its `step` reads: an array.
Value: TypeAlias = Any


class Parameter(eqx.Module):
    """A trainable parameter. Made by `trainable`; `value` is what the model sees, `raw` what the optimiser moves."""

    raw: Float[Array, "..."]
    positive: bool | str = eqx.field(static=True, default=False)
    bounds: tuple[float, float] | None = eqx.field(static=True, default=None)
    prior: tuple[str, float, float] | None = eqx.field(static=True, default=None)
    dt: float = eqx.field(static=True, default=1.0)

    @property
    def value(self) -> Float[Array, "..."]:
        """The parameter itself: `raw`, or what keeps it positive or within its bounds."""
        if self.bounds is not None:
            low, high = self.bounds
            return low + (high - low) * jax.nn.sigmoid(self.raw)
        if self.positive == "log":
            return jnp.exp(self.raw)
        if self.positive == "power_of_two":
            return _by_shift(jnp.exp(self.raw), self.dt)
        return jax.nn.softplus(self.raw) if self.positive else self.raw

    def draw(self, key: PRNGKeyArray) -> "Parameter":
        """The same with each unit's value drawn from `prior`: ("normal", mean, spread) or ("uniform", low, high)."""
        assert self.prior is not None
        kind, first, second = self.prior
        shape, dtype = self.raw.shape, self.raw.dtype
        if kind == "uniform":
            return self.at(jax.random.uniform(key, shape, dtype, first, second))
        return self.at(first + second * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype))

    def at(self, value: Float[Array, "..."]) -> "Parameter":
        """The same parameter with another value."""
        return dataclasses.replace(self, raw=_raw(value, self.positive, self.bounds))

    def with_dt(self, dt: float) -> "Parameter":
        """The same number in a neuron of another time step (milliseconds)."""
        return dataclasses.replace(self, dt=dt)


def trainable(
    x: ArrayLike | Sequence[float] | None = None,
    positive: bool | str = False,
    *,
    bounds: Sequence[float] | None = None,
    spread: float = 0.0,
) -> Parameter:
    """Mark a neuron's parameter as trainable.

    Args:
        x: the initial value, a scalar or one value a unit. None, with bounds: each unit's is drawn evenly within them.
        positive: keep it positive by construction. True: softplus of the stored number, which for values well above 1
            moves like the value itself. "log": its exponential, which moves by shares of the value. Use one of them, or
            bounds, for every time constant. "power_of_two", for time constants alone: as "log", then rounded so that
            the decay is exp(-dt / tau) = 1 - 2^-k, k an integer from 1 to 15, which a chip computes by a shift. The
            gradient passes the rounding unchanged. The time step is that of the neuron that holds it, which a network
            sets.
        bounds: (low, high), between which the value stays by construction: a sigmoid of the stored number.
        spread: standard deviation of the units' initial values about x; none is further from it than twice that.

    Values are drawn when a network is, by its key and by `net.initialize`; until then all are x, or midway.

    Raises:
        ArgumentError: `x` is not finite, or not positive or within the bounds where that was asked, or may be drawn so.
    """
    if not isinstance(positive, bool) and not (isinstance(positive, str) and positive in WORDS):
        words = " or ".join(map(repr, WORDS))
        raise ArgumentError(f"trainable: positive must be True, False, {words}, got {positive!r}.")
    limits = None if bounds is None else _bounds(bounds)
    if limits is not None and positive:
        raise ArgumentError("trainable: give positive or bounds, not both.")
    spread = finite("trainable: spread", spread, 0)
    if x is None:
        if limits is None or spread:
            raise ArgumentError("trainable: give x, or bounds alone, within which each unit's value is drawn.")
        low, high = limits
        # Where a sigmoid has a slope left.
        edge = 0.01 * (high - low)
        middle = _as_float("x", (low + high) / 2)
        return Parameter(_raw(middle, False, limits), False, limits, ("uniform", low + edge, high - edge))
    value = _as_float("x", x)
    if spread and value.ndim:
        raise ArgumentError(f"trainable: a spread needs one x to spread about, got {x!r}.")
    low, high = limits or (0.0 if positive else -np.inf, np.inf)
    if not _holds((value - 2 * spread > low) & (value + 2 * spread < high)):
        asked = f"bounds={limits}" if limits else f"positive={positive!r}"
        must = "lie between them" if limits else "be > 0"
        more = f" by more than 2 spreads of {spread:g}" if spread else ""
        raise ArgumentError(f"trainable(x, {asked}): x must {must}{more}, got {x!r}.")
    prior = ("normal", float(value), spread) if spread else None
    return Parameter(_raw(value, positive, limits), positive, limits, prior)


def _raw(value: Array, positive: bool | str, bounds: tuple[float, float] | None) -> Array:
    if bounds is not None:
        low, high = bounds
        return jnp.log(value - low) - jnp.log(high - value)
    if positive in WORDS:
        return jnp.log(value)
    return _inverse_softplus(value) if positive else value


def _bounds(x: Any) -> tuple[float, float]:
    pair = list(x) if isinstance(x, Sequence | np.ndarray) and not isinstance(x, str) else []
    if len(pair) != 2:
        raise ArgumentError(f"trainable: bounds must be (low, high), got {x!r}.")
    low, high = (finite("trainable: bounds", end) for end in pair)
    if not low < high:
        raise ArgumentError(f"trainable: the lower of the bounds must be less than the upper, got {x!r}.")
    return low, high


def resolve(tree: PyTree) -> PyTree:
    """The same tree with every `Parameter` replaced by its value."""
    return jax.tree.map(lambda p: p.value if is_parameter(p) else p, tree, is_leaf=is_parameter)


def is_parameter(x: object) -> bool:
    """Whether `x` is a trainable `Parameter`."""
    return isinstance(x, Parameter)


def _holds(condition: Array) -> bool:
    # Under a transformation the value is not known; the check was made when the model was first built.
    return True if isinstance(condition, jax.core.Tracer) else bool(np.all(np.asarray(condition)))


def _as_float(name: str, x: Any) -> Array:
    if isinstance(x, bool) or not isinstance(x, int | float | list | tuple | np.ndarray | np.generic | jax.Array):
        raise ArgumentError(f"{name} must be a number or an array of numbers, got {x!r}.")
    try:
        # By way of NumPy: a Python float would become a weakly typed array, and those compile anew.
        value = x if isinstance(x, jax.Array) else jnp.asarray(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be a number or an array of numbers, got {x!r}.") from error
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise ArgumentError(f"{name} must be real numbers, got dtype {value.dtype}.")
    if jnp.issubdtype(value.dtype, jnp.integer):
        value = value.astype(jnp.result_type(float))
    if not _holds(jnp.isfinite(value)):
        raise ArgumentError(f"{name} must be finite, got {x!r}.")
    return value


def parameter(
    name: str,
    default: Any = None,
    *,
    minimum: float | None = None,
    exclusive: bool = False,
) -> Any:
    """A dataclass field that holds a model's parameter: a scalar, one value a unit, or a `trainable` of either.

    Args:
        name: the argument's name, for error messages.
        default: its default value; None makes it required.
        minimum: smallest value allowed.
        exclusive: whether `minimum` itself is refused.
    """
    extra: dict[str, Any] = {} if default is None else {"default": default}
    return eqx.field(converter=checked(name, minimum, exclusive), metadata={"parameter": name}, **extra)


def checked(name: str, minimum: float | None = None, exclusive: bool = False) -> Callable[[Any], Array | Parameter]:
    """The converter of such a field."""

    def convert(x: Any) -> Array | Parameter:
        if is_parameter(x):
            if x.positive == "power_of_two" and not name.startswith("tau"):
                raise ArgumentError(f"{name} is no time constant: positive='power_of_two' rounds the decay of one.")
            check(x.value)
            return x
        value = _as_float(name, x)
        check(value)
        return value

    def check(value: Array) -> None:
        if minimum is None:
            return
        if not _holds(value > minimum if exclusive else value >= minimum):
            sign = ">" if exclusive else ">="
            raise ArgumentError(f"{name} must be {sign} {minimum:g}, got {value}.")

    return convert


def choice(name: str, default: str, options: tuple[str, ...]) -> Any:
    """A static dataclass field that holds one of a few words."""

    def convert(x: Any) -> str:
        if not isinstance(x, str) or x not in options:
            raise ArgumentError(f"{name} must be one of {', '.join(map(repr, options))}, got {x!r}.")
        return x

    return eqx.field(converter=convert, static=True, default=default)


def positive_integer(name: str) -> Callable[[Any], int]:
    """A converter for a static size or count: an integer of at least 1."""

    def convert(x: Any) -> int:
        if isinstance(x, bool) or not isinstance(x, int | np.integer) or x < 1:
            raise ArgumentError(f"{name} must be an integer of at least 1, got {x!r}.")
        return int(x)

    return convert
