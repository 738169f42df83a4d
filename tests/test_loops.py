"""Native loops over time against JAX's scan: the same spikes, states and gradients, whatever the network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax import kernels
from engrax.network import loop_parameters
from engrax.neurons import ALIF, LI, LIF, CuBaLIF, Rate
from engrax.neurons import surrogates as su

pytestmark = [
    pytest.mark.x64,
    pytest.mark.skipif(not kernels.load(), reason="installed without a C++ compiler: there are no native loops"),
]
FAST = {"tau": 8.0, "threshold": 0.6}


def layered(hidden, readout=None, **options):
    """Input, one recurrent population, readout."""
    projections = [
        ex.Dense("input", "hidden", bias=True, **options),
        ex.Dense("hidden", "hidden", autapses=False),
        ex.Dense("hidden", "readout", bias=True),
    ]
    return {"hidden": hidden, "readout": readout or LI(3, tau=7.0)}, projections, "readout"


def two_populations():
    populations = {
        "fast": LIF(19, refractory=3.0, **FAST),
        "slow": ALIF(33, tau_adaptation=60.0, beta=0.2, **FAST),
        "rate": Rate(18, tau=6.0),
        "upper": LIF(21, reset="zero", **FAST),
        "readout": LI(4),
        "other": LI(2, input_scale="one"),
    }
    projections = [
        ex.Dense("input", "fast", delay=2),
        ex.Dense("input", "slow"),
        ex.Dense("fast", "slow", delay=0),
        ex.Dense("slow", "fast", delay=4),
        ex.Dense("slow", "slow"),
        ex.Masked("fast", "fast", density=0.5, delay=2),
        ex.Dense("slow", "upper", delay=1),
        ex.Dense("fast", "upper"),
        ex.Dense("upper", "readout", delay=3),
        ex.Dense("slow", "readout"),
        ex.Dense("slow", "other"),
        ex.Dense("rate", "slow"),
        ex.Dense("fast", "rate", delay=2),
    ]
    return populations, projections, {"a": "readout", "b": "other"}


PER_UNIT = np.linspace(2, 30, 37)
NETWORKS = {
    "lif": lambda: layered(LIF(37, **FAST)),
    "leak": lambda: layered(LIF(16, input_scale="leak", tau=PER_UNIT[:16], threshold=0.1)),
    "zero": lambda: layered(LIF(37, reset="zero", **FAST)),
    "refractory": lambda: layered(LIF(37, refractory=4.0, **FAST)),
    "alif": lambda: layered(ALIF(37, tau=PER_UNIT, threshold=0.5, tau_adaptation=PER_UNIT, beta=0.3)),
    "yin": lambda: layered(ALIF(40, reset="threshold", input_scale="leak", tau=8.0, threshold=0.05, beta=1.8)),
    "alif zero": lambda: layered(ALIF(37, reset="zero", refractory=2.0, beta=0.2, **FAST)),
    "narrow": lambda: layered(LIF(37, surrogate=su.Triangular(1.0, width=0.1), **FAST)),
    "wide": lambda: layered(ALIF(37, surrogate=su.MultiGaussian(), refractory=3.0, **FAST)),
    "custom": lambda: layered(LIF(37, surrogate=lambda x: 1 / (1 + 25 * x**2), refractory=2.0, **FAST)),
    "simplified": lambda: layered(ALIF(37, trace="simplified", beta=0.3, tau_adaptation=40.0, **FAST)),
    "untraced": lambda: layered(ALIF(37, trace="none", beta=0.3, tau_adaptation=40.0, **FAST)),
    "betas": lambda: layered(ALIF(37, tau_adaptation=50.0, beta=PER_UNIT / 60, **FAST)),
    "cuba": lambda: layered(CuBaLIF(37, tau_synapse=PER_UNIT, refractory=2.0, **FAST)),
    "cuba leak": lambda: layered(
        CuBaLIF(37, reset="zero", input_scale="leak", tau=8.0, threshold=0.03), Rate(3, activation="sigmoid")
    ),
    "tanh": lambda: layered(Rate(37, tau=PER_UNIT)),
    "relu": lambda: layered(Rate(37, activation="relu"), Rate(3, tau=5.0)),
    "synaptic": lambda: (
        *layered(CuBaLIF(37, **FAST), Rate(3))[:2],
        {"a": "readout.rate", "b": "hidden.synaptic", "c": "hidden.voltage"},
    ),
    "voltage": lambda: (*layered(ALIF(37, beta=0.2, **FAST))[:2], {"a": "readout", "b": "hidden.voltage"}),
    "two": two_populations,
}


def made(name, batch=19, steps=40, share=0.3):
    populations, projections, outputs = NETWORKS[name]()
    net = ex.Network(populations, projections, inputs={"input": 23}, outputs=outputs, key=jax.random.key(1))
    draw = np.random.default_rng(2)
    projections = type(net.projections)(
        (n, p if p.bias is None else p.replace(bias=jnp.asarray(0.1 * draw.standard_normal(p.bias.shape))))
        for n, p in net.projections.items()
    )
    inputs = (draw.random((steps, batch, 23)) < share).astype(float)
    return net.replace(projections=projections), jnp.asarray(inputs)


def trial_of(net, inputs):
    draw = np.random.default_rng(3)
    target = lambda size: jnp.asarray(draw.standard_normal((*inputs.shape[:2], size)))
    targets = {o.label: target(net.populations[o.population].size) for o in net.output_specs}
    lengths = jnp.asarray(draw.integers(len(inputs) // 2, len(inputs) + 1, inputs.shape[1]))
    return ex.Trial(inputs, next(iter(targets.values())) if net.single_output else targets, lengths=lengths)


@pytest.fixture
def by(monkeypatch):
    """Evaluate natively, and by JAX's scan."""

    def both(f, *args):
        found = []
        for mode in ("on", "off"):
            monkeypatch.setenv("ENGRAX_EVENTS", mode)
            jax.clear_caches()
            found.append(f(*args))
        jax.clear_caches()
        return found

    return both


