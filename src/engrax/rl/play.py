"""Playing: the network in a closed loop with a batch of environments, until the last episode is over.

Everything random comes from an episode's own key, so that an episode is the same in whatever company.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ..errors import RuleError
from ..network import Network, NetworkState, Record
from ..trial import Episodes, Trial
from .surface import settled, surfaced

POLICY, VALUE = "policy", "value"


class Played(Trial):
    """Episodes that were played, as a trial: `inputs` and `lengths` are what the network was given.

    Attributes:
        actions: (actions, batch, ...), what was done.
        rewards: (actions, batch), what it brought; 0 after an episode's end.
        alive: (actions, batch), 1 at every action of an episode, its last included.
        asked: (actions, batch), 1 at those of them that counted.
        last: (batch,) value of where an episode was cut off; 0 where it came to its end.
        figures: (batch,) each, the environment's own.
    """

    actions: Shaped[Array, "actions batch ..."] = eqx.field(kw_only=True)
    rewards: Float[Array, "actions batch"] = eqx.field(kw_only=True)
    alive: Float[Array, "actions batch"] = eqx.field(kw_only=True)
    asked: Float[Array, "actions batch"] = eqx.field(kw_only=True)
    last: Float[Array, " batch"] = eqx.field(kw_only=True)
    figures: dict[str, Float[Array, " batch"]] = eqx.field(kw_only=True, default_factory=dict)


class _Now(NamedTuple):
    t: Array
    network: NetworkState
    world: Any
    observation: Array
    alive: Array
    told: Any


def check_agent(net: Network, episodes: Episodes) -> None:
    """Raise a RuleError unless a network has the outputs of an agent in these episodes' environment."""
    sizes = {o.label: net.populations[o.population].size for o in net.output_specs}
    wanted = {POLICY: episodes.environment.actions.outputs, VALUE: 1}
    if sizes != wanted:
        had = ", ".join(f"{name!r} with {size}" for name, size in sizes.items())
        raise RuleError(
            f"an agent needs the outputs 'policy' with {wanted[POLICY]} units and 'value' with 1; this network has "
            f"{had}. Write Network(..., outputs={{'policy': 'policy', 'value': 'value'}})."
        )


def begin(world: Any, keys: Array) -> tuple[Any, Array]:
    """How episodes begin, by their keys: the worlds' states, and first observations."""
    return world.begin(jax.vmap(lambda k: jax.random.fold_in(k, 2**32 - 1))(keys))


def given(world: Any, net: Network, keys: Array, observation: Array, t: Array) -> tuple[Array, Array, Array]:
    """What the network is given up to action t, (hold, batch, inputs), and keys of the action and of the world."""
    mine = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, t), 3))(keys)
    x = jax.vmap(world.encode)(observation, mine[:, 0])
    return jnp.moveaxis(x, 0, 1).astype(net.dtype), mine[:, 1], mine[:, 2]


def play(net: Network, episodes: Episodes, *, greedy: bool, record: tuple[str, ...] = ()) -> tuple[Played, Record]:
    """Play episodes to their ends, or as long as the environment lets them last.

    Args:
        net: the agent, with outputs "policy" and "value"; it acts by what they are at every `hold`-th step.
        episodes: where they begin.
        greedy: take the most probable actions instead of drawing them.
        record: as for `Network.run`.

    Returns:
        What was played, and the network's run, both padded to `length` actions.

    Raises:
        RuleError: the network has other outputs.
        WorldError: an environment outside JAX failed.
    """
    check_agent(net, episodes)
    with surfaced():
        found = _play(net, episodes, greedy, record)
        return settled(found) if episodes.environment.outside else found


def _play(net: Network, episodes: Episodes, greedy: bool, record: tuple[str, ...]) -> tuple[Played, Record]:
    world, keys, batch = episodes.environment, episodes.keys, episodes.batch
    source = next(iter(net.inputs))

    def one(now: _Now) -> tuple[_Now, Any]:
        x, choosing, going = given(world, net, keys, now.observation, now.t)
        run = net.run({source: x}, now.network, record=record)
        policy = run.outputs[POLICY][-1]
        asked = now.alive & world.asking(now.world, batch)
        action = world.actions.best(policy) if greedy else jax.vmap(world.actions.sample)(choosing, policy)
        state, observation, reward, over = world.advance(now.world, world.actions.limited(action), going)
        alive = now.alive
        gained = jnp.where(alive, reward, 0).astype(net.dtype)
        told = (x, run.outputs, run.recorded, action, gained, alive, asked)
        return _Now(now.t + 1, run.state, state, observation, alive & ~over, now.told), told

    state, observation = begin(world, keys)
    start = _Now(jnp.asarray(0), net.init_state(batch), state, observation, jnp.ones(batch, bool), None)
    shapes = jax.eval_shape(lambda s: one(s)[1], start)
    buffers = jax.tree.map(lambda s: jnp.zeros((world.length, *s.shape), s.dtype), shapes)

    def body(now: _Now) -> _Now:
        after, told = one(now)
        kept = jax.tree.map(lambda all, new: all.at[now.t].set(new), now.told, told)
        return after._replace(told=kept)

    going = lambda now: (now.t < world.length) & jnp.any(now.alive)
    end = jax.lax.while_loop(going, body, start._replace(told=buffers))
    inputs, outputs, recorded, actions, rewards, alive, asked = end.told
    x, _, _ = given(world, net, keys, end.observation, end.t)
    ahead = net.run({source: x}, end.network).outputs[VALUE][-1, :, 0]
    # An episode that its world cut off earlier was looked at once more while others went on: the network ran along.
    count = jnp.sum(alive, axis=0, dtype=jnp.int32)
    within = jnp.minimum(count, world.length - 1)
    then = jnp.take_along_axis(outputs[VALUE][:, -1, :, 0], within[None], axis=0)[0]
    after = jnp.where(count < end.t, then, ahead)
    flat = lambda tree: jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)
    played = Played(
        flat(inputs),
        lengths=world.hold * count,
        actions=actions,
        rewards=rewards,
        alive=alive.astype(net.dtype),
        asked=asked.astype(net.dtype),
        last=jnp.where(end.alive | world.cut(end.world), after, 0),
        figures=world.figures(end.world),
    )
    return played, Record(flat(outputs), end.network, flat(recorded))
