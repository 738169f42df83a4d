"""Neuron models against their recursions written out in NumPy, step by step, in the order the papers give."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex

STEPS, SIZE = 120, 4
TAU, SLOW, SYNAPSE, THRESHOLD, BETA = 8.0, 40.0, 3.0, 0.8, 0.5
UNITS = np.array([0.5, 0.75, 1.0, 1.5])
N = ex.neurons


def rollout(neuron, current, local=False):
    """States after each step and outputs, by the model's own step."""
    neuron = ex.resolve(neuron)
    step = neuron.local_step if local else neuron.step

    def body(state, now):
        state, output = step(state, now)
        return state, (state, output)

    return jax.lax.scan(body, neuron.init_state(), jnp.asarray(current))[1]


def hand(current, *, dt=1.0, tau=TAU, threshold=THRESHOLD, n_ref=0, reset="subtract", leak=False, slow=SLOW, beta=0.0):
    """LIF (beta = 0) and ALIF: voltage, adaptation, spikes, refractory or not; the counter moves at a step's end."""
    alpha, rho = np.exp(-dt / tau), np.exp(-dt / slow)
    scale, gain = (1 - alpha, 1 - rho) if leak else (1, 1)
    v, a, z, r = (np.zeros(current.shape[1]) for _ in range(4))
    rows = []
    for drive in current:
        a = rho * a + gain * z
        high = threshold + beta * a
        v = alpha * v * (1 - z) if reset == "zero" else alpha * v - (high if reset == "threshold" else threshold) * z
        v = v + scale * drive
        z = np.where(r > 0, 0.0, v > high)
        rows.append((v, a, z, r > 0))
        r = np.clip(r + n_ref * z - 1, 0, n_ref)
    return tuple(np.array(x) for x in zip(*rows, strict=True))


def drive(seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).uniform(-0.4, 1.0, (STEPS, SIZE))


def psi(x, width, dampening=0.3):
    return dampening / width * np.maximum(0, 1 - np.abs(x) / width)


CASES = {
    "as it is": {},
    "leak": {"leak": True},
    "zero": {"reset": "zero"},
    "one step refractory": {"n_ref": 1},
    "two": {"n_ref": 2},
    "five": {"n_ref": 5},
    "five, zero, leak": {"n_ref": 5, "reset": "zero", "leak": True},
    "half steps": {"dt": 0.5, "n_ref": 3},
    "one value a unit": {"tau": TAU * UNITS, "threshold": THRESHOLD * UNITS, "n_ref": np.array([0, 1, 2, 5])},
}


def made(model, case, **more):
    case = dict(case)
    dt = case.get("dt", 1.0)
    scale = "leak" if case.get("leak") else "one"
    options = {
        "tau": case.get("tau", TAU),
        "threshold": case.get("threshold", THRESHOLD),
        "reset": case.get("reset", "subtract"),
    }
    return model(SIZE, dt=dt, refractory=dt * case.get("n_ref", 0), input_scale=scale, **options, **more)


@pytest.mark.x64
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_lif(case):
    current = drive(scale=8.0 if case.get("leak") else 1.0)
    v, _, z, blocked = hand(current, **case)
    state, spikes = rollout(made(N.LIF, case), current)
    assert 20 < z.sum() < 0.9 * z.size
    assert np.array_equal(spikes, z)
    assert np.allclose(state.voltage, v, rtol=1e-12, atol=1e-12)
    if np.any(case.get("n_ref", 0)):
        assert np.array_equal(state.refractory > 0, blocked)


