"""How well a rule's gradient points where the reference gradient points.

The reference of a smooth network is its exact gradient, by BPTT; that of a spiking network is BPTT with the surrogate
derivative of its spikes, which is no gradient of anything and is never called exact.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..network import Network, trainable_leaves
from ..rules import Rule
from ..rules.bptt import BPTT
from ..trial import Episodes, Trial

# A step this long, relative to the weights, is short enough for the loss to be nearly straight along it.
STEP = 1e-3


class Angle(NamedTuple):
    """Two gradients of one projection: their cosine, and the rule's norm over the reference's. NaN for zero ones."""

    cosine: float
    norm_ratio: float


class Alignment(NamedTuple):
    """A rule's gradient beside the reference's on one batch of trials.

    reference: "exact gradient", or "surrogate-gradient BPTT" for a network that spikes.
    projections: by projection; "all" for all trained weights together (feedback weights left out).
    decrease: fall of the loss after a step of 0.1 % of the weights' norm along the rule's gradient.
    reference_decrease: the same along the reference's. Spikes make both jump.
    """

    reference: str
    projections: dict[str, Angle]
    decrease: float
    reference_decrease: float


def reference_rule(rule: Rule) -> Rule:
    """BPTT with the loss and the regularisers of `rule`; of an actor-critic, one of that."""
    return rule.with_gradients_of(BPTT)


def alignment(net: Network, trial: Trial | Episodes, rule: Rule, key: PRNGKeyArray | None = None) -> Alignment:
    """Compare a rule's gradient with the reference gradient.

    Args:
        net: the network, bound to the rule (`net = rule.bind(net, key)`).
        trial: a batch of trials, or of episodes. A network that has moved plays its own, so that their loss does not
            say how far it went: `decrease` is NaN then.
        rule: the rule.
        key: for rules that draw random numbers.

    Raises:
        ArgumentError, RuleError: as for `rule.value_and_grad`.
    """
    best = reference_rule(rule)
    loss, mine = rule.value_and_grad(net, trial, key)
    wanted_loss, theirs = best.value_and_grad(net, trial)
    pairs = {name: (_flat(mine, name), _flat(theirs, name)) for name, p in net.projections.items() if p.trainable}
    whole = [np.concatenate([pair[i] for pair in pairs.values()] or [np.zeros(0)]) for i in (0, 1)]
    pairs["all"] = whole[0], whole[1]
    spiking = any(neuron.sends_events for neuron in net.populations.values())
    played = isinstance(trial, Episodes)

    def fall(value: Array, grads: Network) -> float:
        return float("nan") if played else float(value) - float(best.value_and_grad(_moved(net, grads), trial)[0])

    return Alignment(
        reference="surrogate-gradient BPTT" if spiking else "exact gradient",
        projections={name: _angle(*pair) for name, pair in pairs.items()},
        decrease=fall(loss, mine),
        reference_decrease=fall(wanted_loss, theirs),
    )


def _flat(grads: Network, name: str) -> np.ndarray:
    leaves = jax.tree.leaves(grads.projections[name])
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in leaves]) if leaves else np.zeros(0)


def _angle(a: np.ndarray, b: np.ndarray) -> Angle:
    sizes = np.linalg.norm(a), np.linalg.norm(b)
    if not sizes[0] * sizes[1] > 0:
        return Angle(float("nan"), float("nan"))
    return Angle(float(a @ b / (sizes[0] * sizes[1])), float(sizes[0] / sizes[1]))


@eqx.filter_jit
def _moved(net: Network, grads: Network) -> Network:
    """The network a short step downhill, feedback weights and neuron parameters left as they are."""
    marks = trainable_leaves(net)
    weights = eqx.filter(net.projections, marks.projections)
    slopes = grads.projections

    def norm(tree: object) -> Array:
        return jnp.sqrt(sum((jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)), jnp.zeros((), net.dtype)))

    length = norm(slopes)
    rate = STEP * norm(weights) / jnp.where(length > 0, length, 1.0)
    moved = jax.tree.map(
        lambda w, g: w if g is None else w - rate * g, net.projections, slopes, is_leaf=lambda x: x is None
    )
    return net.replace(projections=moved).constrain()
