"""The compiled pieces of a training: its beginning, a block of steps, and the choice of each seed's better network.

Seeds are one program (see `seeds`): networks, optimiser states and keys carry a leading axis, the task does not.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray, PyTree

from ..network import Network, trainable_leaves
from ..rules import Rule
from ..tasks import Task
from ..trial import Episodes, Trial
from .seeds import over_seeds
from .within import updates_within

# The most steps that one compiled call makes: calling costs little beside them, and Ctrl-C is soon answered.
BLOCK = 25


@eqx.filter_jit
def begin(net: Network, keys: Array, rule: Rule, optimizer: Any, many: bool) -> tuple[Network, PyTree]:
    """Networks, drawn anew for seeds and bound to the rule, and their optimisers' states."""

    def first(key: PRNGKeyArray) -> tuple[Network, PyTree]:
        # Steps take their keys by fold_in of 0, 1, ...: the last number there is never one of them.
        draw, bind = jax.random.split(jax.random.fold_in(key, 2**32 - 1))
        bound = rule.bind(net.initialize(draw) if many else net, bind)
        return bound, optimizer.init(eqx.filter(bound, trainable_leaves(bound)))

    return over_seeds(first, keys) if many else first(keys)


@eqx.filter_jit
def block(
    nets: Network,
    states: PyTree,
    keys: Array,
    span: tuple[Array, Array],
    task: Task,
    rule: Rule,
    optimizer: Any,
    batch: int,
    many: bool,
    within: int | None = None,
) -> tuple[Network, PyTree, Float[Array, "*seeds block"], Bool[Array, "*seeds block"]]:
    """Up to `BLOCK` training steps as one program: (first step, number of steps) may change, the program does not.

    Args:
        within: time steps after which the network moves; None: it moves once a batch of trials.

    Returns:
        networks, optimiser states, the losses, and whether each step left only finite numbers in the network. The
        loss does not tell: a unit whose voltage is not a number no longer spikes, and is silent.
    """
    first, count = span

    def step(net: Network, state: PyTree, key: PRNGKeyArray) -> tuple[Network, PyTree, Array]:
        sample, learn, repair = step_keys(key)
        trial, keys = task.sample(sample, batch), (learn, repair)
        if within is not None:
            return updates_within(net, state, trial, rule, optimizer, keys, within)
        return train_step(net, state, trial, rule, optimizer, keys)

    def steps(net: Network, state: PyTree, key: PRNGKeyArray) -> tuple[Network, PyTree, Array, Array]:
        arrays, rest = eqx.partition((net, state), eqx.is_array)

        def body(i: Array, carry: tuple[PyTree, Array, Array]) -> tuple[PyTree, Array, Array]:
            net, state = eqx.combine(carry[0], rest)
            net, state, loss = step(net, state, jax.random.fold_in(key, first + i))
            losses = carry[1].at[i].set(loss.astype(carry[1].dtype))
            return eqx.filter((net, state), eqx.is_array), losses, carry[2].at[i].set(_finite(net))

        start = arrays, jnp.zeros(BLOCK, net.dtype), jnp.zeros(BLOCK, bool)
        arrays, losses, finite = jax.lax.fori_loop(0, count, body, start)
        return *eqx.combine(arrays, rest), losses, finite

    # From event to event trials end when they end: side by side every array would be copied at every event.
    in_turn = task.outside or rule.engine == "events"
    return over_seeds(steps, nets, states, keys, in_turn=in_turn) if many else steps(nets, states, keys)


def train_step(
    net: Network,
    state: PyTree,
    trial: Trial | Episodes,
    rule: Rule,
    optimizer: Any,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
) -> tuple[Network, PyTree, Array]:
    """One step on one batch: gradient, optimiser, constraints. `keys` are for the rule and for the constraints."""
    loss, grads = rule.value_and_grad(net, trial, keys[0])
    moving, fixed = eqx.partition(net, trainable_leaves(net))

    # For optimisers that ask again, such as L-BFGS in its line search: the rule's own gradient, whatever it is.
    @jax.custom_vjp
    def value(moving: Network) -> Array:
        return rule.value_and_grad(eqx.combine(moving, fixed), trial, keys[0])[0]

    def forwards(moving: Network) -> tuple[Array, Network]:
        return rule.value_and_grad(eqx.combine(moving, fixed), trial, keys[0])

    value.defvjp(forwards, lambda grads, g: (jax.tree.map(lambda x: g * x, grads),))
    # Optax itself relies on implicit promotion, which a program that calls us may have forbidden.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        again = {"value": loss, "grad": grads, "value_fn": value}
        updates, state = optax.with_extra_args_support(optimizer).update(grads, state, moving, **again)
    return eqx.apply_updates(net, updates).constrain(keys[1]), state, loss


def _finite(net: Network) -> Bool[Array, ""]:
    """Whether every number that the network holds is finite."""
    leaves = jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array))
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])) if leaves else jnp.asarray(True)


def one_of(nets: Network, seed: int, many: bool) -> Network:
    """The network of one seed."""
    return jax.tree.map(lambda x: x[seed] if eqx.is_array(x) else x, nets) if many else nets


def step_keys(key: PRNGKeyArray) -> Key[Array, "3"]:
    """The keys of one step, from its own: for its trials, its rule, its repairs of constraints."""
    return jax.random.split(key, 3)


@eqx.filter_jit
def choose(better: Array, new: Network, old: Network) -> Network:
    def better_of(a: Any, b: Any) -> Any:
        if not eqx.is_array(a):
            return a
        return jnp.where(better.reshape(better.shape + (1,) * (a.ndim - better.ndim)), a, b)

    return jax.tree.map(better_of, new, old)