@pytest.mark.x64
@pytest.mark.parametrize(
    "case", [{**c, "reset": r} for c in CASES.values() for r in ("subtract", "threshold", "zero") if "reset" not in c]
)
def test_alif(case):
    """Bellec et al. 2020 with reset "subtract"; Yin et al. 2021 with reset "threshold" and input_scale "leak"."""
    beta = np.array([0.0, 0.3, 0.7, 1.8])
    current = drive(scale=8.0 if case.get("leak") else 1.5)
    v, a, z, _ = hand(current, beta=beta, **case)
    state, spikes = rollout(made(N.ALIF, case, tau_adaptation=SLOW, beta=beta), current)
    assert 10 < z.sum() < 0.9 * z.size and a.max() > 0.1
    assert np.array_equal(spikes, z)
    assert np.allclose(state.voltage, v, rtol=1e-12, atol=1e-12)
    assert np.allclose(state.adaptation, a, rtol=1e-12, atol=1e-12)


@pytest.mark.x64
def test_alif_resets_by_the_baseline_and_lif_is_beta_zero():
    current = drive(scale=1.5)
    assert np.array_equal(rollout(N.ALIF(SIZE, beta=0.0), current)[1], rollout(N.LIF(SIZE), current)[1])
    state, spikes = rollout(N.ALIF(1, tau=TAU, threshold=1.0, beta=2.0), np.array([[5.0], [0.0]]))
    assert spikes[:2, 0].tolist() == [1, 1] and state.adaptation[1, 0] == 1
    alpha = np.exp(-1 / TAU)
    assert np.allclose(state.voltage[1, 0], 5 * alpha - 1.0, rtol=1e-14)


@pytest.mark.x64
@pytest.mark.parametrize("model", [N.LIF, N.ALIF, N.CuBaLIF])
def test_the_threshold_itself_is_not_a_spike(model):
    at = np.array([[1.0, np.nextafter(1.0, 2.0)]])
    assert rollout(model(2, threshold=1.0), at)[1][0].tolist() == [0, 1]


@pytest.mark.parametrize("model", [N.LIF, N.CuBaLIF])
@pytest.mark.parametrize(("n_ref", "blocked"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 4)])
def test_refractory_period_blocks_one_step_less(model, n_ref, blocked):
    spikes = rollout(model(1, refractory=float(n_ref)), np.full((40, 1), 50.0, np.float32))[1][:, 0]
    times = np.flatnonzero(spikes)
    assert times[0] == 0 and set(np.diff(times)) == {blocked + 1}


@pytest.mark.parametrize("model", [N.LIF, N.ALIF])
@pytest.mark.x64
def test_voltage_integrates_and_the_pseudo_derivative_is_zero_while_refractory(model):
    current = drive(3, 1.5)
    neuron = model(SIZE, tau=TAU, threshold=THRESHOLD, refractory=4.0)
    beta = 0.0 if model is N.LIF else 1.0
    slow = 200.0
    v, a, _, blocked = hand(current, n_ref=4, beta=beta, slow=slow)
    wanted = np.where(blocked, 0, psi(v - THRESHOLD - beta * a, THRESHOLD))
    before, now = neuron.init_state(), []
    for drive_now in current[:40]:
        by_current = jax.jvp(lambda i, s=before: neuron.step(s, i)[1], (jnp.asarray(drive_now),), (jnp.ones(SIZE),))[1]
        now.append(by_current)
        before, _ = neuron.step(before, jnp.asarray(drive_now))
    assert blocked[:40].any() and (wanted[:40] > 0).sum() > 10
    assert np.any(blocked[:40] & (psi(v - THRESHOLD - beta * a, THRESHOLD)[:40] > 0))
    assert np.allclose(now, wanted[:40], rtol=1e-10, atol=1e-14)


