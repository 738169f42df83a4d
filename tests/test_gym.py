"""Environments outside JAX: Gymnasium's, one's own, and broken ones."""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError, TaskError, WorldError
from engrax.rl import ActorCritic, Continuous, Discrete, HostEnvironment, close_worlds, crew, play
from engrax.rl.environments import CartPole, Gym
from engrax.rl.worlds.share import Source

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra rl")

import host_worlds  # noqa: E402 (it needs Gymnasium)

WALK = "host_worlds:Walk-v0"
# Compiled whole, which takes less time than piece by piece.
played = eqx.filter_jit(partial(play, greedy=False))
RULE = ActorCritic(ex.rules.EProp(), discount=0.9)


def agent(world, key, units=6):
    """A small network that acts in a world."""
    populations = {
        "hidden": ex.neurons.LIF(units),
        "policy": ex.neurons.LI(world.actions.outputs, tau=5.0),
        "value": ex.neurons.LI(1, tau=8.0),
    }
    ends = [("input", "hidden"), ("hidden", "hidden"), ("hidden", "policy"), ("hidden", "value")]
    projections = [ex.Dense(a, b, autapses=a != b) for a, b in ends]
    heads = {"policy": "policy", "value": "value"}
    return ex.Network(populations, projections, inputs={"input": world.input_size}, outputs=heads, key=key)


def walk(workers, **settings):
    return Gym(WALK, low=-2, high=2, units=4, intensity=4.0, hold=3, workers=workers, **settings)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_gymnasiums_cart_is_ours(key):
    theirs, ours = Gym("CartPole-v1", low=-3, high=3, workers=0), CartPole()
    assert theirs.length == 500 and theirs.actions.count == 2 and theirs.code.high[0] == pytest.approx(4.8)
    state, x = theirs.reset(key)
    assert float(jnp.abs(x).max()) <= 0.05
    mine = x
    for t in range(500):
        action = jnp.asarray(int(x[2] > 0) if t < 20 else 0)
        state, x, reward, over = theirs.step(state, action, key)
        mine, seen, _, ended = ours.step(mine, action, key)
        np.testing.assert_allclose(seen, x, rtol=2e-5, atol=5e-6)
        assert float(reward) == 1 and bool(over) == bool(ended)
        if over:
            break
    assert 20 < t < 200 and not theirs.cut(state)[0]
    _, again, reward, over = theirs.step(state, action, key)
    np.testing.assert_array_equal(again, x)
    assert float(reward) == 0 and bool(over)


def test_an_episode_is_the_same_in_whatever_company_and_processes(key):
    here, there = walk(0), walk(2)
    net, keys = agent(here, key), here.sample(key, 5).keys
    whole, _ = played(net, dataclasses.replace(here.sample(key, 5), keys=keys))
    assert 1 < float(whole.alive.sum()) < 40 and len(set(np.asarray(whole.rewards).sum(0))) > 1
    equal(whole, played(net, there.sample(key, 5))[0])
    equal(whole, played(net, there.sample(key, 5))[0])
    few = played(net, dataclasses.replace(there.sample(key, 5), keys=keys[3:]))[0]
    for name in ("actions", "rewards", "alive"):
        count = int(few.alive.sum(0).max())
        np.testing.assert_array_equal(getattr(few, name)[:count], getattr(whole, name)[:count, 3:])
    np.testing.assert_allclose(few.last, whole.last[3:], rtol=1e-5)


@pytest.mark.nightly
def test_an_episode_that_is_cut_off_counts_what_was_to_come(key):
    """By the environment's time limit, by a shorter or a longer `length`, or by the environment itself, early."""
    options = {"ends": 0.0}
    world = walk(0, options=options)
    net = agent(world, key)
    assert world.length == 8
    limited, run = played(net, world.sample(key, 2))
    assert float(limited.alive.sum()) == 16 and float(jnp.abs(limited.last).min()) > 1e-4
    longer, _ = played(net, walk(0, options=options, length=11).sample(key, 2))
    np.testing.assert_array_equal(longer.alive.sum(0), [8, 8])
    np.testing.assert_array_equal(longer.last, limited.last)
    shorter, _ = played(net, walk(0, options=options, length=5).sample(key, 2))
    # What was said at the sixth action is what the value was when no more than five were allowed.
    np.testing.assert_allclose(shorter.last, run.outputs["value"][6 * 3 - 1, :, 0], rtol=1e-6)

    early = walk(0, options={"ends": 0.15, "cuts": 0.2})
    episodes = early.sample(key, 8)
    together, _ = played(net, episodes)
    lengths, cut = np.asarray(together.alive.sum(0)), np.asarray(together.last) != 0
    assert len(set(lengths[cut])) > 1 and cut.any() and not cut.all()
    b = int(np.argmin(np.where(cut, lengths, 99)))
    alone, _ = played(net, dataclasses.replace(episodes, keys=episodes.keys[b : b + 1]))
    assert float(alone.alive.sum()) == lengths[b] < lengths.max()
    np.testing.assert_allclose(alone.last[0], together.last[b], rtol=1e-5)