def close(found, expected, rtol=1e-10):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        scale = max(float(jnp.max(jnp.abs(y), initial=0)), 1e-3)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * scale)


def recorded(net):
    variables = [
        f"{n}.{v}"
        for n, p in net.populations.items()
        for v in ("voltage", "rate", "adaptation", "synaptic")
        if v in p.init_state()._fields
    ]
    return (*variables, *net.populations)


def daily(cases, chosen):
    """The chosen cases every day, the others at night."""
    return [
        x if x in chosen else pytest.param(*([x] if isinstance(x, str) else x), marks=pytest.mark.nightly)
        for x in cases
    ]


@pytest.mark.parametrize("name", daily(NETWORKS, ("refractory", "yin", "synaptic", "relu")))
def test_runs_are_equal(by, name):
    net, inputs = made(name)
    first, second = by(lambda: net.run(inputs, record=recorded(net)))
    for n, p in net.populations.items():
        if p.spiking:
            assert 0.002 < float(second[n].mean()) < 0.5, "too few spikes, or too many, to say anything"
            np.testing.assert_array_equal(first[n], second[n])
    close((first.outputs, first.state, first.recorded), (second.outputs, second.state, second.recorded))
    # And from where they ended, with a batch of another size than a group.
    again = by(lambda: net.run(inputs[:7], second.state, record=recorded(net)))
    close(*[(r.outputs, r.state, r.recorded) for r in again])


RULES = {
    "bptt": ex.rules.BPTT(),
    "checkpoint": ex.rules.BPTT(checkpoint=9),
    "truncation": ex.rules.BPTT(truncation=8),
    "rates": ex.rules.BPTT(regularizers=[ex.losses.FiringRate(target=20.0, coefficient=30.0)]),
    "eprop": ex.rules.EProp(),
    "random": ex.rules.EProp(feedback="random"),
    "chunked": ex.rules.EProp(evaluation="chunked", chunk=11),
    "chunked rates": ex.rules.EProp(
        evaluation="chunked",
        chunk=11,
        loss="cross_entropy_mean",
        regularizers=[ex.losses.FiringRate(target=20.0, coefficient=30.0)],
    ),
}


CASES = [(name, "bptt") for name in NETWORKS] + [
    *[(name, "eprop") for name in ("refractory", "yin", "alif zero", "voltage", "cuba leak", "relu")],
    *[(name, rule) for name in ("yin", "two") for rule in ("checkpoint", "truncation", "rates")],
    ("wide", "random"),
    *[(name, rule) for name in ("simplified", "untraced") for rule in ("eprop", "chunked")],
    *[
        (name, "chunked")
        for name in ("alif", "betas", "leak", "yin", "alif zero", "wide", "cuba", "relu", "voltage", "cuba leak")
    ],
]


DAILY = [
    *[(name, "bptt") for name in ("leak", "yin", "tanh")],
    *[("voltage", "eprop"), ("wide", "random")],
    *[("yin", "truncation"), ("two", "rates"), ("cuba leak", "chunked")],
]


@pytest.mark.parametrize(("name", "rule"), daily(CASES, DAILY))
def test_gradients_are_equal(by, name, rule):
    net, inputs = made(name)
    first, second = by(lambda: RULES[rule].value_and_grad(net, trial_of(net, inputs)))
    for leaf in jax.tree.leaves(second[1].projections["hidden->hidden" if name != "two" else "slow->fast"]):
        assert float(jnp.linalg.norm(leaf)) > 1e-6
    close(first, second)


