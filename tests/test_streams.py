"""Marschall's streams: what is asked for, what is the least that one can reach, and that a rule reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax import tasks
from engrax.analysis import side_by_side
from engrax.errors import ArgumentError, LossError, TaskError
from engrax.losses.loss import as_loss, soft_cross_entropy
from engrax.testing import check_task


@pytest.mark.parametrize(
    ("name", "settings"),
    [("add", {"steps": 50}), ("add", {"steps": 31, "hold": 2, "first": 2, "second": 4}), ("mimic", {"steps": 40})],
)
def test_the_contract(name, settings):
    check_task(tasks.get(name, **settings))


@pytest.mark.parametrize("hold", [1, 2])
def test_add_asks_for_the_two_symbols(hold):
    trial = tasks.get("add", steps=60, hold=hold, first=2, second=4).sample(jax.random.key(1), 3)
    x, y = np.asarray(trial.inputs), np.asarray(trial.targets)
    np.testing.assert_allclose(x.sum(-1), 1)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-6)
    ones = x[..., 0]
    t = np.arange(4 * hold, 60)
    np.testing.assert_allclose(y[t, :, 0], 0.5 + ones[t - 2 * hold] / 2 - ones[t - 4 * hold] / 4)
    # Also at a trial's start, from what came before it.
    assert set(np.unique(y[: 4 * hold, :, 0])) <= {0.25, 0.5, 0.75, 1.0}


def test_the_floors_are_the_published_ones_and_those_of_ideal_readers():
    task = tasks.get("add", steps=20000)
    np.testing.assert_allclose(task.floors, (0.6616, 0.5192, 0.4545), atol=5e-5)
    trial = task.sample(jax.random.key(2), 1)
    logit = lambda p: jnp.log(jnp.clip(jnp.stack([p, 1 - p], -1), 1e-9))
    y = trial.targets[..., 0]
    near = jnp.roll(trial.inputs[..., 0], 5, axis=0)
    for floor, known in zip(task.floors, (jnp.full_like(y, 0.625), 0.375 + near / 2, y), strict=True):
        # The cross-entropy's standard deviation over steps is below 0.7.
        np.testing.assert_allclose(float(task.score(logit(known), trial)), floor, atol=4 * 0.7 / 20000**0.5)


def test_mimic_is_its_teacher():
    task = tasks.get("mimic", steps=30, inputs=3, units=5, outputs=2, leak=0.5, hold=2)
    x = jax.random.bernoulli(jax.random.key(3), 0.5, (4, 2, 3)).astype(jnp.float32)
    keys = jax.random.split(jax.random.key(0), 5)
    w = np.asarray(jax.random.orthogonal(keys[0], 5))
    np.testing.assert_allclose(w @ w.T, np.eye(5), atol=1e-6)
    v, u = jax.random.normal(keys[1], (5, 3)) / 3**0.5, jax.random.normal(keys[2], (2, 5)) / 5**0.5
    b, c = 0.1 * jax.random.normal(keys[3], (5,)), 0.1 * jax.random.normal(keys[4], (2,))
    a, found = np.zeros((2, 5)), []
    for now in np.asarray(x):
        a = 0.5 * a + 0.5 * np.tanh(a @ w.T + now @ np.asarray(v).T + np.asarray(b))
        found.append(a @ np.asarray(u).T + np.asarray(c))
    np.testing.assert_allclose(task.answer(x), found, atol=1e-6)
    trial = task.sample(jax.random.key(4), 2)
    np.testing.assert_array_equal(trial.inputs[0::2][:15], trial.inputs[1::2][:15])


def test_soft_cross_entropy_is_that_of_classes_where_the_probabilities_are_sure():
    output = jax.random.normal(jax.random.key(5), (4, 3))
    sure = jax.nn.one_hot(jnp.array([0, 2, 1, 1]), 3)
    np.testing.assert_allclose(
        soft_cross_entropy(output, sure), ex.losses.cross_entropy(output, jnp.array([0, 2, 1, 1])), rtol=1e-6
    )
    assert as_loss("soft_cross_entropy", jnp.zeros((5, 4, 3))).function is soft_cross_entropy
    with pytest.raises(LossError, match="real targets"):
        as_loss("soft_cross_entropy", jnp.zeros((5, 4), jnp.int32))


def test_impossible_settings_are_refused():
    with pytest.raises(TaskError, match="second"):
        tasks.get("add", first=5, second=5)
    with pytest.raises(TaskError, match="leak"):
        tasks.get("mimic", leak=0.0)


def student(key, units=6):
    return ex.Network(
        {"hidden": ex.neurons.Rate(units, tau=1.5), "out": ex.neurons.Relay(2)},
        [
            ex.Dense("input", "hidden"),
            ex.Dense("hidden", "hidden", init="orthogonal"),
            ex.Dense("hidden", "out", bias=True),
        ],
        inputs={"input": 2},
        outputs="out",
        key=key,
    )


def test_side_by_side_knows_equal_rules_and_follows_one():
    task = tasks.get("add", steps=40, first=1, second=2)
    trial, net = task.sample(jax.random.key(6), 2), student(jax.random.key(7))
    loss = "soft_cross_entropy"
    rules = {
        "rtrl": ex.rules.RTRL(loss=loss),
        "bptt": ex.rules.SlidingBPTT(horizon=40, loss=loss),
        "rflo": ex.rules.RFLO(feedback="symmetric", loss=loss),
        "dni": ex.rules.DNI(loss=loss),
        "random": ex.rules.RFLO(feedback="random", loss=loss),
        "kernl": ex.rules.KeRNL(loss=loss),
        "dni again": ex.rules.DNI(loss=loss),
    }
    still = optax.sgd(0.0)
    found = side_by_side(net, trial, rules, still, jax.random.key(8), projections=["hidden->hidden"])
    assert found.rules == tuple(rules)
    np.testing.assert_allclose(np.diag(found.cosines), 1, rtol=1e-5)
    np.testing.assert_allclose(found.cosines[0, 1], 1, rtol=1e-5)  # weights rest: RTRL is BPTT over the whole past
    np.testing.assert_allclose(found.norms[0], found.norms[1], rtol=1e-4)
    assert 0.2 < float(found.cosines[0, 2]) < 0.99
    # Feedback is each rule's own, whatever others have.
    assert float(found.cosines[2, 4]) < 0.9
    # The steps' losses are those of the network as it stands, and of the followed rule as it learns.
    value, _ = rules["rtrl"].value_and_grad(net, trial, jax.random.key(0))
    np.testing.assert_allclose(float(found.loss.mean()), float(value), rtol=1e-5)
    moved = side_by_side(net, trial, rules, optax.sgd(0.05), jax.random.key(8))
    np.testing.assert_allclose(moved.cosines[3, 6], 1, rtol=1e-5)
    assert float(jnp.abs(moved.cosines[3] - found.cosines[3]).max()) > 1e-4
    alone = side_by_side(net, trial, {"rtrl": rules["rtrl"]}, optax.sgd(0.05), jax.random.key(8))
    np.testing.assert_allclose(moved.loss, alone.loss, rtol=1e-5)
    assert float(jnp.abs(moved.loss - found.loss).max()) > 1e-4


def test_side_by_side_refuses_what_has_no_stream():
    trial, net = tasks.get("add", steps=5).sample(jax.random.key(6), 2), student(jax.random.key(7))
    with pytest.raises(ArgumentError, match="no stream"):
        side_by_side(net, trial, {"a": ex.rules.BPTT()}, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ArgumentError, match="follow"):
        side_by_side(net, trial, {"a": ex.rules.RTRL()}, optax.sgd(0.1), jax.random.key(0), follow="b")
