"""Loops for GPUs in Pallas' interpreter, against the C++ library, JAX's scan, and the compiler's front end."""

import contextlib
import itertools
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax import kernels
from engrax.errors import ArgumentError
from engrax.kernels import gpu, loops, persistent, steps
from engrax.kernels.units import Edge, End, Gradient, Signal, Start, Unit, unpacked
from engrax.neurons import LI, LIF
from test_loops import RULES, close, daily, made, recorded, trial_of

native = pytest.mark.skipif(not kernels.load(), reason="installed without a C++ compiler: there are no native loops")
# A population that adapts, is refractory, and resets by its threshold; one of two tiles, with a synapse, that resets to
# zero; one that leaks; and rates with a synapse. Together: every delay, and joins to and from outside.
SIZES = (21, 40, 5, 18)
JOINS = ((0, 1, 0), (1, 0, 1), (1, 1, 3), (0, 2, 2), (2, 0, 1), (0, 0, 1), (0, 3, 1), (3, 1, 2))
OUTSIDE = 13
EVERYTHING = frozenset({"above", "voltage", "adaptation", "synaptic", "phi"})
HAS = (
    {"above", "voltage", "adaptation"},
    {"above", "voltage", "synaptic"},
    {"voltage"},
    {"voltage", "synaptic", "phi"},
)


def depth(place):
    return max((d for a, _, d in JOINS if a == place), default=0)


def unit(place, dtype, psi=None):
    draw = np.random.default_rng(place)
    row = lambda low, high: jnp.asarray(draw.uniform(low, high, SIZES[place]), dtype)
    synapse = {"synapse": row(0.2, 0.6), "intake": row(0.8, 1.1)}
    leak = {"alpha": row(0.7, 0.9), "gain": row(0.2, 0.5)}
    if place == 2:
        return Unit("leaky", leak)
    if place == 3:
        return Unit("rate", leak | synapse, activation="tanh", synaptic=True)
    names = {"alpha": row(0.7, 0.95), "gain": row(0.8, 1.2), "threshold": row(0.5, 0.7)}
    names |= {"height": row(0.4, 0.6), "slope": row(0.8, 1.5)}
    if place == 1:
        return Unit("spiking", names | synapse, "zero", synaptic=True, psi=psi)
    names |= {"rho": row(0.8, 0.95), "jump": row(0.8, 1), "beta": row(0.1, 0.3)}
    period = jnp.asarray(draw.integers(0, 4, SIZES[place]), jnp.int32)
    return Unit("spiking", names, "threshold", adaptive=True, period=period)


def packed(spikes):
    bits = np.packbits(np.asarray(spikes, bool), axis=-1, bitorder="little")
    bits = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 4)])
    return jnp.asarray(np.ascontiguousarray(bits).view(np.uint32))


def component(batch, length, dtype, keep):
    """Starts and edges of a component in the middle of a run."""
    draw = np.random.default_rng(7)
    normal = lambda *shape: jnp.asarray(draw.standard_normal(shape), dtype)
    spikes = lambda *shape: jnp.asarray(draw.random(shape) < 0.2, dtype)
    starts = []
    for i, size in enumerate(SIZES):
        history = (spikes if i < 2 else normal)(depth(i), batch, size)
        waiting = jnp.asarray(draw.integers(0, 3, (batch, size)), jnp.int32) if i == 0 else None
        adaptation = abs(normal(batch, size)) if i == 0 else None
        synaptic = normal(batch, size) if i in (1, 3) else None
        kept = tuple(sorted(keep & HAS[i]))
        bias, voltage = 0.1 * normal(size), normal(batch, size)
        starts.append(Start(unit(i, dtype), bias, voltage, adaptation, synaptic, waiting, history, kept))
    weight = lambda a, b: 0.6 * normal(b, a) / a**0.5
    edges = [Edge(a, b, d, weight(SIZES[a], SIZES[b])) for a, b, d in JOINS]
    edges.append(Edge(-1, 0, 0, 2 * weight(OUTSIDE, SIZES[0]), Signal(OUTSIDE, normal(length, batch, OUTSIDE))))
    events = ex.Events.of(spikes(length, batch, OUTSIDE))
    edges.append(Edge(-1, 3, 0, weight(OUTSIDE, SIZES[3]), Signal(OUTSIDE, None, events=events)))
    sent = Signal(OUTSIDE, None, packed(spikes(length, batch, OUTSIDE)), history=spikes(3, batch, OUTSIDE))
    edges.append(Edge(-1, 1, 2, 2 * weight(OUTSIDE, SIZES[1]), sent))
    return starts, edges


