"""Surrogates: values from the papers' formulas, and one psi in forward and in reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import engrax as ex

S = ex.surrogates
X = np.array([-6.0, -1.9, -1.0, -0.3, -0.1, 0.0, 0.05, 0.25, 0.5, 1.0, 1.272, 3.0, 5.0])
THRESHOLD = 0.4
HALF = 2.0  # a width that is not the threshold

FORMULAS = {
    "triangular, own threshold": (S.Triangular(), lambda x: 0.3 / THRESHOLD * np.maximum(0, 1 - np.abs(x) / THRESHOLD)),
    "triangular": (S.Triangular(0.7, HALF), lambda x: 0.7 / HALF * np.maximum(0, 1 - np.abs(x) / HALF)),
    "gaussian": (S.Gaussian(), lambda x: 0.5 * norm.pdf(x, 0, 0.5)),
    "gaussian 0.3": (S.Gaussian(0.3, 1.0), lambda x: norm.pdf(x, 0, 0.3)),
    "multi-gaussian": (
        S.MultiGaussian(),
        lambda x: 0.5 * (1.15 * norm.pdf(x, 0, 0.5) - 0.15 * norm.pdf(x, 0.5, 3.0) - 0.15 * norm.pdf(x, -0.5, 3.0)),
    ),
    "multi-gaussian 0.3": (
        S.MultiGaussian(0.3, 0.2, 4.0, 1.0),
        lambda x: 1.2 * norm.pdf(x, 0, 0.3) - 0.2 * (norm.pdf(x, 0.3, 1.2) + norm.pdf(x, -0.3, 1.2)),
    ),
    "fast sigmoid, own threshold": (S.FastSigmoid(), lambda x: 1 / (1 + np.abs(x) / THRESHOLD) ** 2),
    "fast sigmoid": (S.FastSigmoid(0.5, HALF), lambda x: 0.5 / (1 + np.abs(x) / HALF) ** 2),
    "arctan, own threshold": (S.Arctan(), lambda x: 1 / (1 + (x / THRESHOLD) ** 2)),
    "arctan": (S.Arctan(0.5, HALF), lambda x: 0.5 / (1 + (x / HALF) ** 2)),
    "exponential, own threshold": (S.Exponential(), lambda x: np.exp(-np.abs(x) / THRESHOLD)),
    "exponential, SLAYER": (S.Exponential(1.0, 0.2), lambda x: np.exp(-5 * np.abs(x))),
    "user": (S.as_surrogate(lambda x: jnp.cos(x) ** 2), lambda x: np.cos(x) ** 2),
}


@pytest.mark.x64
@pytest.mark.parametrize("name", FORMULAS)
def test_psi_is_the_formula_and_both_modes_use_it(name):
    surrogate, formula = FORMULAS[name]
    x, threshold = jnp.asarray(X), jnp.full(X.shape, THRESHOLD)
    wanted = formula(X)
    assert np.ptp(wanted) > 0.1
    assert np.allclose(surrogate.psi(x, threshold), wanted, rtol=1e-12, atol=1e-15)
    spike = lambda x: surrogate(x, threshold)
    value, forward = jax.jvp(spike, (x,), (jnp.ones_like(x),))
    _, pull = jax.vjp(spike, x)
    assert np.array_equal(value, X > 0)  # strictly above
    assert np.allclose(forward, wanted, rtol=1e-12, atol=1e-15)
    assert np.array_equal(forward, pull(jnp.ones_like(x))[0])
    scaled = jax.jit(jax.vmap(jax.grad(lambda x, w: surrogate(x, w))))(x, threshold)
    assert np.allclose(scaled, wanted, rtol=1e-12, atol=1e-15)
    # The threshold reaches the spike through x = v - A alone: psi's own width is a constant.
    assert np.array_equal(jax.vjp(lambda w: surrogate(x, w), threshold)[1](jnp.ones_like(x))[0], np.zeros(X.shape))


@pytest.mark.x64
def test_multi_gaussian_has_the_published_values():
    """Yin et al. 2021 with h 0.15, s 6, sigma 0.5, before the dampening of 0.5 (papers/adaptive-srnn.md, section 2)."""
    g = S.MultiGaussian(dampening=1.0)
    table = {
        0.0: 0.8782,
        0.25: 0.7705,
        0.5: 0.5177,
        1.0: 0.0869,
        1.272: 0.0,
        1.864: -0.0317,
        3.0: -0.0242,
        5.0: -0.0102,
    }
    for x, value in table.items():
        assert abs(float(g.psi(jnp.array(x), jnp.array(1.0))) - value) < 1.5e-4, x
        assert float(g.psi(jnp.array(-x), jnp.array(1.0))) == pytest.approx(
            float(g.psi(jnp.array(x), jnp.array(1.0))), abs=1e-15
        )
    grid = jnp.linspace(-60, 60, 60001)
    values = g.psi(grid, jnp.ones_like(grid))
    assert abs(float(jnp.sum(values)) * 120 / 60000 - 0.85) < 1e-6  # 1 - h
    assert abs(abs(float(grid[jnp.argmin(values)])) - 1.864) < 2e-3
    assert float(S.MultiGaussian().psi(jnp.array(0.0), jnp.array(1.0))) == pytest.approx(0.439, abs=1e-3)


@pytest.mark.x64
@pytest.mark.parametrize(("kind", "power"), [(S.Triangular, 1), (S.FastSigmoid, 0), (S.Arctan, 0), (S.Exponential, 0)])
def test_relative_widths_follow_the_threshold(kind, power):
    """width=None: psi keeps its shape when voltages are rescaled; Triangular also its area (Bellec et al. 2020)."""
    thresholds = jnp.array([0.1, 0.4, 2.5])
    x = jnp.array([0.03, -0.7 * 0.4, 1.9])
    assert kind().relative() and not kind(width=1.0).relative()
    for factor in (0.05, 3.0):
        scaled = kind().psi(factor * x, factor * thresholds)
        assert np.allclose(scaled, kind().psi(x, thresholds) / factor**power, rtol=1e-12)
    for w in (0.1, 2.5):
        assert np.allclose(kind().psi(x, jnp.full(3, w)), kind(width=w).psi(x, thresholds), rtol=1e-12)


@pytest.mark.x64
def test_every_unit_has_the_width_of_its_own_threshold():
    thresholds = np.array([0.5, 1.0, 2.0])
    neuron = ex.neurons.LIF(3, threshold=thresholds)
    slope = jax.grad(lambda i: jnp.sum(neuron.step(neuron.init_state(), i)[1]))(jnp.full(3, 0.75))
    assert np.allclose(slope, 0.3 / thresholds * np.maximum(0, 1 - np.abs(0.75 - thresholds) / thresholds), rtol=1e-12)


@pytest.mark.x64
def test_width_and_scale_take_the_baseline_threshold():
    """ALIF: psi is centred on A = v_th + beta a but as wide as v_th (papers/eprop.md 1.4)."""
    neuron = ex.neurons.ALIF(1, threshold=0.5, beta=1.0, tau_adaptation=1e9)
    state = neuron.init_state()._replace(adaptation=jnp.array([0.8]))
    slope = jax.grad(lambda i: neuron.step(state, i)[1][0])(jnp.array([1.2]))
    assert np.allclose(slope, 0.3 / 0.5 * (1 - 0.1 / 0.5), rtol=1e-6)


@pytest.mark.x64
def test_a_users_function_and_names_serve_a_neuron():
    neuron = ex.neurons.LIF(1, surrogate=lambda x: jnp.exp(-(x**2)))
    slope = jax.grad(lambda i: neuron.step(neuron.init_state(), i)[1][0])(jnp.array([0.4]))
    assert np.allclose(slope, np.exp(-0.36), rtol=1e-12)
    for name, kind in S.NAMED.items():
        assert type(ex.neurons.LIF(1, surrogate=name).surrogate) is kind
    assert not neuron.surrogate.relative()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_surrogates_keep_the_type(dtype):
    x = jnp.array([-0.5, 0.2], dtype)
    for surrogate, _ in FORMULAS.values():
        value, tangent = jax.jvp(lambda x, s=surrogate: s(x, jnp.ones_like(x)), (x,), (jnp.ones_like(x),))
        assert value.dtype == tangent.dtype == dtype
