"""The environments that are compiled with the agent: constants, rewards, and when an episode is over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax.rl.environments import CartPole, Catch, Reaching, RewardEvidence
from engrax.rl.environments.reaching import FAR, tip


def test_the_cart_is_gymnasiums():
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra rl")
    theirs, mine = gymnasium.make("CartPole-v1"), CartPole()
    x, _ = theirs.reset(seed=3)
    state, rng = jnp.asarray(x), np.random.default_rng(0)
    for _ in range(60):
        action = int(rng.integers(2))
        x, reward, over, _, _ = theirs.step(action)
        state, seen, gained, ended = mine.step(state, jnp.asarray(action), jax.random.key(0))
        np.testing.assert_allclose(seen, x, rtol=2e-5, atol=2e-6)
        assert float(gained) == reward and bool(ended) == over
        if over:
            break
    assert over


def test_catch_is_won_under_the_ball(key):
    world = Catch(rows=8, columns=7, brightness=2.0)
    for seed in range(5):
        state, seen = world.reset(jax.random.key(seed))
        assert seen.sum() == 4 and int(state.paddle) == 3
        for t in range(world.length):
            action = 1 + jnp.sign(state.column - state.paddle)
            state, seen, reward, over = world.step(state, action, key)
            assert bool(over) == (t == world.length - 1) and float(reward) == (1.0 if over else 0.0)
    state, _ = world.reset(jax.random.key(0))
    while int(state.row) < 7:
        state, _, reward, _ = world.step(state, jnp.asarray(2 if state.column < 3 else 0), key)
    assert float(reward) == -1


def test_evidence_is_rewarded_at_its_end(key):
    world = RewardEvidence(hold=50)
    assert world.length == 45
    for seed in range(6):
        state, seen = world.reset(jax.random.key(seed))
        whole = np.asarray(state.spikes).reshape(2250, 40)
        cues = [whole[150 * i + 50 : 150 * (i + 1), :20].reshape(100, 2, 10).sum((0, 2)).argmax() for i in range(7)]
        assert int(state.answer) == int(sum(cues) > 3)
        np.testing.assert_array_equal(seen, whole[:50])
        for t in range(45):
            assert bool(world.asks(state)) == (t == 44)
            action = state.answer if seed % 2 else 1 - state.answer
            state, seen, reward, over = world.step(state, action, key)
            assert bool(over) == (t == 44)
            assert float(reward) == ((1.0 if seed % 2 else -1.0) if over else 0.0)
            if not over:
                np.testing.assert_array_equal(world.encode(seen, key), whole[50 * (t + 1) : 50 * (t + 2)])


@pytest.mark.parametrize("kind", [CartPole, Catch, Reaching, RewardEvidence])
def test_every_environment_compiles_as_it_runs(kind, key):
    world = kind()
    action = world.actions.sample(key, jnp.zeros(world.actions.outputs))
    state, seen = world.reset(key)
    parts = (world.reset, (key,)), (world.step, (state, action, key)), (world.encode, (seen, key))
    for function, arguments in parts:
        for a, b in zip(
            jax.tree.leaves(jax.jit(function)(*arguments)), jax.tree.leaves(function(*arguments)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.nightly
@pytest.mark.x64
def test_an_arm_is_rewarded_for_coming_nearer(key):
    """A hand that follows the gradient of the distance arrives, and its return is the way it made, and one more."""
    world = Reaching()
    slope = jax.grad(lambda angles, place: jnp.linalg.norm(tip(angles) - place))
    for seed in range(8):
        state, seen = world.reset(jax.random.key(seed))
        assert float(jnp.linalg.norm(tip(state.angles) - state.place)) == pytest.approx(FAR)
        x = world.encode(seen, key)
        assert x.shape == (10, 42) and float(x[0, :20].max()) > 0 and float(x[0, 40]) > 0 and float(x[0, 41]) == 0
        total, over, taken = 0.0, False, 0
        while not over:
            action = -3 * slope(state.angles, state.place)
            state, seen, reward, over = world.step(state, action, key)
            total, taken = total + float(reward), taken + 1
            if 10 <= taken < 20:
                assert float(world.encode(seen, key)[0, :20].max()) == 0 and float(reward) == 0
        assert taken < 50 and total == pytest.approx(2 - float(jnp.linalg.norm(tip(state.angles) - state.place)) / FAR)
    state, _ = world.reset(key)
    for _ in range(50):
        state, _, reward, over = world.step(state, jnp.zeros(2), key)
    assert bool(over) and float(reward) == 0