def after(starts, found, length, local, dtype, psi):
    """Ends, edges and wanted gradients for errors to come back."""
    draw = np.random.default_rng(8)
    batch = starts[0].voltage.shape[0]
    normal = lambda *shape: jnp.asarray(draw.standard_normal(shape), dtype)
    ends, gradients = [], []
    for i, (s, mine) in enumerate(zip(starts, found, strict=True)):
        tape = {n: mine[n] for n in ("above", "voltage", "adaptation", "phi") if n in mine}
        if i < 2:
            first = {"first_above": s.unit.above(s.voltage, s.adaptation, s.waiting), "first_spikes": s.spikes()}
            tape |= first | {"first_voltage": s.voltage, "spikes": mine["bits"]}
        names = ["at_voltage"] + [f"at_{n}" for n in ("adaptation", "synaptic") if getattr(s, n) is not None]
        entering = {n: normal(length, batch, SIZES[i]) for n in (["arriving"] if i % 2 == 0 else []) + names}
        last = [None if x is None else normal(batch, SIZES[i]) for x in (s.voltage, s.adaptation, s.synaptic)]
        ends.append(End(unit(i, dtype, psi), SIZES[i], tape, entering, *last, depth(i), local=local, delta=True))
        sent = Signal(SIZES[i], mine["voltage"] if i > 1 else None, mine["bits"] if i < 2 else None, history=s.history)
        gradients += [Gradient(b, d, sent) for a, b, d in JOINS if a == i]
    weight = lambda a, b: 0.6 * normal(b, a) / a**0.5
    edges = [Edge(a, b, d, weight(SIZES[a], SIZES[b])) for a, b, d in JOINS]
    edges.append(Edge(1, -1, 2, weight(SIZES[1], OUTSIDE), error=normal(length, batch, OUTSIDE)))
    return ends, edges, gradients


@pytest.fixture
def plans(monkeypatch):
    """The kernels that were called, with small tiles; weights are held up to `plans.held` bytes."""

    class Plans(list):
        def hold(self, held):
            monkeypatch.setattr(gpu, "HELD", 1 << 20 if held else 0)
            monkeypatch.setattr(gpu, "BESIDE", -(1 << 20))

    found = Plans()
    call = gpu._called

    def recorded(kernel, plan, *rest):
        found.append(plan)
        return call(kernel, plan, *rest)

    monkeypatch.setattr(gpu, "_called", recorded)
    monkeypatch.setattr(gpu, "TILE", 32)
    monkeypatch.setattr(gpu, "READ", 32)
    return found


def library(monkeypatch, f):
    """What the library makes, on the CPU."""
    with monkeypatch.context() as patch, jax.default_device(jax.local_devices(backend="cpu")[0]):
        patch.setattr(loops, "on_gpu", lambda: False)
        found = jax.tree.map(np.asarray, jax.jit(f)())
    return jax.tree.map(jnp.asarray, found)


