"""Learning from rewards: returns, playing, and the gradients of actor and critic."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from agents import agent
from engrax.analysis import eligibility_traces
from engrax.errors import RuleError
from engrax.rl import ActorCritic, Continuous, Discrete, RewardSTDP, play
from engrax.rl.environments import CartPole, Catch, RewardEvidence
from engrax.rl.returns import advantages, td_errors


@pytest.mark.x64
@pytest.mark.parametrize("decay", [1.0, 0.9, 0.0])
def test_errors_known_late_and_futures_summed_backwards_are_one_sum(decay):
    """sum delta F(u) = sum A u for any u, and with decay 1 it is sum (R - V) u (eprop.md 1.9)."""
    steps, batch, discount = 9, 4, 0.95
    rng = np.random.default_rng(0)
    lengths, cut = np.array([9, 9, 4, 1]), np.array([True, False, False, False])
    alive = (np.arange(steps)[:, None] < lengths).astype(float)
    rewards, values, u = rng.normal(size=(3, steps, batch))
    last = np.where(cut, rng.normal(size=batch), 0.0)
    errors = td_errors(*map(jnp.asarray, (rewards, values, alive, last)), discount)
    forward, total = np.zeros(batch), np.zeros(batch)
    for t in range(steps):
        forward = discount * decay * forward + alive[t] * u[t]
        total += np.asarray(errors[t]) * forward
    backward = np.sum(np.asarray(advantages(errors, discount * decay)) * alive * u, axis=0)
    np.testing.assert_allclose(total, backward, atol=1e-12)
    if decay == 1.0:
        for b in range(batch):
            returns = last[b]
            wanted = 0.0
            for t in reversed(range(lengths[b])):
                returns = rewards[t, b] + discount * returns
                wanted += (returns - values[t, b]) * u[t, b]
            assert total[b] == pytest.approx(wanted, abs=1e-12)


def test_discrete_actions_are_a_softmax(key):
    head, policy = Discrete(3), jnp.array([0.2, -1.0, 1.5])
    p = np.exp(policy) / np.exp(policy).sum()
    draws = jax.vmap(lambda k: head.sample(k, policy))(jax.random.split(key, 4000))
    np.testing.assert_allclose(np.bincount(draws, minlength=3) / 4000, p, atol=4 * 0.5 / 4000**0.5)
    np.testing.assert_allclose(jnp.exp(head.log_probability(policy[None].repeat(3, 0), jnp.arange(3))), p, rtol=1e-5)
    assert float(head.entropy(policy)) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)
    assert int(head.best(policy)) == 2


def test_continuous_actions_are_a_gaussian(key):
    from scipy.stats import norm

    head, policy, action = Continuous(2, spread=0.4), jnp.array([0.5, -0.2]), jnp.array([0.1, 0.3])
    wanted = norm.logpdf(np.asarray(action), np.asarray(policy), 0.4).sum()
    assert float(head.log_probability(policy, action)) == pytest.approx(wanted, rel=1e-5)
    assert float(head.entropy(policy)) == pytest.approx(2 * norm(0, 0.4).entropy(), rel=1e-5)
    draws = jax.vmap(lambda k: head.sample(k, policy))(jax.random.split(key, 4000))
    np.testing.assert_allclose(draws.std(0), 0.4, rtol=0.05)


@pytest.mark.x64
def test_playing_is_the_loop_written_out(key):
    """One episode after the other, one action after the other, by `net.step`."""
    world = CartPole(length=14, hold=3, units=5, intensity=4.0)
    net, episodes = agent(world, key), world.sample(key, 5)
    played, run = play(net, episodes, greedy=False)
    assert float(played.alive.sum(0).min()) > 1 and float(jnp.std(played.actions.astype(float))) > 0
    for b in range(5):
        mine = episodes.keys[b]
        state, x = world.reset(jax.random.fold_in(mine, 2**32 - 1))
        inner, total, over, t = net.init_state(1), 0.0, False, 0
        while not over and t < world.length:
            seeing, choosing, going = jax.random.split(jax.random.fold_in(mine, t), 3)
            for row in world.encode(x, seeing):
                inner, y = net.step(inner, row[None])
            action = world.actions.sample(choosing, y["policy"][0])
            assert int(action) == int(played.actions[t, b])
            state, x, reward, over = world.step(state, action, going)
            np.testing.assert_allclose(run.outputs["value"][(t + 1) * world.hold - 1, b], y["value"][0], atol=1e-12)
            total, t = total + float(reward), t + 1
        assert played.rewards[:, b].sum() == total and played.alive[:, b].sum() == t
        assert int(played.lengths[b]) == t * world.hold
        if not over:
            for row in world.encode(x, jax.random.split(jax.random.fold_in(mine, t), 3)[0]):
                inner, y = net.step(inner, row[None])
        assert float(played.last[b]) == pytest.approx(0.0 if over else float(y["value"][0, 0]), abs=1e-12)


@pytest.mark.nightly
def test_an_episode_is_the_same_in_whatever_company(key):
    world = Catch(rows=6, columns=5, brightness=5.0, hold=4)
    net, episodes = agent(world, key), world.sample(key, 6)
    all_of_them, _ = play(net, episodes, greedy=False)
    two, _ = play(net, dataclasses.replace(episodes, keys=episodes.keys[3:5]), greedy=False)
    np.testing.assert_array_equal(all_of_them.actions[:, 3:5], two.actions)
    np.testing.assert_array_equal(all_of_them.rewards[:, 3:5], two.rewards)


@pytest.mark.x64
@pytest.mark.parametrize("normalize", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_bptt_is_the_derivative_of_the_objective(normalize, key):
    """For a smooth network, against reverse mode through the whole loss with actions and advantages held fixed."""
    world = CartPole(length=8, hold=2, units=4)
    net, episodes = agent(world, key, ex.neurons.Rate(6)), world.sample(key, 3)
    rule = ActorCritic(ex.rules.BPTT(), discount=0.9, decay=0.8, value=0.7, entropy=0.05, normalize=normalize)
    loss, found = rule.value_and_grad(net, episodes)
    played, _ = play(net, episodes, greedy=False)
    moved, fixed = eqx.partition(net, ex.trainable_leaves(net))

    def value(moved):
        y = eqx.combine(moved, fixed).run(played.inputs).outputs
        at = {n: x[world.hold - 1 :: world.hold] for n, x in y.items()}
        return rule.objective(at, played, world)[0]

    wanted, slopes = jax.value_and_grad(value)(moved)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-10)
    for name, p in slopes.projections.items():
        np.testing.assert_allclose(found.projections[name].weight, p.weight, atol=1e-12)
        assert float(jnp.linalg.norm(p.weight)) > 1e-6, name


@pytest.mark.x64
def test_reward_based_eprop_is_its_formula(key):
    """Summed by hand: readout errors as in Bellec et al. 2020, Methods, times the e-prop traces of `analysis`."""
    world = Catch(rows=5, columns=4, brightness=5.0, hold=3)
    net, episodes = agent(world, key), world.sample(key, 2)
    rule = ActorCritic(ex.rules.EProp(feedback="random"), discount=0.9, value=0.5)
    net = rule.bind(net, key)
    _, found = rule.value_and_grad(net, episodes)
    played, run = play(net, episodes, greedy=False)
    at = {n: np.asarray(y[world.hold - 1 :: world.hold]) for n, y in run.outputs.items()}
    values = at["value"][..., 0]
    pi = np.asarray(jax.nn.softmax(at["policy"]))
    returns, ahead = np.zeros_like(values), np.zeros(2)
    for t in reversed(range(len(values))):
        ahead = np.asarray(played.rewards[t]) + 0.9 * ahead
        returns[t] = ahead
    worth = (returns - values) / played.alive.sum()
    told = worth[..., None] * (pi - np.eye(3)[np.asarray(played.actions)])
    signal = {"policy": told, "value": -0.5 * worth[..., None]}
    weight = np.zeros(found.projections["input->hidden"].weight.shape)
    trial = ex.Trial(played.inputs)
    decays = {"policy": np.exp(-1 / 5.0), "value": np.exp(-1 / 8.0)}
    for i in range(0, world.input_size, 3):
        e = np.asarray(eligibility_traces(net, trial, "input->hidden", i))
        for name, kappa in decays.items():
            filtered = np.zeros_like(e)
            for t in range(len(e)):
                filtered[t] = (1 - kappa) * e[t] + (kappa * filtered[t - 1] if t else 0)
            back = np.asarray(net.feedback[f"{name}->hidden"].weight)
            at_actions = filtered[world.hold - 1 :: world.hold]
            weight[:, i] += np.einsum("tbk,jk,tbj->j", signal[name], back, at_actions)
    np.testing.assert_allclose(found.projections["input->hidden"].weight[:, ::3], weight[:, ::3], atol=1e-12)
    assert np.abs(weight).max() > 1e-5


@pytest.mark.nightly
@pytest.mark.x64
def test_online_gives_credit_where_actions_count(key):
    world = RewardEvidence(cues=1, cue=6, gap=2, delay=4, recall=4, hold=4, group=3, rate=400.0)
    net, episodes = agent(world, key), world.sample(key, 5)
    offline = ActorCritic(ex.rules.EProp(feedback="random"), entropy=0.1)
    net = offline.bind(net, key)
    wanted = offline.value_and_grad(net, episodes)
    found = dataclasses.replace(offline, evaluation="online").value_and_grad(net, episodes)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


class Timer(ex.rl.Environment):
    """Over after some actions; where their number is even, by the world's own clock, so that more was to come."""

    input_size: int = 3
    hold: int = 3
    length: int = 7
    dt: float = 1.0
    actions: Discrete = Discrete(2)

    def reset(self, key):
        limit = jax.random.randint(key, (), 2, 9)
        return (jnp.zeros_like(limit), limit), 5 * jnp.ones(3)

    def step(self, state, action, key):
        new = (state[0] + 1, state[1])
        x = jax.random.normal(key, (3,))
        return new, 5 * x, x[0] + action.astype(x.dtype), new[0] == new[1]

    def cut(self, states):
        return states[1] % 2 == 0


