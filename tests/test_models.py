"""Neuron models with two variables or more: published programs written out, and closed forms below threshold."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.neurons import BHRF, BRF, GRU, LRU, AdLIF, CSiLIF, Izhikevich, Relay, SiLIF
from engrax.parameter import is_parameter

STEPS = 400
pytestmark = pytest.mark.x64


def played(neuron, currents):
    """States and outputs of single units under given currents, step by step."""

    def step(state, current):
        state, output = neuron.step(state, current)
        return state, (state, output)

    _, found = jax.lax.scan(step, neuron.init_state(), jnp.asarray(currents, float))
    return [np.asarray(x) for x in jax.tree.leaves(found)]


def noise(size, scale, mean=0.0):
    return mean + scale * np.random.default_rng(2).standard_normal((STEPS, size))


def test_se_adlif_is_the_published_order():
    """Voltage, spike, reset, then the adaptation from what the reset left."""
    tau, slow, a, b, q = np.array([5.0, 10, 25]), np.array([60.0, 100, 300]), np.array([0.2, 0.9, 0.5]), 1.3, 120.0
    currents = noise(3, 8.0, 4.0)
    voltage, adaptation, spikes = played(AdLIF(3, tau=tau, tau_adaptation=slow, a=a, b=b, gain=q), currents)
    alpha, rho = np.exp(-1 / tau), np.exp(-1 / slow)
    u = w = np.zeros(3)
    for t, current in enumerate(currents):
        u = alpha * u + (1 - alpha) * (current - w)
        z = (u > 1).astype(float)
        np.testing.assert_allclose((voltage[t], spikes[t], adaptation[t]), (u, z, w), rtol=1e-12, atol=1e-12)
        u = u * (1 - z)
        w = rho * w + (1 - rho) * q * (a * u + b * z)
    assert spikes.mean(0).min() > 0.01


def test_forward_euler_takes_the_old_adaptation():
    neuron = AdLIF(2, a=0.4, gain=5.0, integration="euler", reset="subtract", coupled="before", input_scale="one")
    currents = noise(2, 0.5, 0.1)
    voltage, adaptation, spikes = played(neuron, currents)
    alpha, rho = np.exp(-1 / 20), np.exp(-1 / 200)
    v = w = z = np.zeros(2)
    for t, current in enumerate(currents):
        v, w = alpha * (v - z) + current - w, rho * w + 5 * (1 - rho) * (0.4 * v + z)
        z = (v > 1).astype(float)
        np.testing.assert_allclose((voltage[t], adaptation[t], spikes[t]), (v, w, z), rtol=1e-12, atol=1e-12)
    assert spikes.mean() > 0.01


@pytest.mark.parametrize("integration", ["symplectic", "euler"])
def test_adlif_turns_as_its_matrix_says(integration):
    """Below threshold it is linear: after n steps, the n-th power of the step's matrix. Forward Euler grows here."""
    a, q, alpha, rho = 1.0, 400.0, np.exp(-1 / 20), np.exp(-1 / 300)
    neuron = AdLIF(1, tau_adaptation=300.0, a=a, gain=q, threshold=1e30, integration=integration)
    voltage, adaptation, _ = played(neuron, [[1.0], *[[0.0]] * 300])
    push = q * (1 - rho) * a
    felt = np.array([push, rho]) if integration == "symplectic" else np.array([0.0, 1.0])
    matrix = np.array([np.array([alpha, 0.0]) - (1 - alpha) * felt, [push, rho]])
    wanted = np.linalg.matrix_power(matrix, 300) @ [1 - alpha, 0.0]
    np.testing.assert_allclose([voltage[-1, 0], adaptation[-1, 0]], wanted, rtol=1e-9)
    turns = np.linalg.eigvals(matrix)
    energy = alpha * rho + (0 if integration == "symplectic" else (1 - alpha) * push)
    np.testing.assert_allclose(np.abs(turns) ** 2, energy, rtol=1e-12)
    assert np.iscomplex(turns).all() and (energy < 1) == (integration == "symplectic")