@pytest.mark.x64
@pytest.mark.parametrize("reset", ["subtract", "zero", "threshold"])
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("voltage", [0.6, 1.1])
@pytest.mark.parametrize("scale", ["one", "leak"])
def test_jacobian_of_a_step(reset, local, voltage, scale):
    """local_step holds the spike in the reset constant, never the one in the adaptation (papers/eprop.md 1.1)."""
    alpha, rho, beta, a = np.exp(-1 / TAU), np.exp(-1 / SLOW), 0.4, 0.2
    s, gain = (1 - alpha, 1 - rho) if scale == "leak" else (1.0, 1.0)
    x = voltage - THRESHOLD - beta * a
    z, p = float(x > 0), psi(x, THRESHOLD)
    assert p > 0.05
    spike = np.array([p, -beta * p])
    adaptation = np.array([0, rho]) + gain * spike
    held = 0 if local else 1
    if reset == "zero":
        row = alpha * np.array([1 - z, 0]) - held * alpha * voltage * spike
    elif reset == "subtract":
        row = np.array([alpha, 0]) - held * THRESHOLD * spike
    else:
        high = THRESHOLD + beta * (rho * a + gain * z)
        row = np.array([alpha, 0]) - held * high * spike - z * beta * adaptation
    neuron = N.ALIF(1, tau=TAU, threshold=THRESHOLD, tau_adaptation=SLOW, beta=beta, reset=reset, input_scale=scale)
    step = neuron.local_step if local else neuron.step

    def after(x, current):
        state, _ = step(neuron.init_state()._replace(voltage=x[:1], adaptation=x[1:]), current)
        return jnp.concatenate([state.voltage, state.adaptation])

    point = (jnp.array([voltage, a]), jnp.array([0.1]))
    for mode in (jax.jacfwd, jax.jacrev):
        by_state, by_current = mode(after, argnums=(0, 1))(*point)
        assert np.allclose(by_state, [row, adaptation], rtol=1e-12)
        assert np.allclose(by_current, [[s], [0]], rtol=1e-12)
    if reset != "threshold":
        plain = N.LIF(1, tau=TAU, threshold=THRESHOLD, reset=reset, input_scale=scale)
        move = plain.local_step if local else plain.step
        slope = jax.grad(lambda v: move(plain.init_state()._replace(voltage=v), jnp.zeros(1))[0].voltage[0])(
            jnp.array([voltage])
        )
        z, p = float(voltage > THRESHOLD), psi(voltage - THRESHOLD, THRESHOLD)
        wanted = alpha * (1 - z - held * voltage * p) if reset == "zero" else alpha - held * THRESHOLD * p
        assert np.allclose(slope, wanted, rtol=1e-12)


CONVERTED = {
    "LIF": lambda **o: N.LIF(SIZE, tau=TAU, refractory=3.0, **o),
    "LIF zero": lambda **o: N.LIF(SIZE, tau=TAU * UNITS, reset="zero", **o),
    "LIF trained": lambda **o: N.LIF(SIZE, tau=ex.trainable(TAU, positive=True), **o),
    "ALIF": lambda **o: N.ALIF(SIZE, tau=TAU * UNITS, tau_adaptation=SLOW, beta=0.6, **o),
    "ALIF Yin": lambda **o: N.ALIF(SIZE, tau=TAU, tau_adaptation=SLOW * UNITS, beta=0.6, reset="threshold", **o),
    "ALIF half steps": lambda **o: N.ALIF(SIZE, tau=TAU, tau_adaptation=SLOW, beta=0.6, dt=0.5, **o),
    "CuBaLIF": lambda **o: N.CuBaLIF(SIZE, tau=TAU, tau_synapse=SYNAPSE * UNITS, refractory=2.0, **o),
    "CuBaLIF trained": lambda **o: N.CuBaLIF(SIZE, tau=TAU, tau_synapse=ex.trainable(SYNAPSE, True), dt=0.5, **o),
}


