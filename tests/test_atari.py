"""Atari games: pictures, actions, scores, and a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.errors import TaskError
from engrax.rl import ActorCritic
from engrax.rl.environments import FishingDerby, Pong

pytest.importorskip("ale_py", reason="needs the extra rl")


def test_a_picture_of_pong(key):
    world = Pong(length=20, hold=5, workers=0)
    assert world.input_size == 84 * 84 and world.actions.count == 3 and world.dt == 1
    state, x = world.reset(key)
    assert x.shape == (84, 84) and x.dtype == jnp.uint8 and 50 < int(x.max()) <= 255 and len(np.unique(x)) > 3
    heights = []
    for _ in range(12):
        state, x, _, over = world.step(state, jnp.asarray(1), key)
        heights.append(np.argwhere(np.asarray(x)[14:78, 74] > 120).mean())
    assert heights[-1] < heights[0] - 4 and not over  # the agent's bat is the right one, and went up
    y = world.encode(x, key)
    assert y.shape == (5, 7056) and float(y.min()) >= 0 and float(y.max()) <= 1
    np.testing.assert_allclose(y[4].reshape(84, 84), np.asarray(x) / 255, rtol=1e-6)


def test_what_a_game_is_refused_for():
    with pytest.raises(TaskError, match="jitter must be less than length, 5"):
        Pong(length=5, jitter=5)


def test_pictures_are_averages_over_areas():
    from engrax.rl.worlds.atari import AtariWorld

    world = AtariWorld("pong", (0, 3, 4), 30, 10, 0)
    frame = np.random.default_rng(0).integers(0, 256, (210, 160), np.uint8)
    fine = frame.repeat(2, axis=0).repeat(21, axis=1).astype(float)
    means = fine.reshape(84, 5, 84, 40).mean((1, 3))
    np.testing.assert_array_equal(world._picture(frame), np.floor(means + 0.5))
    first = world.reset(5)
    shown = [world.step(1)[0] for _ in range(10)]
    assert world.step(1)[3]
    world.reset(6)
    world.step(2)
    np.testing.assert_array_equal(world.reset(5), first)
    np.testing.assert_array_equal([world.step(1)[0] for _ in range(10)], shown)


@pytest.mark.slow
def test_pong_gives_a_gradient_and_a_score(key):
    world = Pong(length=20, jitter=8, hold=2, episodes=2, workers=2)
    populations = {
        "hidden": ex.neurons.LIF(10),
        "policy": ex.neurons.LI(3, tau=5.0),
        "value": ex.neurons.LI(1, tau=8.0),
    }
    ends = [("input", "hidden"), ("hidden", "hidden"), ("hidden", "policy"), ("hidden", "value")]
    projections = [ex.Dense(a, b, autapses=a != b) for a, b in ends]
    heads = {"policy": "policy", "value": "value"}
    net = ex.Network(populations, projections, inputs={"input": world.input_size}, outputs=heads, key=key)
    rule = ActorCritic(ex.rules.EProp(), discount=0.9)
    loss, gradient = rule.value_and_grad(net, world.sample(key, 2), key)
    assert np.isfinite(float(loss)) and float(jnp.linalg.norm(gradient.projections["input->hidden"].weight)) > 1e-6
    found = ex.evaluate(net, world)
    assert 12 <= found["actions"] < 20 and -1 <= found["return"] <= 0 and found["score"] == found["return"]


def test_scores_in_fishing_derby_are_not_clipped(key):
    world = FishingDerby(length=10)
    assert world.actions.count == 18
    np.testing.assert_array_equal(world.rewarded(jnp.array([6.0, -2.0, 0.0])), [1, -1, 0])
    total = world.begin(jax.random.split(key, 2))[0]._replace(total=jnp.array([6.0, 2.0]))
    np.testing.assert_array_equal(world.figures(total)["score"], [6, 2])