def test_continuous_actions_are_kept_to_the_space(key):
    world = Gym("host_worlds:Push-v0", hold=2, spread=3.0, workers=0)
    assert world.actions == Continuous(2, 3.0, (-1.0, 0.0), (1.0, 0.25)) and world.input_size == 6
    found, _ = played(agent(world, key), world.sample(key, 4))
    given = np.clip(found.actions, [-1, 0], [1, 0.25])
    assert np.abs(np.asarray(found.actions)).max() > 2
    np.testing.assert_allclose(found.rewards, given[..., 0] + 10 * given[..., 1], rtol=1e-5)
    np.testing.assert_allclose(found.inputs[0, 0], [0, 0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)
    with pytest.raises(ArgumentError, match="must be a number, or 2"):
        Continuous(2, low=(0.0,))


def test_a_pendulum_gives_a_gradient(key):
    world = Gym("Pendulum-v1", length=6, hold=3, units=5, intensity=4.0, workers=0)
    assert Gym("Pendulum-v1").length == 200 and world.actions.high == (2.0,)
    net = agent(world, key)
    loss, gradient = RULE.value_and_grad(net, world.sample(key, 3), key)
    again, _ = RULE.value_and_grad(net, world.sample(key, 3), key)
    assert np.isfinite(float(loss)) and float(loss) == float(again)
    assert float(jnp.linalg.norm(gradient.projections["input->hidden"].weight)) > 1e-5


def test_states_that_are_numbers_are_one_hot(key):
    world = Gym("FrozenLake-v1", options={"is_slippery": False}, hold=2, intensity=3.0, workers=0)
    assert world.input_size == 16 and world.length == 100
    state, x = world.reset(key)
    _, x, _, over = world.step(state, jnp.asarray(1), key)
    np.testing.assert_array_equal(world.encode(x, key), 3.0 * np.eye(16)[[4, 4]])
    assert not over


@pytest.mark.unchecked
def test_what_an_environment_is_refused_for():
    for settings, message in (
        ({"env": "CartPole-v1"}, r"low is missing: .*none.*Give low=\[...\] with a number for each of the 4"),
        ({"env": "CartPole-v1", "low": -3}, "high is missing"),
        ({"env": "CartPole-v1", "low": [1, 2], "high": 3}, "low must have 4 numbers"),
        ({"env": "CartPole-v1", "low": -3, "high": [-9, 3, 3, 3]}, "low must lie below high, but number 0"),
        ({"env": "CartPole-v1", "low": "x", "high": 3}, "low must be a finite number"),
        ({"env": "Nowhere-v1"}, "cannot make 'Nowhere-v1'"),
        ({"env": 3}, "env must be the name"),
        ({"env": "Blackjack-v1"}, "Discrete spaces and Boxes"),
        ({"env": "CliffWalking-v1"}, "length is missing"),
        ({"env": "CartPole-v1", "options": {"a": []}}, "options must be"),
        ({"env": WALK, "workers": -1}, "workers"),
    ):
        with pytest.raises(TaskError, match=message):
            Gym(**settings)


@pytest.fixture(scope="module")
def fuse(tmp_path_factory):
    return tmp_path_factory.mktemp("fuse") / "fuse"


def train(fuse, key, workers=2, seeds=None, **options):
    world = walk(workers, options={"fuse": str(fuse)}, episodes=4, validation_episodes=4)
    options = {"batch": 4, "validate_every": 3, "progress": False, **options}
    return ex.fit(agent(world, key), world, RULE, optax.adam(1e-2), 9, seeds=seeds, key=key, **options)


@pytest.fixture(scope="module")
def undisturbed(fuse):
    return train(fuse, jax.random.key(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param(
            "raise",
            r"Walk-v0: world \d of the batch raised ZeroDivisionError: the walk is over .* in step 3.*resume=True",
            marks=pytest.mark.nightly,
        ),
        ("exit", r"Walk-v0: worker process \d ended \(exit code 7\) .* world \d of the batch, in step 3.*workers=0"),
    ],
)
def test_a_broken_world_is_named_and_the_training_goes_on(how, message, fuse, undisturbed, tmp_path):
    def light(step, nets):
        if step == 6:
            fuse.write_text(how)
        return {}

    with pytest.raises(WorldError, match=message):
        train(fuse, jax.random.key(3), out=tmp_path / "run", watch=light)
    resumed = train(fuse, jax.random.key(3), out=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(resumed.losses, undisturbed.losses)
    equal(resumed.network, undisturbed.network)
    assert len(set(np.asarray(resumed.losses))) == 9 and resumed.test_return == undisturbed.test_return


def test_ctrl_c_while_a_world_is_at_work(fuse, tmp_path):
    def light(step, nets):
        fuse.write_text("interrupt")
        return {}

    run = train(fuse, jax.random.key(3), workers=0, out=tmp_path / "run", watch=light)
    assert run.interrupted and run.steps == 3 and np.isfinite(run.test_return)


@pytest.mark.nightly
def test_a_broken_world_is_named_wherever_it_is_played(fuse, key):
    world = walk(0, options={"fuse": str(fuse), "ends": 0.0}, episodes=2)
    net = agent(world, key)
    for use in (
        lambda: ex.evaluate(net, world),
        lambda: play(net, world.sample(key, 2), greedy=True),
        lambda: RULE.value_and_grad(net, world.sample(key, 2), key),
    ):
        fuse.write_text("raise")
        with pytest.raises(WorldError, match="in step 3") as caught:
            use()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        use()
    liar = Gym("host_worlds:Liar-v0", workers=1)
    with pytest.raises(WorldError, match=r"\(1, 2\), not \(3, 2\) when it was reset, at the beginning of an episode"):
        liar.reset(key)


def test_a_world_that_workers_do_not_know(key):
    gymnasium.register("OnlyHere-v0", entry_point=host_worlds.Walk, max_episode_steps=8)
    world = Gym("OnlyHere-v0", low=-2, high=2, workers=1)
    with pytest.raises(WorldError, match="write env='module:Name', or workers=0"):
        world.reset(key)


class Counting(HostEnvironment):
    """A world of one's own: it counts, and an action of 1 ends it."""

    path: str = eqx.field(static=True)

    @property
    def actions(self):
        return Discrete(2)

    @property
    def source(self):
        return Source(self.path, "Count", (("by", 2),), "counting", (3,), "float64")

    hold, length, dt, input_size = 2, 9, 1.0, 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_world_of_ones_own(workers, key, tmp_path):
    (tmp_path / "count.py").write_text(COUNT)
    world = Counting(str(tmp_path / "count.py"), workers=workers)
    states, x = world.begin(jax.random.split(key, 3))
    assert x.shape == (3, 3) and len(np.unique(x)) == 3
    for t in range(1, 4):
        states, new, reward, over = world.advance(states, jnp.array([0, int(t == 2), 0]), jax.random.split(key, 3))
        np.testing.assert_array_equal(over, [False, t >= 2, False])
        np.testing.assert_array_equal(reward, [t, t if t <= 2 else 0, t])
    np.testing.assert_allclose(new - x, np.array([[6.0], [4.0], [6.0]]).repeat(3, 1), rtol=1e-6)
    np.testing.assert_array_equal(states.total, [6, 3, 6])


COUNT = """
import random
class Count:
    def __init__(self, by):
        self.by = by
    def reset(self, seed):
        print("what a world prints is not an answer")
        self.t, self.x = 0, random.Random(seed).random()
        return [self.x] * 3
    def step(self, action):
        self.t += 1
        return [self.x + self.by * self.t] * 3, self.t, action == 1, False
    def close(self):
        pass
"""


def test_two_batches_at_a_time_are_refused(key):
    world = walk(0)
    state, _ = world.begin(jax.random.split(key, 2))
    world.begin(jax.random.split(key, 2))
    with pytest.raises(WorldError, match="other episodes have begun"):
        world.advance(state, jnp.zeros(2, int), jax.random.split(key, 2))


def test_workers_end(key):
    world = walk(2)
    world.begin(jax.random.split(key, 3))
    hands = crew.crew(world.source, 2).hands
    assert [hand.process.poll() for hand in hands] == [None, None]
    assert [part.stop - part.start for part in crew.crew(world.source, 2).parts] == [2, 1]
    close_worlds()
    assert [hand.process.returncode for hand in hands] == [0, 0]


@pytest.mark.nightly
@pytest.mark.slow
def test_seeds_play_one_after_the_other(fuse):
    both = train(fuse, jax.random.key(3), seeds=[1, 4])
    turned = train(fuse, jax.random.key(3), seeds=[4, 1])
    np.testing.assert_array_equal(both.losses, turned.losses[::-1])
    assert len(set(np.asarray(both.losses[:, 0]))) == 2