@pytest.mark.x64
@pytest.mark.parametrize(
    ("name", "start"), [*((n, "one") for n in CONVERTED), *((n, "leak") for n in ("LIF zero", "ALIF", "CuBaLIF"))]
)
def test_input_scales_give_identical_spikes_and_gradients(name, start):
    neuron = CONVERTED[name](threshold=ex.trainable(THRESHOLD), input_scale=start)
    other = neuron.with_input_scale("leak" if start == "one" else "one")
    size = (0.4, 20.0) if "CuBaLIF" in name else (1.5, 12.0)
    current = drive(5, size[start == "leak"])
    (state, spikes), (state_other, spikes_other) = rollout(neuron, current), rollout(other, current)
    assert 20 < spikes.sum() < 0.9 * spikes.size
    assert np.array_equal(spikes, spikes_other)
    factor = 1 - np.exp(-neuron.dt / np.asarray(ex.resolve(neuron).tau))
    if "CuBaLIF" in name:
        factor = factor * (1 - np.exp(-neuron.dt / np.asarray(ex.resolve(neuron).tau_synapse)))
    factor = factor if start == "one" else 1 / factor
    assert np.allclose(state_other.voltage, factor * np.asarray(state.voltage), rtol=1e-9, atol=1e-12)
    assert np.allclose(ex.resolve(other).threshold, THRESHOLD * factor, rtol=1e-12)
    if "ALIF" in name:
        slow, fast = np.asarray(neuron.tau_adaptation), np.asarray(neuron.tau)
        ratio = (1 - np.exp(-neuron.dt / slow)) / (1 - np.exp(-neuron.dt / fast))
        assert np.allclose(other.beta, 0.6 * (1 / ratio if start == "one" else ratio), rtol=1e-12)
    weights = jnp.asarray(drive(6))
    slopes = [
        jax.grad(lambda i, n=n: jnp.sum(weights * rollout(n, i)[1]))(jnp.asarray(current)) for n in (neuron, other)
    ]
    assert np.abs(slopes[0]).max() > 0.01
    assert np.allclose(*slopes, rtol=1e-7, atol=1e-10)
    assert neuron.with_input_scale(start) is neuron
    assert isinstance(other.threshold, ex.Parameter)
    back = other.with_input_scale(start)
    assert np.allclose(ex.resolve(back).threshold, THRESHOLD, rtol=1e-12)


@pytest.mark.parametrize(("scale", "error"), [("one", "width"), ("light", "input_scale")])
def test_conversion_refuses_what_it_cannot_do(scale, error):
    with pytest.raises(ex.errors.ArgumentError, match=error):
        N.LIF(2, input_scale="leak", surrogate="gaussian").with_input_scale(scale)


def filtered(current, tau, dt=1.0, leak=False):
    """A current after a leaky filter, as a sum over its past."""
    decay = np.exp(-dt / np.broadcast_to(tau, current.shape[1:]))
    lags = np.arange(len(current))[:, None] - np.arange(len(current))[None]
    kernel = np.where(lags >= 0, np.power(decay[:, None, None], np.maximum(lags, 0)), 0.0)
    return (1 - decay if leak else 1.0) * np.einsum("jts,sj->tj", kernel, current)