@pytest.mark.nightly
def test_chunks_with_late_losses_and_rates(by):
    net, inputs = made("alif")
    lengths = jnp.asarray(np.random.default_rng(4).integers(20, 41, inputs.shape[1]))
    trial = ex.Trial(inputs, jnp.arange(inputs.shape[1]) % 3, lengths=lengths)
    close(*by(lambda: RULES["chunked rates"].value_and_grad(net, trial)))


@pytest.mark.parametrize(("batch", "share"), [(1, 0.02), (2, 0.9), (16, 0.0), (33, 0.02)])
def test_any_batch_and_any_density(by, batch, share):
    net, inputs = made("alif", batch, 30, share)
    close(*by(lambda: ex.rules.BPTT().value_and_grad(net, trial_of(net, inputs))))


def test_real_inputs_and_long_delays(by):
    populations, projections, outputs = layered(ALIF(37, beta=0.2, **FAST))
    projections[1] = ex.Dense("hidden", "hidden", delay=12)
    net = ex.Network(populations, projections, inputs={"input": 23}, outputs=outputs, key=jax.random.key(1))
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((9, 4, 23)))
    close(*by(lambda: ex.rules.BPTT(checkpoint=5).value_and_grad(net, trial_of(net, inputs))))
    close(*by(lambda: ex.rules.BPTT().value_and_grad(net, trial_of(net, inputs))))


def wide(dtype, real):
    """A network with long rows, more sums than fit a cache, and what it is given: spikes or numbers."""
    draw = np.random.default_rng(5)
    weight = lambda post, pre, gain: jnp.asarray(gain * draw.standard_normal((post, pre)) / pre**0.5, dtype)
    projections = [
        ex.Dense("input", "hidden", weight=weight(512, 150, 2.0)),
        ex.Dense("hidden", "hidden", weight=weight(512, 512, 1.0)),
        ex.Dense("hidden", "readout", weight=weight(20, 512, 1.0)),
    ]
    populations = {"hidden": ALIF(512, beta=0.2, **FAST), "readout": LI(20)}
    net = ex.Network(populations, projections, inputs={"input": 150}, outputs="readout", key=jax.random.key(1))
    inputs = 0.3 * draw.standard_normal((70, 18, 150)) if real else draw.random((70, 18, 150)) < 0.03
    targets = draw.standard_normal((70, 18, 20))
    net, inputs, targets = jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x,
        (net, jnp.asarray(inputs.astype(float)), jnp.asarray(targets)),
    )
    return net, ex.Trial(inputs, targets)


@pytest.mark.parametrize("real", [False, True])
def test_wide_networks(by, real):
    net, trial = wide(jnp.float64, real)
    assert float(net.run(trial.inputs, record=("hidden",))["hidden"].mean()) > 0.005
    close(*by(lambda: ex.rules.BPTT().value_and_grad(net, trial)))


@pytest.mark.parametrize("rule", ["bptt", "eprop"])
def test_single_precision(by, rule):
    # As long as no rounding moves a spike, gradients differ by rounding, too.
    net, trial = wide(jnp.float32, False)
    short = trial.replace(inputs=trial.inputs[:25], targets=trial.targets[:25])
    first, second = by(lambda: net.run(short.inputs, record=("hidden",))["hidden"])
    assert float(second.mean()) > 0.01
    assert float(jnp.mean(first != second)) <= 1e-5
    np.testing.assert_array_equal(first, second)
    close(*by(lambda: RULES[rule].value_and_grad(net, short)), rtol=2e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize(("dtype", "digits"), [(jnp.float64, 4e-16), (jnp.float32, 3e-7)])
def test_nonlinearities_of_any_number(by, activation, dtype, digits):
    numbers = np.concatenate([10.0 ** np.arange(-12, 5), np.linspace(-30, 30, 200), [0.0, 88.7, 709.5]])
    numbers = np.unique(np.concatenate([numbers, -numbers]))
    size = len(numbers)
    projections = [ex.Dense("input", "out", weight=jnp.eye(size, dtype=dtype))]
    units = Rate(size, tau=jnp.ones((), dtype), activation=activation)
    net = ex.Network({"out": units}, projections, inputs={"input": size}, outputs="out", key=jax.random.key(0))
    inputs = jnp.asarray(numbers[None, None], dtype)
    found, _ = by(lambda: net.run(inputs).outputs)
    exact = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": lambda x: 1 / (1 + np.exp(-np.maximum(x, -700))),
    }
    expected = exact[activation](np.asarray(inputs, np.float64))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=2 * digits if activation != "sigmoid" else 0, atol=digits)