@pytest.mark.nightly
@pytest.mark.x64
def test_what_a_world_cuts_off_goes_on_at_its_value(key):
    world = Timer()
    net, episodes = agent(world, key), world.sample(key, 8)
    played, _ = play(net, episodes, greedy=False)
    counts = played.alive.sum(0).astype(int).tolist()
    limits = [int(world.reset(jax.random.fold_in(k, 2**32 - 1))[0][1]) for k in episodes.keys]
    assert counts == [min(n, 7) for n in limits] and len(set(limits)) > 3
    assert (np.asarray(played.last) != 0).tolist() == [n > 7 or n % 2 == 0 for n in limits]
    rule = ActorCritic(ex.rules.EProp(feedback="random"), discount=0.9, entropy=0.1)
    net = rule.bind(net, key)
    wanted = rule.value_and_grad(net, episodes)
    found = dataclasses.replace(rule, evaluation="online").value_and_grad(net, episodes)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.x64
@pytest.mark.parametrize(
    "feedback",
    [pytest.param(f, marks=() if f == "random" else pytest.mark.nightly) for f in ("symmetric", "random", "adaptive")],
)
def test_online_and_offline_are_one_gradient(feedback, key):
    """Episodes that end and such that are cut off, with entropy and a rate regulariser."""
    world = CartPole(length=20, hold=2, units=4, intensity=6.0)
    net, episodes = agent(world, key), world.sample(key, 6)
    inner = ex.rules.EProp(feedback=feedback, regularizers=[ex.losses.FiringRate(0.1, average="sample")])
    offline = ActorCritic(inner, discount=0.9, decay=0.8, value=0.7, entropy=0.05)
    net = offline.bind(net, key)
    played, _ = play(net, episodes, greedy=False)
    assert 0 < int((played.last != 0).sum()) < 6
    loss, wanted = offline.value_and_grad(net, episodes)
    value, found = dataclasses.replace(offline, evaluation="online").value_and_grad(net, episodes)
    assert float(value) == pytest.approx(float(loss), rel=1e-10)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        assert float(jnp.linalg.norm(b)) > 1e-7, path
        np.testing.assert_allclose(a, b, atol=1e-12, err_msg=str(path))