@pytest.mark.x64
@pytest.mark.parametrize("synapse", [SYNAPSE, SYNAPSE * UNITS], ids=["scalar", "a unit"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cuba_lif_is_lif_behind_a_filter(case, synapse):
    leak, dt = case.get("leak", False), case.get("dt", 1.0)
    current = drive(7, 8.0 if leak else 0.4)
    wanted = filtered(current, synapse, dt, leak)
    v, _, z, blocked = hand(wanted, **case)
    state, spikes = rollout(made(N.CuBaLIF, case, tau_synapse=synapse), current)
    assert 20 < z.sum() < 0.9 * z.size
    assert np.array_equal(spikes, z)
    assert np.allclose(state.synaptic, wanted, rtol=1e-11, atol=1e-12)
    assert np.allclose(state.voltage, v, rtol=1e-11, atol=1e-12)
    if np.any(case.get("n_ref", 0)):
        assert np.array_equal(state.refractory > 0, blocked)


@pytest.mark.x64
@pytest.mark.parametrize("scale", ["one", "leak"])
def test_cuba_lif_answers_a_pulse_by_a_difference_of_exponentials(scale):
    """v(n) = (a_s^(n+1) - a_m^(n+1)) / (a_s - a_m), and its limit (n + 1) a^n where both decays are equal."""
    fast, slow = np.exp(-1 / (SYNAPSE * UNITS)), np.exp(-1 / TAU)
    gains = ((1 - fast), (1 - slow)) if scale == "leak" else (1.0, 1.0)
    pulse = np.zeros((STEPS, SIZE))
    pulse[0] = 2.5
    options = {"tau": TAU, "threshold": 1e3, "input_scale": scale}
    state, spikes = rollout(N.CuBaLIF(SIZE, tau_synapse=SYNAPSE * UNITS, **options), pulse)
    n = np.arange(STEPS)[:, None]
    assert not np.any(spikes)
    assert np.allclose(state.synaptic, 2.5 * gains[0] * fast**n, rtol=1e-11, atol=0)
    wanted = 2.5 * gains[0] * gains[1] * (fast ** (n + 1) - slow ** (n + 1)) / (fast - slow)
    assert np.allclose(state.voltage, wanted, rtol=1e-10, atol=0)
    state, _ = rollout(N.CuBaLIF(SIZE, tau_synapse=TAU, **options), pulse)
    gain = (1 - slow) ** 2 if scale == "leak" else 1.0
    assert np.allclose(state.voltage, 2.5 * gain * (n + 1) * slow**n, rtol=1e-11, atol=0)


@pytest.mark.x64
def test_cuba_lif_integrates_the_equations_of_nir():
    """tau_syn i' = -i + I, tau_mem v' = -v + i: exact for a constant i, first order in dt for a changing one."""
    errors = []
    for dt in (0.1, 0.05):
        t = dt * np.arange(1, round(30 / dt) + 1)
        neuron = N.CuBaLIF(1, tau=TAU, tau_synapse=SYNAPSE, threshold=1e3, input_scale="leak", dt=dt)
        state, _ = rollout(neuron, np.ones((len(t), 1)))
        assert np.allclose(state.synaptic[:, 0], 1 - np.exp(-t / SYNAPSE), rtol=1e-10)
        exact = 1 - (TAU * np.exp(-t / TAU) - SYNAPSE * np.exp(-t / SYNAPSE)) / (TAU - SYNAPSE)
        errors.append(np.abs(state.voltage[:, 0] - exact).max())
        assert abs(float(state.voltage[-1, 0]) - exact[-1]) < dt * 1e-2
    assert errors[0] < 0.01 and errors[0] / errors[1] == pytest.approx(2, abs=0.05)


@pytest.mark.x64
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_cuba_lif_in_the_order_of_other_programs(reset):
    """Lava resets at the end of the step of the spike, snnTorch in the next; the old current is one step of delay."""
    current = drive(8, 0.4)
    a_s, a_m = np.exp(-1 / SYNAPSE), np.exp(-1 / TAU)
    i, v, late, w = (np.zeros(SIZE) for _ in range(4))
    rows = []
    for now in current:
        w = a_m * w + late
        late = a_s * late + now
        i = a_s * i + now
        v = a_m * v + i
        z, z_late = v > THRESHOLD, w > THRESHOLD
        rows.append((z, z_late))
        # What a reset takes off at once has leaked by a_m when the next step would take it off.
        v = np.where(z, 0.0, v) if reset == "zero" else v - z * THRESHOLD / a_m
        w = np.where(z_late, 0.0, w) if reset == "zero" else w - z_late * THRESHOLD / a_m
    neuron = N.CuBaLIF(SIZE, tau=TAU, tau_synapse=SYNAPSE, threshold=THRESHOLD, reset=reset)
    spikes, spikes_late = (np.array(x) for x in zip(*rows, strict=True))
    assert 20 < spikes.sum() < 0.9 * spikes.size
    assert np.array_equal(rollout(neuron, current)[1], spikes)
    delayed = np.concatenate([np.zeros((1, SIZE)), current[:-1]])
    assert np.array_equal(rollout(neuron, delayed)[1], spikes_late)
    assert not np.array_equal(spikes, spikes_late)


@pytest.mark.x64
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cuba_lif_without_a_synapse_is_lif(case):
    current = drive(9, 8.0 if case.get("leak") else 1.0)
    state, spikes = rollout(made(N.CuBaLIF, case, tau_synapse=1e-4), current)
    plain, wanted = rollout(made(N.LIF, case), current)
    assert wanted.sum() > 20 and np.array_equal(spikes, wanted)
    assert np.array_equal(state.voltage, plain.voltage) and np.array_equal(state.synaptic, current)


@pytest.mark.x64
@pytest.mark.parametrize("scale", ["one", "leak"])
def test_cuba_lif_is_a_leaky_integrator_before_a_lif(scale):
    options = {"tau": TAU, "threshold": THRESHOLD, "refractory": 3.0, "input_scale": scale}
    synapse = SYNAPSE * UNITS
    inputs = jnp.asarray(drive(10, 8.0 if scale == "leak" else 0.4))[:, None]
    one = ex.Network(
        {"h": N.CuBaLIF(SIZE, tau_synapse=synapse, **options)},
        [ex.Dense("x", "h", weight=np.eye(SIZE))],
        inputs={"x": SIZE},
        outputs="h",
    ).run(inputs, record=("h.synaptic", "h.current", "h.voltage"))
    two = ex.Network(
        {"i": N.LI(SIZE, tau=synapse, input_scale=scale), "h": N.LIF(SIZE, **options)},
        [ex.Dense("x", "i", weight=np.eye(SIZE)), ex.Dense("i", "h", weight=np.eye(SIZE))],
        inputs={"x": SIZE},
        outputs="h",
    ).run(inputs, record=("i.voltage", "h.voltage"))
    assert one.outputs.sum() > 20 and np.array_equal(one.outputs, two.outputs)
    assert np.allclose(one["h.synaptic"], two["i.voltage"], rtol=1e-13)
    assert np.allclose(one["h.voltage"], two["h.voltage"], rtol=1e-12, atol=1e-14)
    assert np.array_equal(one["h.current"], inputs) and not np.allclose(one["h.synaptic"], inputs)


@pytest.mark.x64
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("voltage", [0.6, 1.1])
@pytest.mark.parametrize("scale", ["one", "leak"])
def test_jacobian_of_a_cuba_lif_step(reset, local, voltage, scale):
    a_s, a_m = np.exp(-1 / SYNAPSE), np.exp(-1 / TAU)
    s_i, s_v = (1 - a_s, 1 - a_m) if scale == "leak" else (1.0, 1.0)
    z, p = float(voltage > THRESHOLD), psi(voltage - THRESHOLD, THRESHOLD)
    held = 0 if local else 1
    kept = a_m * (1 - z - held * voltage * p) if reset == "zero" else a_m - held * THRESHOLD * p
    # Rows: synaptic current, voltage, output; columns: synaptic current, voltage, input.
    wanted = np.array([[a_s, 0, s_i], [s_v * a_s, kept, s_v * s_i]])
    neuron = N.CuBaLIF(1, tau=TAU, tau_synapse=SYNAPSE, threshold=THRESHOLD, reset=reset, input_scale=scale)
    step = neuron.local_step if local else neuron.step

    def after(x):
        state, output = step(neuron.init_state()._replace(synaptic=x[:1], voltage=x[1:2]), x[2:])
        return jnp.concatenate([state.synaptic, state.voltage, output])

    point = jnp.array([0.5, voltage, 0.3])
    now = float(after(point)[1])
    slope = psi(now - THRESHOLD, THRESHOLD)
    assert p > 0.05 and slope > 0.01
    wanted = np.vstack([wanted, slope * wanted[1]])
    for mode in (jax.jacfwd, jax.jacrev):
        assert np.allclose(mode(after)(point), wanted, rtol=1e-12, atol=1e-15)


def test_what_cuba_lif_says_of_itself():
    a_unit = TAU * UNITS
    assert N.CuBaLIF(SIZE).uniform() == ("synaptic", "voltage")
    assert N.CuBaLIF(SIZE, tau=a_unit).uniform() == N.CuBaLIF(SIZE, reset="zero").uniform() == ("synaptic",)
    assert N.CuBaLIF(SIZE, tau_synapse=a_unit).uniform() == ()
    assert N.CuBaLIF(SIZE).macs == 2 and N.CuBaLIF(SIZE).spiking


@pytest.mark.x64
@pytest.mark.parametrize("model", [N.LIF, N.ALIF, N.CuBaLIF])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_escape_noise_without_noise_is_the_step(model, reset):
    neuron = model(SIZE, tau=TAU, threshold=THRESHOLD, refractory=3.0, reset=reset)
    state = after = neuron.init_state()
    spiked, silenced = jnp.zeros(SIZE), 0
    for now in jnp.asarray(drive(11, 3.0)):
        state, output = neuron.step(state, now)
        after, above, blocked = neuron.escape(after, now, spiked)
        spiked = (~blocked & (above > 0)).astype(output.dtype)
        silenced += int(jnp.sum(blocked & (above > 0)))
        assert np.array_equal(spiked, output)
        assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state, after)), strict=True))
    assert silenced > 0


