"""Fixed points, Lyapunov exponents, limit cycles and phases, on systems whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.analysis import fixed_points, limit_cycle, lyapunov_spectrum, phase_response, vector_field
from engrax.errors import ArgumentError, NetworkError

WEIGHT = np.array([[0.2, -1.5, 0.0], [1.5, 0.2, 0.3], [0.0, 0.4, -0.5]])
TAU = np.array([1.0, 1.0, 2.0])


def linear():
    """A network of linear units: dx/dt = (W x + u - x) / tau."""
    return ex.Network(
        {"x": ex.neurons.CTRNN(3, tau=jnp.asarray(TAU), activation="identity", initial=0.1)},
        [ex.Dense("input", "x.drive", weight=jnp.eye(3)), ex.Dense("x", "x.net", weight=jnp.asarray(WEIGHT))],
        inputs={"input": 3},
        outputs="x",
        dt=0.1,
    )


def lorenz(x):
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


def oscillator(x, pull=0.7, turn=2.0, shear=0.0):
    """Stuart and Landau's: a circle of radius one, gone round at turn + shear (1 - r^2)."""
    r2 = x[0] ** 2 + x[1] ** 2
    speed = turn + shear * (1 - r2)
    return pull * (1 - r2) * x + speed * jnp.stack([-x[1], x[0]])


@pytest.mark.x64
def test_a_linear_network_rests_where_its_equation_says():
    drive = np.array([0.3, -0.2, 0.5])
    flow, start, states = vector_field(linear(), {"input": drive})
    assert start.tolist() == [0.1] * 3 and states(start)["x"].rate.tolist() == [0.1] * 3
    found = fixed_points(flow, jax.random.normal(jax.random.key(0), (6, 3)))
    np.testing.assert_allclose(found.points, [np.linalg.solve(np.eye(3) - WEIGHT, drive)], atol=1e-9)
    jacobian = (WEIGHT - np.eye(3)) / TAU[:, None]
    wanted = np.sort_complex(np.linalg.eigvals(jacobian))
    np.testing.assert_allclose(np.sort_complex(found.eigenvalues[0]), wanted, atol=1e-9)
    assert found.stable.tolist() == [True]
    rates = lyapunov_spectrum(flow, start, time=400.0, step=0.02)
    np.testing.assert_allclose(rates, -np.sort(-wanted.real), atol=0.01)


@pytest.mark.x64
def test_lorenz_points_and_exponents():
    starts = 15 * jax.random.normal(jax.random.key(0), (40, 3)) + jnp.array([0.0, 0.0, 20.0])[None]
    found = fixed_points(lorenz, starts)
    side = np.sqrt(8 / 3 * 27)
    wanted = np.array([[-side, -side, 27], [0, 0, 0], [side, side, 27]])
    np.testing.assert_allclose(found.points[np.argsort(found.points[:, 0])], wanted, atol=1e-7)
    assert not found.stable.any()
    rates = lyapunov_spectrum(lorenz, jnp.array([1.0, 1.0, 20.0]), time=500.0, step=0.005, settle=20.0)
    # Sprott 2003: 0.9056, 0, -14.5723; they sum to the divergence, -(10 + 1 + 8/3), at any time.
    np.testing.assert_allclose(rates, [0.9056, 0.0, -14.5723], atol=0.03)
    assert rates.sum() == pytest.approx(-41 / 3, abs=1e-4)
    assert lyapunov_spectrum(lorenz, jnp.ones(3), time=50.0, step=0.01, count=1).shape == (1,)


@pytest.mark.x64
def test_a_limit_cycle_has_its_period_multipliers_and_phases():
    cycle = limit_cycle(oscillator, jnp.array([0.6, 0.4]), guess=3.0, step=0.01, settle=2.0, points=50)
    assert cycle.period == pytest.approx(np.pi, rel=1e-8) and cycle.gap < 1e-10
    np.testing.assert_allclose(np.linalg.norm(cycle.points, axis=1), 1, atol=1e-8)
    # Radial moves decay by 2 pull.
    np.testing.assert_allclose(cycle.multipliers, [1, np.exp(-1.4 * np.pi)], atol=1e-7)
    sheared = lambda x: oscillator(x, shear=0.5)
    bent = limit_cycle(sheared, jnp.array([0.6, 0.4]), guess=3.0, step=0.01, settle=2.0, points=50)
    for flow, found, shear in ((oscillator, cycle, 0.0), (sheared, bent, 0.5)):
        # The phase of a point is its angle less shear / pull log r, over a turn.
        response = phase_response(flow, found, step=0.005)
        x, y = found.points.T
        wanted = np.stack([-y - shear / 0.7 * x, x - shear / 0.7 * y], axis=1) / (2 * np.pi)
        np.testing.assert_allclose(response, wanted, atol=1e-6)


@pytest.mark.x64
def test_what_is_not_there_is_not_found():
    with pytest.raises(ArgumentError, match="no orbit closes"):
        limit_cycle(lambda x: jnp.ones_like(x), jnp.zeros(2), guess=1.0, step=0.01)
    none = fixed_points(lambda x: jnp.ones_like(x) + 0 * x, jnp.zeros((2, 3)))
    assert none.points.shape == (0, 3) and none.stable.shape == (0,)
    with pytest.raises(ArgumentError, match="shape"):
        vector_field(linear(), {"input": np.zeros(2)})
    spiking = ex.Network(
        {"x": ex.neurons.LIF(3)}, [ex.Dense("input", "x")], inputs={"input": 1}, outputs="x", key=jax.random.key(0)
    )
    with pytest.raises(NetworkError, match="no derivative"):
        vector_field(spiking)
    for wrong in ({"time": 0.0}, {"step": -1.0}, {"count": 4}):
        with pytest.raises(ArgumentError):
            lyapunov_spectrum(lorenz, jnp.ones(3), **{"time": 1.0, "step": 0.1, **wrong})