@pytest.mark.parametrize(
    "model", [lambda **x: AdLIF(4, a=0.3, gain=20.0, **x), lambda **x: SiLIF(4, pace=1.5, a=0.02, **x)]
)
def test_adaptive_units_have_two_conventions(model):
    neuron = model(surrogate="triangular")
    other = neuron.with_input_scale("one")
    currents = noise(4, 9.0, 2.0)
    spikes = played(neuron, currents)[-1]
    np.testing.assert_array_equal(played(other, currents)[-1], spikes)
    assert 0.01 < spikes.mean() < 0.9 and other.with_input_scale("leak").threshold == pytest.approx(1.0)


def test_silif_is_the_published_order():
    tau, slow, pace = np.array([10.0, 40, 100]), np.array([60.0, 100, 300]), np.array([0.5, 1.0, 4.0])
    a, b = 0.3, 1.1
    currents = noise(3, 9.0, 9.0)
    voltage, adaptation, spikes = played(SiLIF(3, tau=tau, tau_adaptation=slow, a=a, b=b, pace=pace), currents)
    alpha, rho = np.exp(-pace / tau), np.exp(-pace / slow)
    u = w = s = np.zeros(3)
    for t, current in enumerate(currents):
        w = rho * w + a * u + b * s
        u = alpha * (u - s) + (1 - alpha) * (current - w)
        s = (u > 1).astype(float)
        np.testing.assert_allclose((voltage[t], adaptation[t], spikes[t]), (u, w, s), rtol=1e-12, atol=1e-12)
    assert spikes.sum() > 10


def test_csilif_is_a_power_of_a_complex_number():
    neuron = CSiLIF(2, tau=[20.0, 50.0], omega=[0.1, 0.3], pace=1.5, b=0.7, threshold=1e9)
    x, y, _ = played(neuron, [[1.0, 1.0], *[[0.0, 0.0]] * 50])
    wanted = 0.7 * np.exp(1.5 * 50 * (-1 / np.array([20.0, 50]) + 1j * np.array([0.1, 0.3])))
    np.testing.assert_allclose(x[-1] + 1j * y[-1], wanted, rtol=1e-10)
    currents = noise(2, 0.5, 0.2)
    x, y, spikes = played(CSiLIF(2, tau=[20.0, 50.0], omega=[0.1, 0.3], pace=1.5), currents)
    u, z, turn = (
        np.zeros(2, complex),
        np.zeros(2),
        np.exp(1.5 * (-1 / np.array([20.0, 50]) + 1j * np.array([0.1, 0.3]))),
    )
    for t, current in enumerate(currents):
        u = turn * (u - 0.5 * z) + current
        z = (2 * u.real > 1).astype(float)
        np.testing.assert_allclose(x[t] + 1j * y[t], u, rtol=1e-11, atol=1e-12)
        np.testing.assert_array_equal(spikes[t], z)
    assert 0.01 < spikes.mean() < 0.9


def test_a_balanced_unit_without_damping_neither_grows_nor_shrinks():
    omega = np.array([5.0, 20.0, 85.0])
    x, y, recent, _ = played(BRF(3, omega=omega, damping=0.0, threshold=1e9), [[1.0] * 3, *[[0.0] * 3] * 300])
    np.testing.assert_allclose(np.hypot(x, y), 0.01, rtol=1e-9)
    phase = np.arctan2(0.01 * omega, np.sqrt(1 - np.square(0.01 * omega)))
    np.testing.assert_allclose((x + 1j * y)[-1], 0.01 * np.exp(300j * phase), rtol=1e-8)
    plain = BRF(1, omega=20.0, damping=1.0, kind="plain", threshold=1e9)
    x, y, _ = played(plain, [[1.0], *[[0.0]] * 300])
    np.testing.assert_allclose((x + 1j * y)[-1], 0.01 * (1 + 0.01 * (-1 + 20j)) ** 300, rtol=1e-9)
    assert not recent.any()