@pytest.mark.x64
@pytest.mark.parametrize("scale", ["one", "leak"])
@pytest.mark.parametrize("tau", [TAU, TAU * UNITS], ids=["scalar", "a unit"])
def test_leaky_integrator(scale, tau):
    """v(t) = sum over s of kappa^(t - s) times the scaled current; a constant current's geometric sum."""
    kappa = np.exp(-1 / np.broadcast_to(tau, (SIZE,)))
    gain = 1 - kappa if scale == "leak" else np.ones(SIZE)
    current = drive(1)
    neuron = N.LI(SIZE, tau=tau, input_scale=scale)
    state, output = rollout(neuron, current)
    assert np.allclose(output, filtered(current, tau, leak=scale == "leak"), rtol=1e-11, atol=1e-13)
    assert np.array_equal(output, state.voltage)
    constant = rollout(neuron, np.ones((STEPS, SIZE)))[1]
    n = np.arange(1, STEPS + 1)[:, None]
    assert np.allclose(constant, gain * (1 - kappa**n) / (1 - kappa), rtol=1e-11)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("activation", "phi"),
    [
        ("tanh", np.tanh),
        ("relu", lambda x: np.maximum(x, 0)),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        (jnp.sin, np.sin),
    ],
)
def test_rate(activation, phi):
    """Murray 2019: h(t) = (1 - dt / tau) h(t-1) + dt / tau phi(I(t)), unrolled; tau = dt leaves phi alone."""
    current, tau, dt = drive(2, 2.0), TAU * UNITS, 0.5
    keep = 1 - dt / tau
    lags = np.arange(STEPS)[:, None] - np.arange(STEPS)[None]
    kernel = np.where(lags >= 0, np.power(keep[:, None, None], np.maximum(lags, 0)), 0.0)
    output = rollout(N.Rate(SIZE, tau=tau, activation=activation, dt=dt), current)[1]
    assert np.allclose(output, dt / tau * np.einsum("jts,sj->tj", kernel, phi(current)), rtol=1e-10, atol=1e-13)
    assert np.allclose(rollout(N.Rate(SIZE, tau=1.0, activation=activation), current)[1], phi(current), rtol=1e-12)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.x64