def test_jax_differentiates_runs_in_both_modes(by):
    net, inputs = made("alif", 3, 20)

    def loss(gain):
        weights = {n: p.replace(weight=p.weight * gain) for n, p in net.projections.items()}
        scaled = net.replace(projections=type(net.projections)(weights))
        return jnp.sum(scaled.run(inputs).outputs ** 2)

    for mode in (jax.grad, jax.jacfwd):
        first, second = by(lambda m=mode: m(loss)(1.0))
        assert abs(float(second)) > 1e-3
        close(first, second)


@pytest.mark.nightly
@pytest.mark.parametrize("rule", ["bptt", "eprop"])
def test_jax_differentiates_gradients(by, rule):
    net, inputs = made("alif", 3, 12)
    trial = trial_of(net, inputs)

    def size(gain):
        weights = {n: p.replace(weight=p.weight * gain) for n, p in net.projections.items()}
        _, grads = RULES[rule].value_and_grad(net.replace(projections=type(net.projections)(weights)), trial)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(grads))

    for mode in (jax.grad, jax.jacfwd):
        first, second = by(lambda m=mode: m(size)(1.0))
        assert abs(float(second)) > 1e-3
        close(first, second)


def test_runs_and_gradients_map_over_networks(by):
    net, inputs = made("yin", 3, 20)
    trial = trial_of(net, inputs)

    def gradient(gain):
        weights = {n: p.replace(weight=p.weight * gain) for n, p in net.projections.items()}
        return ex.rules.BPTT().value_and_grad(net.replace(projections=type(net.projections)(weights)), trial)

    close(*by(lambda: jax.vmap(gradient)(jnp.array([0.8, 1.0, 1.3]))))


def test_a_model_of_ones_own_is_never_run_as_another(by):
    class Own(LIF):
        def _above(self, state):
            return state.voltage - 0.2

    net, inputs = made("lif")
    own = ex.Network(
        {**net.populations, "hidden": Own(37, **FAST)},
        list(net.projections.values()),
        inputs={"input": 23},
        outputs="readout",
        key=jax.random.key(1),
    )
    first, second = by(lambda: own.run(inputs, record=("hidden",)))
    assert float(jnp.mean(second["hidden"])) > 1.1 * float(jnp.mean(net.run(inputs, record=("hidden",))["hidden"]))
    np.testing.assert_array_equal(first["hidden"], second["hidden"])


def trained(net):
    """The same network with every time constant that native loops know trained."""
    populations = {
        name: jax.tree.map(lambda x: x, p) if not p.loop_times else _trained(p) for name, p in net.populations.items()
    }
    return net.replace(populations=type(net.populations)(populations))


def _trained(neuron):
    values = [ex.trainable(getattr(neuron, n), positive="log").with_dt(neuron.dt) for n in neuron.loop_times]
    return eqx.tree_at(lambda p: [getattr(p, n) for n in neuron.loop_times], neuron, values)


TRAINED = [(name, "bptt") for name in ("lif", "leak", "refractory", "alif", "alif zero", "yin", "two", "voltage")]
TRAINED += [("yin", rule) for rule in ("checkpoint", "truncation", "rates", "eprop")]


@pytest.mark.parametrize(
    ("name", "rule"), daily(TRAINED, [("leak", "bptt"), ("alif zero", "bptt"), ("yin", "truncation")])
)
def test_trained_time_constants(by, monkeypatch, name, rule):
    net, inputs = made(name)
    net = trained(net)
    seen = []
    whole = loop_parameters.pulled
    monkeypatch.setattr(loop_parameters, "pulled", lambda *args: seen.append(args[0]) or whole(*args))
    first, second = by(lambda: RULES[rule].value_and_grad(net, trial_of(net, inputs)))
    # Those of the components that native loops ran; local rules want each trial's own, which the scan makes.
    assert bool(seen) == (rule != "eprop")
    for population in second[1].populations.values():
        assert all(float(jnp.linalg.norm(leaf)) > 1e-8 for leaf in jax.tree.leaves(population))
    close(first, second)


def test_what_native_loops_do_not_know_learns_by_the_scan(by, monkeypatch):
    net, inputs = made("alif")
    hidden = ALIF(37, tau=PER_UNIT, threshold=ex.trainable(0.5), beta=0.3)
    net = net.replace(populations=type(net.populations)(net.populations | {"hidden": hidden}))
    first, second = by(lambda: ex.rules.BPTT().value_and_grad(net, trial_of(net, inputs)))
    assert float(jnp.linalg.norm(second[1].populations["hidden"].threshold.raw)) > 1e-6
    close(first, second)
