"""Units between events, in closed form: what an event-driven engine knows of a model instead of its step.

    tau dv/dt = -v + i          tau_s di/dt = -i          v = 0 where v reaches the threshold from below

Between events i(t) = i exp(-t / tau_s) and v(t) = v exp(-t / tau) + i k(t), with

    k(t) = (exp(-t / tau) - exp(-t / tau_s)) tau_s / (tau - tau_s),          exp(-t / tau) t / tau where they are equal.

Where v rises it is concave, up to its one maximum: Newton's steps from the left come to the threshold and never pass
it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class EventUnit(NamedTuple):
    """What an event-driven engine needs of a model's units, each of shape (size,).

    Args:
        tau, tau_synapse: time constants, ms. Equal ones where nothing filters the current.
        threshold: infinite where the units never spike.
        gain: what a current of 1, there for one step, adds: to i where `filtered`, else to v.
        filtered: 1 where a current passes a synapse of its own, else 0.
    """

    tau: Float[Array, " size"]
    tau_synapse: Float[Array, " size"]
    threshold: Float[Array, " size"]
    gain: Float[Array, " size"]
    filtered: Float[Array, " size"]


def later(unit: EventUnit, v: Array, i: Array, time: Array) -> tuple[Array, Array]:
    """Voltage and current after a time without events."""
    unit, v, i, time = _level(unit, v, i, time)
    # Of the two decays the slower is taken out of their difference, so that nothing overflows.
    apart = jnp.abs(1 / unit.tau_synapse - 1 / unit.tau)
    slower = jnp.exp(-time / jnp.maximum(unit.tau, unit.tau_synapse))
    through = slower * (time / unit.tau) * _ratio(-apart * time, jnp.expm1)
    # Held, so that what several results need is computed once.
    kept, through, left = jax.lax.optimization_barrier(
        (jnp.exp(-time / unit.tau), through, jnp.exp(-time / unit.tau_synapse))
    )
    return v * kept + i * through, i * left


def area(unit: EventUnit, before: tuple[Array, Array], after: tuple[Array, Array]) -> Array:
    """The integral of v over a time without events, from (v, i) at its two ends."""
    unit, *_ = _level(unit, *before)
    return unit.tau_synapse * (before[1] - after[1]) - unit.tau * (after[0] - before[0])


def slope(unit: EventUnit, v: Array, i: Array) -> Array:
    """dv/dt."""
    unit, v, i = _level(unit, v, i)
    return (i - v) / unit.tau


def crossing(unit: EventUnit, v: Array, i: Array, limit: Array, steps: int = 60) -> Array:
    """How long until v reaches the threshold; infinite where it does not within `limit`.

    Args:
        v, i: (..., size). limit: (..., 1).
        steps: of Newton, at most.
    """
    unit, v, i, limit = _level(unit, v, i, limit)
    precise = jnp.finfo(v.dtype).eps
    rate = 1 / unit.tau_synapse - 1 / unit.tau
    share = unit.tau_synapse / unit.tau
    below = share * i + (1 - share) * v
    rising = (i > v) & (below > 0)
    excess = jnp.where(rising, (i - v) / jnp.where(below > 0, below, 1), 0)
    longest = jnp.where(rising, unit.tau_synapse * excess * _ratio(rate * unit.tau_synapse * excess, jnp.log1p), 0)
    end = jnp.minimum(longest, limit)
    crossed = later(unit, v, i, end)[0] >= unit.threshold
    aim = jnp.where(jnp.isfinite(unit.threshold), unit.threshold, 0)

    def unfinished(carry: Any) -> Array:
        _, moved, count = carry
        return (count < steps) & jnp.any(moved > 4 * precise * (unit.tau + limit))

    def newton(carry: Any) -> Any:
        time, _, count = carry
        there, current = later(unit, v, i, time)
        steep = slope(unit, there, current)
        move = jnp.where(crossed & (steep > 0), (aim - there) / jnp.where(steep > 0, steep, 1), 0)
        # From the left alone: a negative move is rounding, or a unit that is already there.
        new = jnp.clip(time + move, time, end)
        return new, jnp.where(crossed, new - time, 0), count + 1

    start = jnp.zeros_like(v)
    first = jnp.where(crossed, jnp.inf, 0).astype(v.dtype)
    time, _, _ = jax.lax.while_loop(unfinished, newton, (start, first, 0))
    return jnp.where(crossed, time, jnp.inf)


def _level(unit: EventUnit, *others: Array) -> Any:
    """All with as many axes as the one that has the most: programs may have forbidden JAX to add them by itself."""
    most = max(x.ndim for x in others)
    lift = lambda x: x.reshape((1,) * (most - x.ndim) + x.shape)
    return jax.tree.map(lift, (unit, *others))


def _ratio(x: Array, function: Any) -> Array:
    """function(x) / x for expm1 and log1p, whose value at 0 is 1; differentiable there."""
    small = jnp.abs(x) < 1e-4
    away = jnp.where(small, 1, x)
    sign = 1 if function is jnp.expm1 else -1
    third = 1 / 6 if function is jnp.expm1 else 1 / 3
    return jnp.where(small, 1 + sign * x / 2 + third * x * x, function(away) / away)