@pytest.mark.parametrize("bias", [1.0, UNITS], ids=["scalar", "a unit"])
def test_lstm(bias):
    currents = np.random.default_rng(4).normal(size=(30, 4, SIZE))
    state, output = rollout(N.LSTM(SIZE, forget_bias=bias), currents)
    cell = np.zeros(SIZE)
    for t, (i, f, g, o) in enumerate(currents):
        cell = _sigmoid(f + bias) * cell + _sigmoid(i) * np.tanh(g)
        assert np.allclose(state.cell[t], cell, rtol=1e-12)
        assert np.allclose(output[t], _sigmoid(o) * np.tanh(cell), rtol=1e-12)


@pytest.mark.x64
def test_lstm_is_equinox_lstm(key):
    cell = eqx.nn.LSTMCell(3, SIZE, key=key)
    net = ex.Network(
        {"h": N.LSTM(SIZE, forget_bias=0.0)},
        [
            ex.Dense("x", "h", weight=cell.weight_ih.reshape(4, SIZE, 3), bias=cell.bias.reshape(4, SIZE)),
            ex.Dense("h", "h", weight=cell.weight_hh.reshape(4, SIZE, SIZE)),
        ],
        inputs={"x": 3},
        outputs="h",
    )
    inputs = jax.random.normal(key, (12, 1, 3))
    carry, wanted = (jnp.zeros(SIZE), jnp.zeros(SIZE)), []
    for x in inputs[:, 0]:
        carry = cell(x, carry)
        wanted.append(carry[0])
    assert np.allclose(net.run(inputs).outputs[:, 0], np.stack(wanted), rtol=1e-12, atol=1e-14)