@native
@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.parametrize("held", [True, pytest.param(False, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    ("length", "dtype", "keep", "local", "psi"),
    [
        pytest.param(12, "float64", EVERYTHING, False, None, marks=pytest.mark.nightly),
        (2, "float64", frozenset(), True, lambda x: jnp.exp(-(x**2))),
        pytest.param(12, "float32", frozenset({"voltage"}), False, None, marks=pytest.mark.nightly),
    ],
)
def test_kernels_do_what_the_library_does(plans, monkeypatch, held, length, dtype, keep, local, psi):
    monkeypatch.setenv("ENGRAX_EVENTS", "on")
    plans.hold(held)
    starts, edges = component(19, length, dtype, keep)
    expected = library(monkeypatch, lambda: loops.ahead(starts, edges, length))
    found = jax.jit(lambda: gpu.ahead(starts, edges, length))()
    assert [p.only is None for p in plans] == [held] and len(plans[0].tiles) == 5
    tolerance = 1e-10 if dtype == "float64" else 2e-5
    for place in range(2):
        np.testing.assert_array_equal(found[place]["bits"], expected[place]["bits"])
        rate = float(unpacked(expected[place]["bits"], SIZES[place], dtype).mean())
        assert 0.02 < rate < 0.6, "too few spikes, or too many, to say anything"
    for mine, other in zip(found, expected, strict=True):
        assert set(mine) == set(other)
        for name in set(other) - {"bits"}:
            finite = jnp.isfinite(other[name])
            np.testing.assert_array_equal(jnp.isfinite(mine[name]), finite)
            close(jnp.where(finite, mine[name], 0), jnp.where(finite, other[name], 0), tolerance)
    whole, _ = component(19, length, dtype, EVERYTHING)
    expected = library(monkeypatch, lambda: loops.ahead(whole, edges, length))
    errors = after(whole, expected, length, local, dtype, psi)
    told = library(monkeypatch, lambda: loops.back(*errors, length))
    monkeypatch.setattr(loops, "on_gpu", lambda: True)
    found = jax.jit(lambda: loops.back(*errors, length))()
    assert [p.only is None for p in plans] == [held] * 2
    for mine, other in zip(found[0], told[0], strict=True):
        assert all(float(jnp.abs(x).max()) > 1e-3 for x in other.values())
        assert set(mine) == set(other)
        close(mine, other, tolerance)
    assert all(float(jnp.linalg.norm(x)) > 1e-3 for x in told[1])
    close(found[1], told[1], tolerance)


@pytest.fixture
def by(monkeypatch):
    """Evaluate by the kernels, and by JAX's scan."""

    def both(f, *args):
        found = []
        for ours in (True, False):
            monkeypatch.setattr(loops, "on_gpu", lambda x=ours: x)
            monkeypatch.setenv("ENGRAX_EVENTS", "off")
            jax.clear_caches()
            found.append(f(*args))
        jax.clear_caches()
        return found

    return both


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.parametrize("name", ["two", pytest.param("voltage", marks=pytest.mark.nightly)])
def test_runs_are_equal(by, plans, name):
    net, inputs = made(name, 5, 15)
    first, second = by(lambda: net.run(inputs, record=recorded(net)))
    assert len(plans) == (4 if name == "two" else 2)
    assert float(second["slow" if name == "two" else "hidden"].mean()) > 0.01
    close((first.outputs, first.state, first.recorded), (second.outputs, second.state, second.recorded))
    if name == "voltage":
        again = by(lambda: net.run(inputs[:3], second.state))
        close(*[(r.outputs, r.state) for r in again])


@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.parametrize(
    ("name", "rule"),
    daily(
        [("two", "bptt"), ("custom", "bptt"), ("yin", "eprop"), ("cuba leak", "checkpoint"), ("relu", "truncation")],
        [("yin", "eprop")],
    ),
)
def test_gradients_are_equal(by, plans, name, rule):
    net, inputs = made(name, 5, 15)
    first, second = by(lambda: RULES[rule].value_and_grad(net, trial_of(net, inputs)))
    assert len(plans) >= 4, "kernels run both ways"
    for leaf in jax.tree.leaves(second[1].projections["hidden->hidden" if name != "two" else "slow->fast"]):
        assert float(jnp.linalg.norm(leaf)) > 1e-6
    close(first, second)


@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.nightly
def test_runs_and_gradients_map_over_networks(by, plans):
    net, inputs = made("lif", 3, 10)
    trial = trial_of(net, inputs)

    def gradient(gain):
        weights = {n: p.replace(weight=p.weight * gain) for n, p in net.projections.items()}
        return ex.rules.BPTT().value_and_grad(net.replace(projections=type(net.projections)(weights)), trial)

    close(*by(lambda: jax.vmap(gradient)(jnp.array([0.8, 1.3]))))
    assert plans


def test_a_run_of_no_steps(by):
    net, inputs = made("lif", 3, 4)
    first, second = by(lambda: net.run(inputs.astype("float32")[:0]))
    close((first.outputs, first.state), (second.outputs, second.state))


def test_what_gpus_do_not_multiply_is_left_to_the_scan(monkeypatch):
    assert gpu.fits("float32") and gpu.fits("float64") and not gpu.fits("bfloat16")
    monkeypatch.setattr(loops, "on_gpu", lambda: True)
    monkeypatch.setattr(gpu, "_called", lambda *_: pytest.fail("too old, or another maker's"))
    net, inputs = made("lif", 3, 4)
    for capability in ("7.5", "gfx942"):
        with monkeypatch.context() as patch:
            patch.setattr(gpu, "_capability", lambda x=capability: x)
            assert not gpu.fits("float32")
            net.run(inputs.astype("float32"))

    def unknown():
        raise ValueError("not in the list")

    monkeypatch.setattr(gpu.triton, "get_gpu_info", unknown, raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not gpu.fits("float32")


def test_a_number_is_three_parts_of_eight_bits():
    draw = np.random.default_rng(3)
    x = jnp.asarray(draw.standard_normal(999) * 10.0 ** draw.integers(-20, 20, 999), jnp.float32)
    parts = [np.asarray(part, np.float64) for part in jax.jit(persistent.divided)(x)]
    np.testing.assert_array_equal(sum(parts), np.asarray(x, np.float64))
    assert all(np.any(part != 0) for part in parts)


@pytest.mark.parametrize(
    ("sizes", "dtype", "precision", "whole"),
    [
        # Three parts of 128 by 128 numbers in single precision are 96 kB.
        ([128], "float32", "float32", True),
        ([200], "float32", "float32", False),
        ([256], "float32", "bfloat16", True),
        # The weights would fit, states would not.
        ([16] * 33, "float32", "float32", False),
        ([16] * 17, "float64", "float32", False),
    ],
)
def test_a_launch_takes_all_steps_of_what_a_program_holds(sizes, dtype, precision, whole):
    edges = [Edge(0, 0, 1, jnp.zeros((sizes[0], sizes[0])))]
    plan, _ = gpu._plan(sizes, (gpu._form(Unit("leaky", {})),) * len(sizes), edges, 5, 32, dtype, precision, True)
    assert (plan.only is None) == whole
    tiles = {tile.width for tile in plan.parts(0)}
    assert len(tiles) == 1 and plan.width(0) % plan.columns(0) == 0


def on_some_gpu():
    """JAX compiles for a GPU that is not there; newer ones ask which."""
    if not hasattr(jax.sharding, "AbstractDevice"):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device))


def launched(f):
    """For each Triton kernel in what `f` is lowered to for CUDA, how many loads its innermost loops are ahead."""
    with on_some_gpu():
        text = jax.jit(f).trace().lower(lowering_platforms=("cuda",)).as_text()
    stages = re.findall(r"num_stages = (\d+) : i32", text)
    assert len(stages) == text.count("__gpu$xla.gpu.triton")
    return [int(n) for n in stages]


def lowered(dtype="float32", precision="float32", keep=EVERYTHING, held=True):
    starts, edges = component(19, 12, dtype, keep)
    whole = component(19, 12, dtype, EVERYTHING)[0]
    ran = jax.eval_shape(lambda: gpu.ahead(whole, edges, 12))
    ran = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), ran)
    errors = after(whole, ran, 12, False, dtype, None)
    ahead = launched(lambda: gpu.ahead(starts, edges, 12, precision=precision, interpret=False))
    back = launched(lambda: gpu.back(*errors, 12, precision=precision, interpret=False))
    # Through all steps in one launch no load may be ahead of a store.
    assert {*ahead} == {*back} == {1 if held else 3} and len(ahead) >= (1 if held else len(SIZES))


