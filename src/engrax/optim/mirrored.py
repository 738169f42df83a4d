"""Weight decay that lets adaptive feedback find the readout."""

from typing import Any

import equinox as eqx
import optax
from jaxtyping import PyTree

from ..errors import ArgumentError
from .schedules import is_number


def kolen_pollack(decay: float) -> optax.GradientTransformation:
    """Weight decay that lets adaptive feedback find the readout: after the step both are multiplied by 1 - decay.

    Put it last in a chain: it turns the step u of a weight w into (1 - decay) u - decay w. It acts on every trained
    feedback weight "readout->population" and on the projection "population->readout", and on nothing else. As both
    get the same gradient, transposed, their difference then dies out by that factor a step.

    Args:
        decay: in [0, 1). 1e-2 for framewise TIMIT in Bellec et al. 2020.

    Raises:
        ArgumentError: the decay is impossible; at `init`, the network has no trained feedback weights.

    Source: Kolen & Pollack 1994; Bellec et al. 2020, Suppl. Note 2.
    """
    if not is_number(decay) or not 0 <= decay < 1:
        raise ArgumentError(f"kolen_pollack: decay must lie in [0, 1), got {decay!r}.")

    def init(params: PyTree) -> optax.EmptyState:
        if not _mirrors(params):
            raise ArgumentError(
                "kolen_pollack found no trained feedback weights whose forward projection trains too: bind a rule with "
                'feedback="adaptive" first (net = rule.bind(net, key)).'
            )
        return optax.EmptyState()

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.EmptyState]:
        if params is None:
            raise ArgumentError("kolen_pollack needs the weights: optimizer.update(grads, state, params).")
        pairs = _mirrors(params)

        def where(tree: PyTree) -> list[Any]:
            weights = [(tree.feedback[back].weight, tree.projections[forth].weight) for back, forth in pairs]
            return [weight for pair in weights for weight in pair]

        decayed = [(1 - decay) * u - decay * w for u, w in zip(where(updates), where(params))]
        return eqx.tree_at(where, updates, decayed), state

    return optax.GradientTransformation(init, update)


def _mirrors(params: PyTree) -> list[tuple[str, str]]:
    """Keys of trained feedback weights, each with the key of the projection that it mirrors."""
    found = []
    for key, feedback in (getattr(params, "feedback", None) or {}).items():
        readout, _, population = key.partition("->")
        for name, projection in params.projections.items():
            mirrored = projection.pre == population and projection.post == readout and projection.matrix
            if mirrored and feedback.weight is not None and projection.weight is not None:
                found.append((key, name))
                break  # a rule takes the first such projection too
    return found
