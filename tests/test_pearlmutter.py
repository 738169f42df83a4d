"""Pearlmutter 1989: its network, how far paths lie from an orbit, and its experiments in short."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.papers import EXPERIMENTS
from engrax.papers import pearlmutter1989 as paper
from engrax.papers import pearlmutter1989_applications as applied
from engrax.tasks.mackey_glass import smape, solution
from engrax.testing import check_task


def test_the_network_joins_all_to_all():
    net = paper.network(3, 1, 2)
    around = {n: p.weight.shape for n, p in net.projections.items() if n.endswith(".net")}
    assert around == {
        f"{a}->{b}.net": (k, m) for a, m in (("hidden", 3), ("out", 1)) for b, k in (("hidden", 3), ("out", 1))
    }
    assert all(float(jnp.abs(net.projections[n].weight).max()) <= 1 for n in around)
    # Each of two inputs comes to a unit of its own, outside the squashing.
    assert net.projections["input->hidden.drive"].weight.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert not np.any(paper.network(4).projections["input->hidden.drive"].weight)
    widest = jnp.abs(paper.network(60).projections["hidden->hidden.net"].weight).max()
    assert 0.95 < float(widest) <= 1


def test_distances_are_from_the_nearest_point():
    turn = jnp.linspace(0, 2 * jnp.pi, 1000)
    circle = jnp.stack([jnp.cos(turn), jnp.sin(turn)], axis=-1)
    away = paper.apart(jnp.array([[2.0, 0.0], [0.0, 0.5], [0.0, -1.0]]), circle)
    np.testing.assert_allclose(away, [1, 0.5, 0], atol=0.005)


def test_a_kick_moves_every_unit_and_what_is_heard_of_it():
    net = paper.network(4)
    _, before = paper.path_of(net, paper.BEGIN + 2 * paper.TURN)
    after = paper.kicked(net, jax.random.key(3))
    for name in ("hidden", "out"):
        moved = np.asarray(after.neurons[name].rate - before.neurons[name].rate)
        assert np.all(moved != 0) and np.abs(moved).max() <= 0.1
        np.testing.assert_allclose(after.history[name][-1], after.neurons[name].rate, rtol=1e-6)


def test_an_untrained_network_comes_to_rest_and_its_orbit_has_no_drift():
    net = paper.network(4)
    assert paper.drift(net, turns=4) < 1e-3
    at_once, *_, late = paper.recoveries(net, kicks=2)
    assert late < 1e-3 < at_once < 0.15


def test_the_gradient_holds():
    found = EXPERIMENTS["pearlmutter1989", "gradient"]().run(True, Path("folder"), print)
    assert found.verdict == "holds" and len(found.measured) == 7 and max(found.measured.values()) < 1e-6


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["xor", "circle", "eight", "stable", "applications"])
def test_experiments_run_in_short(name, tmp_path):
    said = []
    found = EXPERIMENTS["pearlmutter1989", name]().run(True, tmp_path / name, said.append)
    assert found.verdict == "untested" and found.measured


@pytest.mark.nightly
def test_orbits_are_trained_by_horizons_that_grow(tmp_path):
    nets, errors = paper.eights(2, tmp_path / "x", print, share=600)
    again, same = paper.eights(2, tmp_path / "x", print, share=600)
    assert errors == same and len(nets) == 1
    for a, b in zip(jax.tree.leaves(nets[0]), jax.tree.leaves(again[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    error = tasks.get("orbit", shape="eight").score(
        nets[0].run(jnp.zeros((370, 1, 1))).outputs, next(tasks.get("orbit", shape="eight").batches("test", 1))
    )
    assert float(jnp.sqrt(error)) == pytest.approx(errors[0], rel=1e-4)


@pytest.mark.x64
def test_the_mackey_glass_series_is_the_equations_solution():
    """Of fourth order in its step, within the equation, and as chaotic as its Lyapunov time says."""
    times = np.linspace(0, 400, 801)
    coarse, middle, fine = (solution(17, 0.72066, times, steps) for steps in (34, 68, 272))
    shrinks = np.abs(coarse - fine).max() / np.abs(middle - fine).max()
    assert 12 < shrinks < 20 and np.abs(middle - fine).max() < 1e-5
    # By central differences: dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t).
    at, h = np.arange(50.0, 390.0, 1.7), 0.01
    ahead, behind, here, late = (solution(17, 0.72066, at + d) for d in (h, -h, 0, -17))
    rate = 0.2 * late / (1 + late**10) - 0.1 * here
    np.testing.assert_allclose((ahead - behind) / (2 * h), rate, atol=1e-5)
    # A millionth more at the start: e times more every 197 units of time, on average over five of them.
    far = 1000 + np.arange(0.0, 2000.0, 5.0)
    away = np.abs(solution(17, 0.72066, far) - solution(17, 0.72066 + 1e-9, far))
    growth = np.polyfit(far, np.log(away), 1)[0]
    assert 100 < 1 / growth < 400


def test_a_series_is_shown_up_to_its_end_and_continued_from_there():
    task = tasks.get("mackey_glass", fine=2)
    check_task(task)
    train, test = (next(task.batches(split, 1)) for split in ("train", "test"))
    np.testing.assert_allclose(train.inputs[::2, 0, 0], task.series[:750], rtol=1e-5)
    np.testing.assert_allclose(train.inputs[1:], train.targets[:-1])
    np.testing.assert_allclose(test.inputs[0], train.targets[-1], rtol=1e-5)
    assert float(train.mask[:50].sum()) == 0 and float(train.mask[1350:].sum()) == 0
    # A network that says what it is told stays where it was left.
    net = applied.predictor(0, task.dt)
    zero = {"hidden->out": jnp.zeros_like(net.projections["hidden->out"].weight)}
    still = net.replace(
        projections={n: p.replace(weight=zero[n]) if n in zero else p for n, p in net.projections.items()}
    )
    predictions, truth = task.forecast(still)
    np.testing.assert_allclose(predictions, train.inputs[-1, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(truth, task.series[750:1500], rtol=1e-6)
    assert smape(truth, truth) == 0 and 20 < smape(predictions, truth) < 60
    assert applied.learnt(net, task.dt)["delay"] == pytest.approx(13, rel=1e-5)


def test_pendulums_obey_their_equation_and_must_be_swung():
    net = applied.controller(0)
    start = jnp.linspace(-3, 3, 7)
    ran = applied.swing(net, start, jnp.zeros(7), 50)
    assert float(jnp.abs(ran.torque).max()) <= applied.TORQUE
    speed = 0.05 * (15 * jnp.sin(start) + 3 * ran.torque[0])
    np.testing.assert_allclose(ran.speed[0], speed, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ran.height[0], jnp.cos(start + 0.05 * speed), rtol=1e-4, atol=1e-6)


@pytest.mark.nightly
def test_a_controller_learns_through_the_pendulum():
    assert applied.controlled(0, 300)[1]["upright"] >= 0.95
