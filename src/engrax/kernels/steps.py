"""One step of a population, forwards and backwards, as JAX arrays: what `sweeps` runs inside its kernels.

The equations are those of `Coefficient` in native/loops.h. Arrays are (trials, units), coefficients rows (1, units).
What a population does not have is None.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array


class Form(NamedTuple):
    """What of a population is no number. given: errors come with psi. local: no error passes its reset."""

    kind: str
    reset: str
    activation: str
    adaptive: bool
    synaptic: bool
    refractory: bool
    given: bool = False
    local: bool = False


class State(NamedTuple):
    """A population between steps; `spikes`: its own, as its reset needs them."""

    voltage: Array
    adaptation: Any
    synaptic: Any
    waiting: Any
    spikes: Any


class Errors(NamedTuple):
    """dE by a population's state and by its spikes as its own dynamics see them."""

    voltage: Array
    adaptation: Any
    synaptic: Any
    spikes: Any


class Past(NamedTuple):
    """What errors need of a step: psi, or phi of a rate; for some resets spikes and voltage before, and adaptation."""

    psi: Any
    before: Any
    voltage_before: Any
    adaptation: Any


def ahead(form: Form, c: dict[str, Array], state: State, current: Array) -> tuple[State, Array, Array]:
    """The next state, the output, and what errors ask for: voltage above threshold, or phi, the slope of a rate."""
    if form.synaptic:
        current = c["synapse"] * state.synaptic + c["intake"] * current
        state = state._replace(synaptic=current)
    if form.kind == "spiking":
        return _spike(form, c, state, current)
    phi = jnp.zeros_like(current)
    if form.kind == "rate":
        current, phi = _activate(form.activation, current)
    voltage = c["alpha"] * state.voltage + c["gain"] * current
    return state._replace(voltage=voltage), voltage, phi


def _activate(activation: str, x: Array) -> tuple[Array, Array]:
    if activation == "relu":
        return jnp.maximum(x, 0), (x > 0).astype(x.dtype)
    y = jnp.tanh(x) if activation == "tanh" else 1 / (1 + jnp.exp(-x))
    return y, 1 - y * y if activation == "tanh" else y * (1 - y)


def _spike(form: Form, c: dict[str, Array], state: State, current: Array) -> tuple[State, Array, Array]:
    z = state.spikes
    high: Array = c["threshold"]
    adaptation = waiting = None
    if form.adaptive:
        adaptation = c["rho"] * state.adaptation + c["jump"] * z
        high = high + c["beta"] * adaptation
    voltage = c["alpha"] * state.voltage
    if form.reset == "zero":
        voltage = voltage * (1 - z)
    else:
        voltage = voltage - (high if form.reset == "threshold" else c["threshold"]) * z
    voltage = voltage + c["gain"] * current
    x = voltage - high
    now = x > 0
    if form.refractory:
        left = state.waiting + jnp.where(z != 0, c["period"], 0) - 1
        waiting = jnp.minimum(jnp.maximum(left, 0), c["period"])
        now = now & (waiting == 0)
        # A unit that cannot spike has no derivative either: far above threshold.
        x = jnp.where(waiting > 0, jnp.inf, x)
    spikes = now.astype(z.dtype)
    return State(voltage, adaptation, state.synaptic, waiting, spikes), spikes, x


def back(form: Form, c: dict[str, Array], after: Errors, error: Array, past: Past) -> tuple[Errors, Array]:
    """Errors by the state before a step, and delta.

    Args:
        after: errors by the state after it. error: by its output.
    """
    if form.kind == "spiking":
        before, delta = _spike_back(form, c, after, error, past)
    else:
        g = after.voltage + error
        before, delta = after._replace(voltage=c["alpha"] * g), c["gain"] * g
        delta = delta * past.psi if form.kind == "rate" else delta
    if form.synaptic:
        g = after.synaptic + delta
        before, delta = before._replace(synaptic=c["synapse"] * g), c["intake"] * g
    return before, delta


def _spike_back(form: Form, c: dict[str, Array], after: Errors, error: Array, past: Past) -> tuple[Errors, Array]:
    x = past.psi * (error + after.spikes)
    v = after.voltage + x
    high: Array = c["threshold"]
    adaptation = None
    spikes = jnp.zeros_like(v)
    if form.adaptive:
        a = after.adaptation - c["beta"] * x
        if form.reset == "threshold":
            a = a - c["beta"] * past.before * v
            high = high + c["beta"] * past.adaptation
        adaptation = c["rho"] * a
        spikes = c["jump"] * a
    voltage = c["alpha"] * v
    if form.reset == "zero":
        voltage = voltage * (1 - past.before)
    if not form.local:
        spikes = spikes - (c["alpha"] * past.voltage_before if form.reset == "zero" else high) * v
    return Errors(voltage, adaptation, None, spikes), c["gain"] * v