def test_brf_is_the_published_order():
    omega, damping = np.array([5.0, 15.0, 40.0]), np.array([0.1, 0.5, 2.0])
    currents = noise(3, 60.0)
    x, y, recent, spikes = played(BRF(3, omega=omega, damping=damping), currents)
    p = (-1 + np.sqrt(1 - (0.01 * omega) ** 2)) / 0.01
    u, v, q = np.zeros((3, 3))
    for t, current in enumerate(currents):
        b = p - damping - q
        u, v = u + 0.01 * (b * u - omega * v + current), v + 0.01 * (omega * u + b * v)
        z = (u - 1 - q > 0).astype(float)
        q = 0.9 * q + z
        np.testing.assert_allclose((x[t], y[t], recent[t], spikes[t]), (u, v, q, z), rtol=1e-11, atol=1e-12)
    assert (spikes.sum(0) > 3).all()


def test_bhrf_is_the_published_order():
    omega, damping = np.array([5.0, 15.0, 40.0]), np.array([0.1, 0.5, 2.0])
    currents = noise(3, 60.0)
    voltage, place, recent, spikes = played(BHRF(3, omega=omega, damping=damping), currents)
    u, v, q = np.zeros((3, 3))
    for t, current in enumerate(currents):
        b = 0.005 * omega**2 + damping + q
        v = v + 0.01 * u
        u = u + 0.01 * (current - 2 * b * u - omega**2 * v)
        z = (u - 1 - q > 0).astype(float)
        q = 0.9 * q + z
        np.testing.assert_allclose((voltage[t], place[t], recent[t], spikes[t]), (u, v, q, z), rtol=1e-11, atol=1e-12)
    assert (spikes.sum(0) > 3).all()


def test_izhikevichs_unit_is_the_published_program():
    a, b, c, d = np.array([[0.02, 0.2, -65, 8], [0.1, 0.2, -65, 2], [0.02, 0.2, -50, 2]]).T
    currents = noise(3, 3.0, 10.0)
    voltage, recovery, spikes = played(Izhikevich(3, a=a, b=b, c=c, d=d), currents)
    # Step by step from where it was: squares near the peak multiply rounding errors.
    for t, current in enumerate(currents[1:], start=1):
        v, u = voltage[t - 1], recovery[t - 1]
        v, u = np.where(v > 30, c, v), np.where(v > 30, u + d, u)
        for _ in range(2):
            v = np.minimum(v, 30)
            v = v + 0.5 * (0.04 * v**2 + 5 * v + 140 - u + current)
        u = u + a * (b * v - u)
        np.testing.assert_allclose((voltage[t], recovery[t], spikes[t]), (v, u, v > 30), rtol=1e-9)
    assert spikes.sum(0)[1] > spikes.sum(0)[0] > 3  # fast spiking beside regular spiking


def test_izhikevichs_unit_fires_from_a_known_current_on():
    """With its recovery held at b c = -13, the voltage rests where 0.04 v^2 + 5 v + 153 + I has a root: up to 3.25."""
    spikes = played(Izhikevich(2, a=1e-9, d=0.0), [[3.2, 3.3]] * STEPS)[-1]
    assert spikes[:, 0].sum() == 0 and spikes[:, 1].sum() > 1


