"""Which leaves of a network an optimiser may move."""

from collections import OrderedDict

import jax

from ..parameter import is_parameter
from .network import Network


def trainable_leaves(net: Network) -> Network:
    """A tree of the network's structure with True where an optimiser may move a leaf.

    Use it with `eqx.partition(net, trainable_leaves(net))` or `eqx.filter`.
    """
    falses = jax.tree.map(lambda _: False, net)
    populations = OrderedDict()
    for name, population in net.populations.items():
        populations[name] = jax.tree.map(
            lambda p: jax.tree.map(lambda _: is_parameter(p), p), population, is_leaf=is_parameter
        )
    projections = OrderedDict()
    for name, projection in net.projections.items():
        marks = {field: projection.trainable for field in projection.learns if getattr(projection, field) is not None}
        projections[name] = falses.projections[name].replace(**marks)
    feedback = OrderedDict((n, jax.tree.map(lambda _, t=f.trainable: t, f)) for n, f in net.feedback.items())
    return falses.replace(populations=populations, projections=projections, feedback=feedback)
