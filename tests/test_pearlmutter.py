"""Pearlmutter 1989: its network, how far paths lie from an orbit, and its experiments in short."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.papers import EXPERIMENTS
from engrax.papers import pearlmutter1989 as paper


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
@pytest.mark.parametrize("name", ["xor", "circle", "eight", "stable"])
def test_experiments_run_in_short(name, tmp_path):
    said = []
    found = EXPERIMENTS["pearlmutter1989", name]().run(True, tmp_path / name, said.append)
    assert found.verdict == "untested" and found.measured


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
