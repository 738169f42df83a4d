"""Products that skip zeros: those of NumPy at any share of zeros, differentiable, and the same gradients by them."""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import engrax as ex
from engrax import kernels
from engrax.kernels import columns, loops, rows
from engrax.kernels.products import weighted
from engrax.kernels.units import Signal

# Widths below, at and between whole vectors of every instruction set; lengths below and above a block and a part.
SHAPES = [(1, 8, 8), (5, 9, 13), (64, 100, 100), (130, 300, 257), (1100, 40, 33), (3000, 70, 130), (7, 16, 8)]
NATIVE = pytest.mark.skipif(not kernels.load(), reason="installed without a C++ compiler: nothing skips zeros")
MODES = ["off", *(["auto", "on"] if kernels.load() else [])]


@pytest.fixture(params=MODES)
def mode(request, monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", request.param)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


def factors(length, inner, width, share, dtype=np.float64):
    draw = np.random.default_rng(length + inner + width)
    a = np.where(draw.random((length, inner)) < share, draw.standard_normal((length, inner)), 0.0)
    others = draw.standard_normal((inner, width)), draw.standard_normal((length, width))
    return [jnp.asarray(x.astype(dtype)) for x in (a, *others)]


@NATIVE
def test_the_native_library_is_used_when_asked_for(monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", "on")
    text = jax.jit(rows).lower(jnp.zeros((9, 9)), jnp.zeros((9, 9))).as_text()
    assert "engrax_rows" in text


@pytest.mark.x64
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_those_of_numpy(mode, shape, share):
    a, b, d = factors(*shape, share)
    np.testing.assert_allclose(jax.jit(rows)(a, b), np.asarray(a) @ np.asarray(b), rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(jax.jit(columns)(a, d), np.asarray(a).T @ np.asarray(d), rtol=1e-12, atol=1e-11)


def test_single_precision(mode):
    a, b, d = factors(300, 90, 70, 0.1, np.float32)
    assert rows(a, b).dtype == jnp.float32
    exact = np.float64(a)
    np.testing.assert_allclose(rows(a, b), exact @ np.float64(b), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(columns(a, d), exact.T @ np.float64(d), rtol=1e-4, atol=1e-4)


@pytest.mark.x64
def test_products_differentiate_twice_in_both_modes(mode):
    a, b, d = factors(9, 10, 11, 0.3)
    for product, second in ((rows, b), (columns, d)):
        check_grads(lambda x, y, p=product: p(jnp.asarray(x), jnp.asarray(y)), (a, second), order=2)


@pytest.mark.x64
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 2)], ids=str)
def test_vmap_is_a_loop(mode, axes):
    a, b, d = factors(20, 12, 9, 0.2)
    for product, first, second in ((rows, a, b), (columns, a, d)):
        stacks = [x if axis is None else jnp.stack([x, 2 * x, x[::-1]], axis) for x, axis in zip((first, second), axes)]
        found = jax.vmap(product, axes)(*stacks)
        for i in range(3):
            own = [x if axis is None else jnp.take(x, i, axis) for x, axis in zip(stacks, axes)]
            np.testing.assert_allclose(found[i], product(*own), rtol=1e-12, atol=1e-12)


THREADS = """
import hashlib, os, jax, numpy as np
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(os.environ["CORES"])])
from engrax.kernels import columns, loops, rows
from engrax.kernels.products import weighted
from engrax.kernels.units import Signal
draw = np.random.default_rng(0)
a = jax.numpy.asarray(np.float32((draw.random((3000, 70)) < 0.1) * draw.standard_normal((3000, 70))))
b, d = (jax.numpy.asarray(np.float32(draw.standard_normal((size, 130)))) for size in (70, 3000))
print(hashlib.sha256(np.asarray(rows(a, b)).tobytes() + np.asarray(columns(a, d)).tobytes()).hexdigest())
"""


@NATIVE
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot keep a process on one core")
def test_the_number_of_threads_moves_no_bit():
    """Sums are split by shapes alone; a part is summed by one thread."""

    def bits(cores):
        given = {**os.environ, "ENGRAX_EVENTS": "on", "CORES": str(cores), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run([sys.executable, "-c", THREADS], env=given, capture_output=True, text=True, check=True)
        return done.stdout

    one = bits(1)
    assert len(one.strip()) == hashlib.sha256().digest_size * 2
    assert one == bits(64)


@NATIVE
@pytest.mark.parametrize("product", [rows, columns])
@pytest.mark.unchecked
def test_factors_that_do_not_fit_are_refused(product, monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", "on")
    with pytest.raises(ex.errors.ArgumentError, match="do not fit"):
        product(jnp.ones((10, 12)), jnp.ones((11, 9)))
    with pytest.raises(ex.errors.ArgumentError, match="do not fit"):
        product(jnp.ones((10, 10), jnp.float16), jnp.ones((10, 9)))


@NATIVE
@pytest.mark.x64
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(ex.rules.BPTT(), id="bptt", marks=pytest.mark.nightly),
        pytest.param(ex.rules.EProp(feedback="random"), id="eprop"),
    ],
)
def test_rules_find_the_same_gradient(rule, monkeypatch, key):
    populations = {"hidden": ex.neurons.ALIF(40, threshold=0.3, beta=0.1), "readout": ex.neurons.LI(10)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
    net = ex.Network(populations, projections, inputs={"input": 30}, outputs="readout", key=key)
    spikes = jax.random.bernoulli(key, 0.1, (50, 8, 30)).astype(net.dtype)
    trial = ex.Trial(spikes, jnp.arange(8) % 10)
    found = {}
    for mode in MODES:
        monkeypatch.setenv("ENGRAX_EVENTS", mode)
        jax.clear_caches()
        found[mode] = rule.value_and_grad(net, trial)
        assert jnp.any(net.run(trial.inputs, record=("hidden",)).recorded["hidden"])
    jax.clear_caches()
    assert all(jnp.any(p.weight != 0) for p in found["off"][1].projections.values())
    for mode in MODES[1:]:
        for mine, theirs in zip(jax.tree.leaves(found[mode]), jax.tree.leaves(found["off"]), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("value", ["yes", "ON", ""])
def test_an_unknown_mode_is_refused(value, monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", value)
    with pytest.raises(ex.errors.ArgumentError, match="ENGRAX_EVENTS"):
        kernels.mode()


def test_without_the_library_it_cannot_be_on(monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", "on")
    monkeypatch.setattr("engrax.kernels.library.load", lambda: False)
    with pytest.raises(ex.errors.ArgumentError, match="compiler"):
        kernels.mode()


@NATIVE
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.x64)])
@pytest.mark.parametrize(("share", "real"), [(0.0, False), (0.03, False), (0.03, True), (0.9, False)])
@pytest.mark.parametrize("shape", [(1, 1, 16), (70, 9, 41), (3, 2000, 100)], ids=str)
def test_rasters_are_listed(shape, share, real, dtype):
    draw = np.random.default_rng(3)
    raster = np.where(draw.random(shape) < share, draw.standard_normal(shape) if real else 1.0, 0.0).astype(dtype)
    listed = loops.listed(jnp.asarray(raster))
    (what,), spans, places = map(np.asarray, listed.where)
    assert what == (0 if np.mean(raster != 0) > 0.25 else 2 if raster.any() and real else 1)
    if what:
        rows = raster.reshape(-1, shape[-1])
        assert len(spans) == len(rows)
        for row, (start, count) in zip(rows, spans, strict=True):
            np.testing.assert_array_equal(places[start : start + count], np.flatnonzero(row))


@NATIVE
def test_what_is_denser_than_it_looked_is_listed_all_the_same():
    # Every second row is looked at: the full ones are not.
    raster = np.zeros((2 * 256, 1, 20), np.float32)
    raster[1::2] = 1
    what, spans, places = loops.listed(jnp.asarray(raster)).where
    assert int(what[0]) == 1
    np.testing.assert_array_equal(spans[:, 1], 20 * (np.arange(512) % 2))
    np.testing.assert_array_equal(places[spans[1, 0] : spans[1, 0] + 20], np.arange(20))
    assert int(spans[1, 0]) + 20 <= int(spans[3, 0])


@NATIVE
@pytest.mark.parametrize("rule", [ex.rules.BPTT(), ex.rules.EProp(), ex.rules.EProp(evaluation="chunked", chunk=7)])
@pytest.mark.parametrize("case", ["ones", "numbers", "dense"])
def test_a_list_moves_no_bit(rule, case, monkeypatch, key):
    populations = {"hidden": ex.neurons.ALIF(30, beta=0.2, tau=8.0, threshold=0.6), "readout": ex.neurons.LI(3)}
    projections = [
        ex.Dense("input", "hidden", delay=2),
        ex.Dense("hidden", "hidden"),
        ex.Dense("hidden", "readout"),
        ex.Dense("input", "readout"),
    ]
    net = ex.Network(populations, projections, inputs={"input": 50}, outputs="readout", key=key)
    draw = np.random.default_rng(0)
    inputs = (draw.random((40, 5, 50)) < (0.6 if case == "dense" else 0.1)).astype(np.float32)
    if case == "numbers":
        inputs *= draw.standard_normal(inputs.shape).astype(np.float32)
    trial = ex.Trial(jnp.asarray(inputs), jnp.asarray(draw.standard_normal((40, 5, 3)), jnp.float32))
    found = [rule.value_and_grad(net, trial)]
    assert float(net.run(trial.inputs, record=("hidden",))["hidden"].mean()) > 0.01
    monkeypatch.setattr(loops, "listed", lambda x: Signal(x.shape[-1], x))
    jax.clear_caches()
    found.append(rule.value_and_grad(net, trial))
    for x, y in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.x64
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 13), (64, 140, 100), (3, 2, 5000), (0, 4, 5)], ids=str)
def test_sums_over_trials(mode, shape):
    draw = np.random.default_rng(sum(shape))
    g, x = draw.standard_normal((shape[0], shape[2])), draw.standard_normal(shape)
    found = jax.jit(weighted)(jnp.asarray(g), jnp.asarray(x))
    np.testing.assert_allclose(found, np.einsum("bn,bkn->kn", g, x), rtol=1e-12, atol=1e-12)