def test_gru_is_pytorchs_cell(key):
    """In a network with its projections: input onto three ports, the population onto three."""
    names = {"input": ("reset", "update", "candidate"), "hidden": ("reset", "update", "recurrent")}
    projections = [ex.Dense(pre, f"hidden.{port}", bias=True) for pre, ports in names.items() for port in ports]
    net = ex.Network({"hidden": GRU(3)}, projections, inputs={"input": 2}, outputs="hidden", key=key)
    x = np.random.default_rng(0).standard_normal((20, 1, 2))
    weight = {name: (np.asarray(p.weight), np.asarray(p.bias)) for name, p in net.projections.items()}
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    h, found = np.zeros(3), np.asarray(net.run(jnp.asarray(x)).outputs)[:, 0]
    for t in range(20):
        drive = lambda pre, port, y: weight[f"{pre}->hidden.{port}"][0] @ y + weight[f"{pre}->hidden.{port}"][1]
        r, u = (sigmoid(drive("input", port, x[t, 0]) + drive("hidden", port, h)) for port in ("reset", "update"))
        n = np.tanh(drive("input", "candidate", x[t, 0]) + r * drive("hidden", "recurrent", h))
        h = (1 - u) * n + u * h
        np.testing.assert_allclose(found[t], h, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: AdLIF(3, tau_adaptation=x, gain=5.0),
        lambda x: SiLIF(3, tau=x, pace=ex.trainable(1.0, "log"), a=0.02),
        lambda x: CSiLIF(3, tau=x),
        lambda x: BRF(3, omega=x),
        lambda x: BHRF(3, omega=x),
    ],
    ids=["AdLIF", "SiLIF", "CSiLIF", "BRF", "BHRF"],
)
@pytest.mark.parametrize("push", [-5.0, 5.0])
def test_trained_constants_may_go_too_far(make, push):
    """Far beyond what a constructor takes, up or down, a unit runs on finite numbers and its derivatives are some."""
    neuron = make(ex.trainable([8.0, 15.0, 30.0], positive="log"))

    def total(neuron):
        def step(state, current):
            state, output = neuron.step(state, current)
            return state, jnp.sum(output) + 1e-3 * jnp.sum(state.voltage)

        return jnp.sum(jax.lax.scan(step, neuron.init_state(), jnp.asarray(noise(3, 5.0)))[1])

    pushed = jax.tree.map(
        lambda x: eqx.tree_at(lambda p: p.raw, x, x.raw + push) if is_parameter(x) else x, neuron, is_leaf=is_parameter
    )
    value, slopes = eqx.filter_value_and_grad(lambda n: total(ex.resolve(n)))(pushed)
    found = [p.raw for p in jax.tree.leaves(slopes, is_leaf=is_parameter) if is_parameter(p)]
    assert np.isfinite(value) and all(np.all(np.isfinite(x)) for x in found)
    assert sum(np.count_nonzero(x) for x in found) >= 3


@pytest.mark.parametrize("model", [BRF, BHRF])
def test_a_frequency_above_its_bound_counts_as_the_bound(model):
    with pytest.raises(ex.errors.ArgumentError, match="omega must be at most 1 / clock = 100"):
        model(2, omega=[10.0, 101.0])
    far = eqx.tree_at(lambda n: n.omega, model(1, omega=50.0, threshold=1e30), jnp.asarray(500.0))
    near, currents = model(1, omega=99.9, threshold=1e30), noise(1, 1.0)
    for a, b in zip(played(far, currents), played(near, currents), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert np.abs(played(far, currents)[0]).max() < 10


def test_a_linear_recurrent_unit_rings_as_its_equation_says():
    tau, omega, t = np.asarray([5.0, 20.0]), np.asarray([0.7, 0.0]), np.arange(40)
    unit = LRU(2, tau=tau, omega=omega)
    state, rung = unit.init_state(), []
    for step in t:
        state, output = unit.step(state, jnp.asarray([[1.0, 1.0], [0.5, 0.0]]) * float(step == 0))
        rung.append(output)
    gain = np.sqrt(1 - np.exp(-2 / tau))
    wave = np.exp((-1 / tau + 1j * omega) * t[:, None]) * (1 + 0.5j * np.asarray([1, 0]))
    np.testing.assert_allclose(rung, gain * wave.real, atol=1e-12)


def test_white_noise_leaves_a_linear_recurrent_unit_with_its_own_variance(key):
    unit = LRU(200, tau=12.0, omega=0.3)
    noise = jax.random.normal(key, (600, 2, 200)) / 2**0.5
    _, heard = jax.lax.scan(lambda s, x: unit.step(s, x), unit.init_state(), noise)
    # Unit variance of a complex input is half in each part; 500 steps of 200 units, correlated over 12.
    np.testing.assert_allclose(np.var(np.asarray(heard[100:])), 0.5, rtol=0.05)


@pytest.mark.parametrize("name", ["identity", "tanh", "relu", "sigmoid", "gelu"])
def test_a_relay_is_its_activation(name):
    known = {
        "identity": lambda x: x,
        "relu": jax.nn.relu,
        "sigmoid": jax.nn.sigmoid,
        "gelu": jax.nn.gelu,
        "tanh": jnp.tanh,
    }
    x = jnp.linspace(-2, 2, 7)
    np.testing.assert_array_equal(Relay(7, activation=name).step((), x)[1], known[name](x))