@pytest.mark.parametrize(
    ("held", "precision"),
    [
        pytest.param(h, p, marks=() if h and p == "float32" else pytest.mark.nightly)
        for h, p in itertools.product([True, False], ["float32", "bfloat16"])
    ],
)
def test_kernels_are_lowered_for_gpus(plans, held, precision):
    plans.hold(held)
    lowered(precision=precision, keep=frozenset(), held=held)
    lowered(precision=precision, held=held)
    assert {p.only is None for p in plans} == {held}


@pytest.mark.x64
@pytest.mark.nightly
def test_kernels_in_double_precision_are_lowered_for_gpus(plans):
    lowered("float64")


def test_what_triton_does_not_know_is_found_when_lowered(monkeypatch):
    step = steps.ahead

    def other(form, c, state, current):
        after, output, above = step(form, c, state, current)
        return after, jax.lax.sort(output), above

    monkeypatch.setattr(steps, "ahead", other)
    with pytest.raises(NotImplementedError, match="sort"):
        lowered()


def test_precision_has_a_name():
    starts, edges = component(3, 4, "float32", EVERYTHING)
    with pytest.raises(ArgumentError, match="bfloat16"):
        gpu.ahead(starts, edges, 4, precision="bfloat")


@pytest.mark.nightly
def test_networks_are_asked_for_bfloat16(monkeypatch, key):
    """By ENGRAX_PRECISION: the gradient turns by little, and networks in double precision keep theirs."""
    populations = {"hidden": LIF(24, tau=8.0, threshold=0.6), "readout": LI(3)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
    net = ex.Network(populations, projections, inputs={"input": 20}, outputs="readout", key=key)
    draw = np.random.default_rng(2)
    inputs = jnp.asarray(draw.random((12, 16, 20)) < 0.2, jnp.float32)
    trial = ex.Trial(inputs, jnp.asarray(draw.standard_normal((12, 16, 3)), jnp.float32))
    monkeypatch.setattr(loops, "on_gpu", lambda: True)
    found = {}
    for precision in gpu.PRECISIONS:
        monkeypatch.setenv("ENGRAX_PRECISION", precision)
        jax.clear_caches()
        grads = jax.tree.leaves(ex.rules.BPTT().value_and_grad(net, trial)[1])
        found[precision] = jnp.concatenate([jnp.ravel(g) for g in grads])
    exact, rounded = (found[p] for p in gpu.PRECISIONS)
    assert float(jnp.linalg.norm(exact)) > 0
    assert 1e-6 < float(jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)) < 0.05
    assert loops._precision(jnp.dtype("float64")) == "float32"
    monkeypatch.setenv("ENGRAX_PRECISION", "half")
    with pytest.raises(ArgumentError, match="ENGRAX_PRECISION"):
        ex.rules.BPTT().value_and_grad(net, trial.replace(inputs=inputs[:5], targets=trial.targets[:5]))


@pytest.mark.nightly
def test_products_of_bfloat16_change_errors_little(plans):
    """Errors come back with weights and deltas that are rounded to 8 bits, along the same run."""
    length = 12
    starts, edges = component(19, length, "float32", EVERYTHING)
    found = {p: jax.jit(partial(gpu.ahead, starts, edges, length, precision=p))() for p in gpu.PRECISIONS}
    spikes = [unpacked(found[p][1]["bits"], SIZES[1], "float32") for p in gpu.PRECISIONS]
    assert 0 < float(jnp.mean(jnp.abs(spikes[0] - spikes[1]))) < 0.05
    errors = after(starts, found["float32"], length, False, "float32", None)
    exact, rounded = (jax.jit(partial(gpu.back, *errors, length, precision=p))()[1] for p in gpu.PRECISIONS)
    for x, y in zip(exact, rounded, strict=True):
        assert 1e-5 < float(jnp.linalg.norm(y - x) / jnp.linalg.norm(x)) < 1e-2
