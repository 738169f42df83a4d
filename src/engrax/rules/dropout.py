"""Dropout: presynaptic units that a projection does not hear, drawn anew for every gradient.

A unit is left out with the projection's rate p, for all trials and steps of the batch; the others count 1 / (1 - p)
times, so that the mean current stays. That is a network of other weights, w_ji m_j / (1 - p): every rule has a gradient
for it, and what belongs to the weights themselves is that gradient times m_j / (1 - p).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, PRNGKeyArray

from .._checks import finite
from ..errors import ArgumentError, RuleError, unknown
from ..network import Network
from ..synapses import Projection

Rates = tuple[tuple[str, float], ...]
# A rule's own draws start from its key as well.
_OWN = 2**32 - 3


def as_rates(x: Any) -> Rates:
    """Rates by projection, checked: a dict of numbers in [0, 1), as pairs.

    Raises:
        ArgumentError: something else.
    """
    if isinstance(x, tuple):
        return x
    if not isinstance(x, Mapping) or not all(isinstance(name, str) for name in x):
        raise ArgumentError(f"dropout must be a dict of projections and rates, {{'hidden->out': 0.1}}, got {x!r}.")
    for name, rate in x.items():
        if finite(f"dropout of {name!r}", rate, 0) >= 1:
            raise ArgumentError(f"dropout of {name!r} must be less than 1, got {rate!r}.")
    return tuple((name, float(rate)) for name, rate in x.items())


def check_rates(net: Network, rates: Rates, key: PRNGKeyArray | None) -> None:
    """Raise a RuleError unless the network has the projections, each with one weight a presynaptic unit, and there is a
    key."""
    for name, _ in rates:
        if name not in net.projections:
            raise unknown("projection in dropout", name, net.projections, RuleError)
        if not net.projections[name].matrix:
            raise RuleError(f"dropout: the synapses of {name!r} share weights, or delays; leave it out.")
    if rates and key is None:
        raise RuleError("dropout draws units: give value_and_grad a key.")


def thin(net: Network, rates: Rates, key: PRNGKeyArray) -> tuple[Network, Callable[[Network], Network]]:
    """The network with units left out, and what makes its gradient one by the weights themselves."""
    factors: dict[str, Array] = {}
    for i, (name, rate) in enumerate(rates):
        weight = net.projections[name].weight
        assert weight is not None
        kept = jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(key, _OWN), i), 1 - rate, weight.shape[-1:])
        factors[name] = kept.astype(weight.dtype) / (1 - rate)

    def times(name: str, projection: Projection) -> Projection:
        if name not in factors or projection.weight is None:
            return projection
        factor = factors[name].reshape(*[1] * (projection.weight.ndim - 1), -1)
        return projection.replace(weight=projection.weight * factor)

    def scaled(tree: Network) -> Network:
        return tree.replace(projections=OrderedDict((n, times(n, p)) for n, p in tree.projections.items()))

    return scaled(net), scaled
