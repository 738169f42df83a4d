"""What loops over time are told: populations as they start and end, what they send, and the weights between them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..events import Events

# As `Coefficient`, `Kind`, `Reset`, `Activation` and `Trace` in native/loops.h.
COEFFICIENTS = (
    *("alpha", "gain", "bias", "threshold", "rho", "jump", "beta", "height", "slope"),
    *("synapse", "intake"),
)
KINDS = ("spiking", "leaky", "rate")
RESETS = ("subtract", "threshold", "zero")
ACTIVATIONS = ("tanh", "relu", "sigmoid")
TRACES = ("full", "simplified", "none")


class Unit(NamedTuple):
    """The dynamics of a population, by the equations of `Coefficient` in native/loops.h.

    kind: "spiking", "leaky" or "rate". coefficients: by name, scalars or one number a unit; those left out are zero.
    reset: "subtract", "threshold" or "zero". activation: "tanh", "relu" or "sigmoid".
    adaptive, synaptic: whether there is an adaptation, and whether currents pass a synapse.
    period: steps of the refractory period, or None.
    psi: the pseudo-derivative by voltage above threshold; None: a triangle by "height" and "slope".
    trace: what local rules know of a spike's way into the adaptation, and from there to later spikes: "full"; all
        but those that raise it ("simplified"); "none".

    State variables are voltage, or rate, adaptation, synaptic and refractory.
    """

    kind: str
    coefficients: dict[str, Array]
    reset: str = "subtract"
    activation: str = "tanh"
    adaptive: bool = False
    synaptic: bool = False
    period: Array | None = None
    psi: Callable[[Array], Array] | None = None
    trace: str = "full"

    @property
    def spiking(self) -> bool:
        """Whether the unit has a threshold."""
        return self.kind == "spiking"

    def above(self, voltage: Array, adaptation: Array | None, waiting: Array | None) -> Array:
        """Voltage above threshold in a state, infinite where the unit must not spike."""
        high = jnp.broadcast_to(self.coefficients["threshold"], voltage.shape)
        if adaptation is not None:
            high = high + jnp.broadcast_to(self.coefficients["beta"], voltage.shape) * adaptation
        x = voltage - high
        return x if waiting is None else jnp.where(waiting > 0, jnp.inf, x)

    def slope(self, above: Array) -> Array:
        """The pseudo-derivative there."""
        if self.psi is not None:
            # Refractory units: no function needs to know what it is at infinity.
            x = jnp.where(jnp.isinf(above), 0, above)
            return jnp.where(jnp.isinf(above), 0, self.psi(x))
        height, slope = (jnp.broadcast_to(self.coefficients[n], above.shape) for n in ("height", "slope"))
        return height * jnp.maximum(0, 1 - jnp.abs(above) * slope)


class Signal(NamedTuple):
    """What units send: `numbers` (steps, batch, units), `bits` (steps, batch, words), 32 to a word, or `events`.

    history: what they sent before, (depth, batch, units), oldest first, where a delay reaches it.
    where: places at which `numbers` are not zero, by `loops.listed`.
    """

    units: int
    numbers: Array | None
    bits: Array | None = None
    events: Events | None = None
    history: Array | None = None
    where: tuple[Array, ...] = ()

    def fields(self) -> list[int]:
        """Units, form, depth and capacity, as native/loops.cc reads them."""
        form = 1 if self.bits is not None else 4 if self.where else 0 if self.numbers is not None else 2
        capacity = 0
        if self.events is not None:
            form, capacity = 2 if self.events.values is None else 3, self.events.places.shape[-1]
        return [self.units, form, 0 if self.history is None else self.history.shape[0], capacity]

    def arrays(self) -> list[Array]:
        """As listed there."""
        events = (None, None) if self.events is None else (self.events.places, self.events.values)
        return those(self.numbers, self.bits, *events, *self.where, self.history)


class Start(NamedTuple):
    """A population before a run: state variables (batch, units), and past outputs (depth, batch, units), oldest first.

    keep: what is wanted of every step: "above" (voltage above threshold), "voltage", "adaptation", "synaptic",
        "phi" (derivative of a rate's nonlinearity), "slopes" (pseudo-derivatives that are not zero).
    """

    unit: Unit
    bias: Array
    voltage: Array
    adaptation: Array | None
    synaptic: Array | None
    waiting: Array | None
    history: Array | None
    keep: tuple[str, ...]

    def spikes(self) -> Array:
        """Which units had just spiked, 0 or 1."""
        above = self.unit.above(self.voltage, self.adaptation, self.waiting)
        return ((above > 0) & ~jnp.isinf(above)).astype(self.voltage.dtype)


class End(NamedTuple):
    """A population after a run, as errors come back to it.

    tape: "phi"; "above" or "slopes", "first_above"; by reset: "spikes" (bits) and "first_spikes", "voltage" and
        "first_voltage", "adaptation".
    entering: dE at every step by "output" ("arriving"), by voltage ("at_voltage"), adaptation ("at_adaptation") and
        synaptic current ("at_synaptic").
    voltage, adaptation, synaptic: dE by the final state. depth: of the past outputs that errors reach.
    local: hold the reset constant. delta: whether it is wanted, step by step. learned: whether dE by coefficients is:
        the tape then has "voltage" and "adaptation" of every step, "first_voltage", "first_adaptation", and spikes.
    """

    unit: Unit
    size: int
    tape: dict[str, Array]
    entering: dict[str, Array]
    voltage: Array
    adaptation: Array | None
    synaptic: Array | None
    depth: int
    local: bool
    delta: bool
    learned: bool = False


class Edge(NamedTuple):
    """Weights (post, pre) between two populations by their places, `delay` steps apart; one of them may be outside.

    pre, post: -1 is outside. source: what it sends, ahead. error: (steps, batch, units) there, back.
    """

    pre: int
    post: int
    delay: int
    weight: Array
    source: Signal | None = None
    error: Array | None = None


class Gradient(NamedTuple):
    """The gradient by the weights through which `pre` reaches a population, by its place, `delay` steps later.

    trial_units: None, or: each trial's own, of the first so many units of `post`.
    """

    post: int
    delay: int
    pre: Signal
    trial_units: int | None = None


def unpacked(bits: Array, units: int, dtype: Any) -> Array:
    """Spikes (..., units), 0 or 1, from bits (..., words), 32 to a word."""
    places = jnp.broadcast_to(jnp.arange(32, dtype=jnp.uint32), (*bits.shape, 32))
    spikes = jnp.broadcast_to(bits[..., None], places.shape) >> places & jnp.ones_like(places)
    return spikes.reshape(*bits.shape[:-1], 32 * bits.shape[-1])[..., :units].astype(dtype)


def those(*arrays: Array | None) -> list[Array]:
    """Those that are there."""
    return [x for x in arrays if x is not None]
