"""Online rules side by side along one trajectory: at every step each says where it would go, and one is followed."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ArgumentError
from ..losses import Running
from ..network import Network, trainable_leaves
from ..trial import Trial


class SideBySide(NamedTuple):
    """What the rules of a trajectory said of each other.

    rules: their labels, the order of the rest. cosines: mean over steps of the cosine of two rules' gradients; steps in
    which one of the two is zero do not count. norms: mean norm of each gradient. loss: of each step, on average over
    trials.
    """

    rules: tuple[str, ...]
    cosines: Float[Array, "rules rules"]
    norms: Float[Array, " rules"]
    loss: Float[Array, " time"]


def side_by_side(
    net: Network,
    trial: Trial,
    rules: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    key: PRNGKeyArray,
    *,
    follow: str | None = None,
    projections: Iterable[str] | None = None,
) -> SideBySide:
    """Let one rule train a network at every step of a trial, and hear what others would have done.

    Every gradient is that of a step's own error, by the weights that the rule followed has made so far. What a rule
    learns besides (`DNI`, `KeRNL`) it learns on the way.

    Args:
        net: the network; every rule is bound here.
        trial: one batch of trials of one length with a running loss; as long as the trajectory is to be.
        rules: rules with streams, by labels of your own.
        optimizer: of the rule that is followed, and of what rules learn besides.
        key: for bindings, and for rules that draw random numbers.
        follow: label of the rule that trains; None: the first.
        projections: whose weights are compared; None: all that train.

    Raises:
        ArgumentError: a rule has no stream, a name is unknown, or lengths or the loss are of another kind.

    Source: Marschall, Cho and Savin 2020, alignment of all algorithms along the trajectory of one.
    """
    follow = next(iter(rules), "") if follow is None else follow
    if follow not in rules:
        raise ArgumentError(f"follow must be one of {', '.join(rules)}, got {follow!r}.")
    for label, rule in rules.items():
        if not hasattr(rule, "update"):
            raise ArgumentError(f"{label}: {type(rule).__name__} has no stream of gradients.")
        if not all(isinstance(loss, Running) for loss in rule.losses(net, trial).values()):
            raise ArgumentError(f"{label}: side_by_side needs a loss at every step.")
    if trial.lengths is not None or trial.mask is not None:
        raise ArgumentError("side_by_side is for trials of one length without a mask.")
    keys = dict(zip(rules, jax.random.split(key, len(rules)), strict=True))
    # Each has feedback of its own kind, on the same weights.
    nets = {n: rule.bind(net, jax.random.fold_in(keys[n], 0)) for n, rule in rules.items()}
    compared = tuple(net.projections if projections is None else projections)
    for name in compared:
        if name not in net.projections:
            raise ArgumentError(f"no projection {name!r}: there are {', '.join(net.projections)}.")
    # Compiled code takes dictionaries by their sorted keys: the order travels beside.
    order = tuple(rules)
    return SideBySide(order, *_followed(nets, trial, dict(rules), optimizer, keys, order, follow, compared))


@eqx.filter_jit
def _followed(
    nets: dict[str, Network],
    trial: Trial,
    rules: dict[str, Any],
    optimizer: Any,
    keys: dict[str, PRNGKeyArray],
    order: tuple[str, ...],
    follow: str,
    compared: tuple[str, ...],
) -> tuple[Array, Array, Array]:
    moving = lambda net: eqx.filter(net, trainable_leaves(net))
    states = {n: rules[n].init(nets[n], trial.batch, jax.random.fold_in(keys[n], 1)) for n in order}
    kept = {n: optimizer.init(moving(nets[n])) for n in order}
    arrays, rest = eqx.partition((nets, kept, states), eqx.is_array)
    count, dtype = len(order), nets[follow].dtype

    def moved(net: Network, kept: Any, gradient: Network, key: PRNGKeyArray) -> tuple[Network, Any]:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, kept = optimizer.update(gradient, kept, moving(net))
        return eqx.apply_updates(net, updates).constrain(key), kept

    def body(carry: Any, xs: Any) -> Any:
        arrays, cosines, counted, norms, at = carry
        nets, kept, states = eqx.combine(arrays, rest)
        found = {n: rules[n].update(nets[n], states[n], *xs) for n in order}
        flat = jnp.stack([_flat(nets[n], found[n][2], compared) for n in order])
        sizes = jnp.linalg.norm(flat, axis=1)
        there = sizes > 0
        unit = flat / jnp.where(there, sizes, 1)[:, None]
        both = there[:, None] & there[None]
        new = {n: moved(nets[n], kept[n], found[n][2], jax.random.fold_in(keys[n], at)) for n in order}
        parts: Any = lambda net: (net.projections, net.populations)
        led = parts(new[follow][0])
        nets = {n: eqx.tree_at(parts, new[n][0], led) for n in order}
        after = (nets, {n: new[n][1] for n in order}, {n: found[n][0] for n in order})
        more = (cosines + unit @ unit.T, counted + both.astype(counted.dtype), norms + sizes, at + 1)
        return (eqx.filter(after, eqx.is_array), *more), found[follow][1]

    square, zero = jnp.zeros((count, count), dtype), jnp.zeros((), jnp.int32)
    start = (arrays, square, jnp.zeros((count, count), jnp.int32), jnp.zeros(count, dtype), zero)
    (_, cosines, counted, norms, _), loss = jax.lax.scan(body, start, (trial.inputs, trial.targets))
    return cosines / counted.astype(dtype), norms / trial.steps, loss


def _flat(net: Network, gradient: Network, names: tuple[str, ...]) -> Array:
    """A gradient's compared weights as one vector."""
    given = eqx.filter(gradient, trainable_leaves(net))
    leaves = [leaf for name in names for leaf in jax.tree.leaves(given.projections[name])]
    return jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