@pytest.mark.x64
@pytest.mark.parametrize("value", [20.0, 1e-3, 0.5, 500.0, [0.1, 1.0, 10.0, 100.0]])
def test_trainable_positive_is_softplus(value):
    parameter = ex.trainable(value, positive=True)
    assert np.allclose(np.log1p(np.exp(-np.abs(parameter.raw))) + np.maximum(parameter.raw, 0), value, rtol=1e-12)
    assert np.allclose(parameter.value, value, rtol=1e-12)
    slope = jax.grad(lambda p: jnp.sum(p.value))(parameter).raw
    assert np.allclose(slope, _sigmoid(np.asarray(parameter.raw)), rtol=1e-12)
    free = ex.trainable(value)
    assert np.array_equal(free.value, np.asarray(value)) and np.array_equal(free.raw, free.value)
    # However far an optimiser goes, the value stays a time constant.
    assert float(jnp.min(eqx.tree_at(lambda p: p.raw, parameter, parameter.raw - 50.0).value)) >= 0


@pytest.mark.parametrize("wide", [False, True])
def test_trainable_parameters_run_as_fixed_ones(wide):
    with jax.enable_x64(wide):
        fixed = {"tau": TAU * UNITS, "threshold": THRESHOLD, "tau_adaptation": SLOW, "beta": 0.4 * UNITS}
        moved = {n: ex.trainable(x, positive=True) for n, x in fixed.items()}
        a, b = (rollout(N.ALIF(SIZE, **options), drive(1, 1.5)) for options in (fixed, moved))
        tolerance = 1e-10 if wide else 1e-4
        assert np.array_equal(a[1], b[1]) and np.allclose(a[0].voltage, b[0].voltage, rtol=tolerance, atol=tolerance)
        assert a[1].dtype == (jnp.float64 if wide else jnp.float32)


def test_integers_are_numbers_and_weak_types_do_not_leak():
    neuron = N.LIF(3, tau=20, threshold=1, refractory=2)
    for name in ("tau", "threshold", "refractory"):
        value = getattr(neuron, name)
        assert value.dtype == jnp.float32 and not value.weak_type


def test_a_models_time_step_is_the_networks():
    net = ex.Network(
        {"h": N.LI(1, tau=10.0)}, [ex.Dense("x", "h", weight=[[1.0]])], inputs={"x": 1}, outputs="h", dt=0.5
    )
    assert net.populations["h"].dt == 0.5
    out = net.run(jnp.ones((3, 1, 1))).outputs[:, 0, 0]
    assert np.allclose(out, 1 - np.exp(-0.5 * np.arange(1, 4) / 10.0), rtol=1e-5)


def test_every_model_is_found_and_unknown_ones_are_named():
    assert {"LIF", "ALIF", "CuBaLIF", "LI", "Rate", "LSTM"} <= set(N.MODELS)
    with pytest.raises(AttributeError, match="Did you mean 'ALIF'"):
        N.ALIIF  # noqa: B018
