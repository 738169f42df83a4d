"""Firing-rate regularisation as every rule applies it: what it costs, and what it says of each spike."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..losses import FiringRate
from ..network import Network
from .rule import regularized


class Activity(NamedTuple):
    """Spike counts of each population, (batch, units), and valid steps, (batch,)."""

    counts: dict[str, Array]
    steps: Array


def no_activity(net: Network, batch: int) -> Activity:
    """Nothing counted yet."""
    counts = {n: jnp.zeros((batch, p.size), net.dtype) for n, p in net.populations.items()}
    return Activity(counts, jnp.zeros(batch, net.dtype))


def count(before: Activity, outputs: dict[str, Array], valid: Array, names: Iterable[str]) -> Activity:
    """`before` and the valid steps of `outputs` (time, batch, units); only populations in `names` are counted."""
    counts = dict(before.counts)
    for name in names:
        counts[name] = counts[name] + jnp.einsum("tb,tbn->bn", valid.astype(outputs[name].dtype), outputs[name])
    return Activity(counts, before.steps + jnp.sum(valid, axis=0).astype(before.steps.dtype))


def counted(regularizers: tuple[FiringRate, ...], net: Network) -> tuple[str, ...]:
    """Populations whose spikes some regulariser needs."""
    return tuple(dict.fromkeys(n for r in regularizers for n in regularized(r, net)))


def penalty(regularizers: tuple[FiringRate, ...], net: Network, total: Activity) -> Array:
    """Sum of all regularisers on the whole trials' activity."""
    value = jnp.zeros((), net.dtype)
    for r in regularizers:
        for name in regularized(r, net):
            value = value + r.value(total.counts[name], total.steps, net.dt)
    return value


def rate_cotangents(
    regularizers: tuple[FiringRate, ...],
    net: Network,
    outputs: dict[str, Array],
    valid: Array,
    total: Activity,
    before: Activity,
) -> dict[str, Array]:
    """dE/dz at every step of a stretch of time.

    Args:
        outputs: (time, batch, units) by population.
        valid: (time, batch).
        total: activity of the whole trials.
        before: activity before this stretch, for running averages.
    """
    found: dict[str, Array] = {}
    for r in regularizers:
        for name in regularized(r, net):
            z = outputs[name]
            if r.running:
                weights = valid.astype(z.dtype)[:, :, None]
                counts = before.counts[name][None] + jnp.cumsum(z * weights, axis=0)
                steps = before.steps[None] + jnp.cumsum(valid.astype(z.dtype), axis=0)
                rates = jax.vmap(lambda c, s, r=r: r.rates(c, s, net.dt))(counts, steps)
                g = r.coefficient * (rates - r.target / 1000) * _share(r, total.steps, net.dt)[None]
            else:
                g = r.cotangent(total.counts[name], total.steps, net.dt)[None]
            g = jnp.broadcast_to(g, z.shape) * valid.astype(z.dtype)[:, :, None]
            found[name] = found[name] + g if name in found else g
    return found


def _share(r: FiringRate, steps: Array, dt: float) -> Array:
    # What one spike adds to the rate, (batch or 1, 1), and the mean over trials where each has its own rate.
    if r.average == "batch":
        return (1 / (jnp.maximum(jnp.sum(steps), 1) * dt))[None, None]
    return 1 / (steps.shape[0] * jnp.maximum(steps, 1)[:, None] * dt)
