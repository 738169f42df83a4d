"""Reward-based e-prop online: everything it needs of the past is carried from step to step, nothing is stored.

    u(t) = e-prop's gradient by what the readouts should have said of action t, before it is known what that was worth
    F(t) = gamma lambda F(t-1) + u(t)                          reward trace of each synapse
    dE   = sum_t delta(t) F(t)                                 each error as soon as the next value is known

(Bellec et al. 2020, Methods). Every episode has traces of its own. The sum is that of `returns.advantages`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import RuleError
from ..network import Network
from ..rules.eprop import EProp
from ..rules.local import assemble
from ..rules.online import Gradient, LocalState, Plan, advance, finish, traces_shape
from ..trial import Episodes
from .play import POLICY, VALUE, Played, begin, given


class _Episode(NamedTuple):
    """One episode's: the network with its traces, reward trace, sum so far, what entropy adds, and the last action's
    value and reward."""

    state: LocalState
    trace: Gradient
    total: Gradient
    entropy: Gradient
    value: Array
    reward: Array


def learn_online(agent: Any, net: Network, episodes: Episodes) -> tuple[Array, dict[str, Any]]:
    """Loss and gradient (what `gradient_tree` takes, by name) of an `ActorCritic` of e-prop.

    Raises:
        RuleError: the rule inside is not e-prop, advantages are normalised, or a regulariser is running.
    """
    plan = _plan(agent, net)
    world, batch = episodes.environment, episodes.batch
    bound, gamma = plan.net, agent.discount
    zero = {s.label: jnp.zeros(traces_shape(plan, s), net.dtype) for s in plan.sources}
    nothing = jnp.zeros((), net.dtype)
    many = lambda tree: jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), tree)
    start = many(_Episode(plan.start(1), zero, zero, zero, nothing, nothing))

    def hear(state: LocalState, x: Array, choosing: Array, asked: Array) -> Any:
        """One episode until its next action: state, outputs, action, and gradients by actor and critic, and entropy."""
        valid, source = jnp.ones(1, net.dtype), next(iter(bound.inputs))
        silent = lambda y: (nothing, jax.tree.map(jnp.zeros_like, y))
        quiet = lambda s, x: (advance(plan, s, {source: x[None]}, valid, silent, {}, None, {})[0], None)
        state, _ = jax.lax.scan(quiet, state, x[:-1])

        def last(told: Any) -> Any:
            return advance(plan, state, {source: x[-1:]}, valid, told, {}, None, {})

        def acted(y: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
            action = world.actions.sample(choosing, y[POLICY][0])
            likely = lambda policy: jnp.where(asked, -world.actions.log_probability(policy[0], action), 0)
            return nothing, {POLICY: jax.grad(likely)(y[POLICY]), VALUE: jnp.full_like(y[VALUE], -agent.value)}

        def surprised(y: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
            spread = lambda policy: jnp.where(asked, -agent.entropy * world.actions.entropy(policy[0]), 0)
            return nothing, {POLICY: jax.grad(spread)(y[POLICY]), VALUE: jnp.zeros_like(y[VALUE])}

        after, _, outputs, pushed = last(acted)
        more = last(surprised)[3] if agent.entropy else zero
        y = {n: v[0] for n, v in outputs.items()}
        return after, y, world.actions.sample(choosing, y[POLICY]), pushed, more

    def before(one: _Episode, x: Array, choosing: Array, asked: Array, alive: Array, cut: Array, first: Array) -> Any:
        """Up to an action; an episode that its world has cut off learns what would have been, and no more."""
        state, y, action, pushed, more = hear(one.state, x, choosing, asked)
        value = y[VALUE][0]
        delta = jnp.where((alive | cut) & ~first, one.reward + gamma * value - one.value, 0)
        total = jax.tree.map(lambda g, f: g + delta * f, one.total, one.trace)
        trace = jax.tree.map(lambda f, u: gamma * agent.decay * f + u, one.trace, pushed)
        entropy = jax.tree.map(jnp.add, one.entropy, more)
        new = _Episode(state, trace, total, entropy, value, one.reward)
        kept = one._replace(total=total)
        return jax.tree.map(lambda n, o: jnp.where(alive, n, o), new, kept), y, action

    def after(one: _Episode, reward: Array, alive: Array, over: Array) -> _Episode:
        delta = jnp.where(alive & over, reward - one.value, 0)
        total = jax.tree.map(lambda g, f: g + delta * f, one.total, one.trace)
        return one._replace(total=total, reward=jnp.where(alive, reward, one.reward))

    def step(carry: Any) -> Any:
        t, all_of_them, worlds, observation, alive, cut, last, told = carry
        x, choosing, going = given(world, bound, episodes.keys, observation, t)
        asked = alive & world.asking(worlds, batch)
        axes = (0, 1, 0, 0, 0, 0, None)
        each, y, action = jax.vmap(before, in_axes=axes)(all_of_them, x, choosing, asked, alive, cut, t == 0)
        last = jnp.where(cut, y[VALUE][:, 0], last)
        worlds, observation, reward, over = world.advance(worlds, world.actions.limited(action), going)
        reward = jnp.where(alive, reward, 0).astype(net.dtype)
        cut = alive & over & jnp.broadcast_to(world.cut(worlds), (batch,))
        each = jax.vmap(after)(each, reward, alive, over & ~cut)
        row = (y, action, reward, alive, asked)
        told = row if told is None else jax.tree.map(lambda kept, new: kept.at[t].set(new), told, row)
        return t + 1, each, worlds, observation, alive & ~over, cut, last, told

    worlds, observation = begin(world, episodes.keys)
    nowhere = jnp.zeros(batch, bool), jnp.zeros(batch, net.dtype)
    first = (jnp.asarray(0), start, worlds, observation, jnp.ones(batch, bool), *nowhere, None)
    shapes = jax.eval_shape(lambda carry: step(carry)[-1], first)
    told = jax.tree.map(lambda s: jnp.zeros((world.length, *s.shape), s.dtype), shapes)
    going_on = lambda carry: (carry[0] < world.length) & jnp.any(carry[4])
    t, each, worlds, observation, alive, cut, last, told = jax.lax.while_loop(going_on, step, (*first[:-1], told))

    x, choosing, _ = given(world, bound, episodes.keys, observation, t)
    value = lambda one, x, k: hear(one.state, x, k, jnp.asarray(False))[1][VALUE][0]
    ahead = jax.vmap(value, in_axes=(0, 1, 0))(each, x, choosing)
    open_still = alive | cut
    delta = jnp.where(open_still, each.reward + gamma * ahead - each.value, 0)
    y, actions, rewards, alive, asked = told
    played = Played(
        jnp.zeros((1, batch, 0), net.dtype),
        actions=actions,
        rewards=rewards,
        alive=alive.astype(net.dtype),
        asked=asked.astype(net.dtype),
        last=jnp.where(open_still, ahead, last),
        figures=world.figures(worlds),
    )
    count = jnp.sum(played.alive)
    found = {
        n: (jnp.tensordot(delta, each.trace[n], 1) + jnp.sum(each.total[n] + each.entropy[n], axis=0)) / count
        for n in zero
    }
    # The end of a batch of trials, which asks nothing of the networks' own states.
    s, joined = each.state, lambda tree: jax.tree.map(lambda x: x[:, 0], tree)
    rest = (joined(part) for part in (s.eligibility, s.filtered, s.terminal, s.totals, s.rates, s.activity))
    merged = LocalState(net.init_state(batch), *rest)
    penalty, more = finish(plan, merged, {}, {})
    weights, biases, parameters = assemble(plan.net, plan.sources, jax.tree.map(jnp.add, found, more))
    loss = agent.objective(y, played, world)[0] + penalty
    return loss, {"weights": weights, "biases": biases, "parameters": parameters}


def _plan(agent: Any, net: Network) -> Plan:
    rule = agent.rule
    if not isinstance(rule, EProp):
        raise RuleError(f"evaluation='online' is that of e-prop; {type(rule).__name__} has no traces to carry.")
    if agent.normalize:
        raise RuleError("normalize needs the advantages of a whole batch: use evaluation='offline'.")
    if any(r.running for r in rule.regularizers):
        raise RuleError("running regularizers act within an episode: use running=False, or evaluation='offline'.")
    return rule.stream_plan(net)