@pytest.mark.x64
def test_reward_modulated_stdp_pair_by_pair(key):
    world = Catch(rows=5, columns=4, brightness=6.0, hold=4)
    net, episodes = agent(world, key), world.sample(key, 2)
    rule = ActorCritic(RewardSTDP(tau_plus=10.0, tau_minus=15.0, potentiation=1.2, depression=0.8), discount=0.9)
    _, found = rule.value_and_grad(net, episodes)
    played, run = play(net, episodes, greedy=False, record=("hidden",))
    at = {n: y[world.hold - 1 :: world.hold] for n, y in run.outputs.items()}
    worth = np.repeat(np.asarray(rule.objective(at, played, world)[1]), world.hold, axis=0) / played.alive.sum()
    x, z = np.asarray(played.inputs), np.asarray(run["hidden"])
    for name, pre in (("input->hidden", x), ("hidden->hidden", np.concatenate([0 * z[:1], z[:-1]]))):
        total = np.zeros((12, pre.shape[-1]))
        for b in range(2):
            for t in range(len(z)):
                for s in range(t):
                    total += worth[t, b] * 1.2 * np.exp(-(t - s) / 10) * np.outer(z[t, b], pre[s, b])
                    total -= worth[t, b] * 0.8 * np.exp(-(t - s) / 15) * np.outer(z[s, b], pre[t, b])
        free = np.asarray(net.projections[name].links())
        np.testing.assert_allclose(np.asarray(found.projections[name].weight)[free], -total[free], atol=1e-12)
        assert np.abs(total).max() > 1e-4
    readout = ActorCritic(ex.rules.EProp(), discount=0.9).value_and_grad(net, episodes)[1]
    for name in ("hidden->policy", "hidden->value"):
        np.testing.assert_allclose(found.projections[name].weight, readout.projections[name].weight, atol=1e-12)
    with pytest.raises(RuleError, match="learns from rewards"):
        RewardSTDP().value_and_grad(net, ex.Trial(played.inputs, run.outputs))
    with pytest.raises(RuleError, match=r"input->hidden.*trainable=False"):
        rule.value_and_grad(agent(world, key, ex.neurons.Rate(4)), episodes)
    late = ex.AxonDelayed("hidden", "hidden", max_delay=3, delay=1).build(key, (12, 12), net.dtype)
    delayed = net.replace(projections=type(net.projections)({**net.projections, "hidden->hidden": late}))
    with pytest.raises(RuleError, match=r"hidden->hidden.*no rule for.*delays.*trainable=False"):
        rule.value_and_grad(delayed, episodes)
