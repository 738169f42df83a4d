"""Regularisation of activity as every rule applies it: what it costs, and what it says of each spike."""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..losses import Regularizer
from ..network import Network


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


def counted(regularizers: tuple[Regularizer, ...], net: Network) -> tuple[str, ...]:
    """Populations whose spikes some regulariser needs."""
    return tuple(dict.fromkeys(n for r in regularizers for n in r.on(net)))


def penalty(regularizers: tuple[Regularizer, ...], net: Network, total: Activity) -> Array:
    """Sum of all regularisers on the whole trials' activity."""
    value = jnp.zeros((), net.dtype)
    for r in regularizers:
        for name in r.on(net):
            value = value + r.at(net, name).value(total.counts[name], total.steps, net.dt)
    return value


def rate_cotangents(
    regularizers: tuple[Regularizer, ...],
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
        for name in r.on(net):
            z, here = outputs[name], r.at(net, name)
            if r.running:
                weights = valid.astype(z.dtype)[:, :, None]
                counts = before.counts[name][None] + jnp.cumsum(z * weights, axis=0)
                steps = before.steps[None] + jnp.cumsum(valid.astype(z.dtype), axis=0)
                g = here.so_far(counts, steps, total.steps, net.dt)
            else:
                g = here.cotangent(total.counts[name], total.steps, net.dt)[None]
            g = jnp.broadcast_to(g, z.shape) * valid.astype(z.dtype)[:, :, None]
            found[name] = found[name] + g if name in found else g
    return found
