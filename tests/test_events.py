"""Inputs as events: what a network does with them is what it does with the raster that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
import engrax.analysis
from engrax.errors import ArgumentError
from engrax.meter.activity import observe
from engrax.neurons import ALIF, LI, LIF, LSTM

pytestmark = pytest.mark.x64

STEPS, BATCH, UNITS = 24, 5, 30


def raster(real, share=0.1, seed=0):
    draw = np.random.default_rng(seed)
    x = (draw.random((STEPS, BATCH, UNITS)) < share).astype(float)
    return x * draw.standard_normal(x.shape) if real else x


def network(hidden=None, delay=None):
    hidden = hidden or ALIF(17, beta=0.2, tau=8.0, threshold=0.5)
    projections = [
        ex.Dense("input", "hidden", delay=delay, bias=True),
        ex.Dense("hidden", "hidden"),
        ex.Dense("hidden", "readout"),
    ]
    populations = {"hidden": hidden, "readout": LI(3)}
    return ex.Network(populations, projections, inputs={"input": UNITS}, outputs="readout", key=jax.random.key(1))


def targets():
    return jnp.asarray(np.random.default_rng(3).standard_normal((STEPS, BATCH, 3)))


@pytest.fixture(params=["on", "off"])
def mode(request, monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", request.param)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


def close(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("real", [False, True])
def test_events_of_a_raster_stand_for_it(real):
    x = raster(real)
    events = ex.Events.of(x)
    assert events.shape == x.shape and events.ndim == 3 and (events.values is None) is not real
    np.testing.assert_array_equal(events.dense(), x)
    np.testing.assert_array_equal(events[3:7].dense(), x[3:7])
    np.testing.assert_array_equal(events[3].dense(), x[3])
    steps, trials, units = np.nonzero(x)
    order = np.random.default_rng(1).permutation(len(steps))
    values = x[steps, trials, units]
    shuffled = [a[order] for a in (steps, trials, units)]
    again = ex.Events.at(*shuffled, x.shape, values=values[order] if real else None, capacity=16)
    np.testing.assert_array_equal(again.dense(), x)
    assert again.places.shape[-1] == 16


def test_the_same_event_twice_adds_up():
    events = ex.Events.at([1, 1, 0], [0, 0, 0], [4, 4, 2], (2, 1, 5))
    np.testing.assert_array_equal(events.dense()[:, 0], [[0, 0, 1, 0, 0], [0, 0, 0, 0, 2]])
    assert ex.Events.at([], [], [], (2, 3, 5)).dense().shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ex.Events.at([0], [0, 1], [1], (2, 2, 2)), "equally long"),
        (lambda: ex.Events.at([0], [0], [2], (2, 2, 2)), "units must be from 0 to 1"),
        (lambda: ex.Events.at([0], [-1], [1], (2, 2, 2)), "trials must be from 0 to 1"),
        (lambda: ex.Events.at([0.5], [0], [1], (2, 2, 2)), "must be integers"),
        (lambda: ex.Events.at([0, 0], [0, 0], [0, 1], (2, 2, 2), capacity=1), "more than capacity=1"),
        (lambda: ex.Events.of(np.zeros((2, 2))), "time, batch, units"),
        (lambda: ex.Events(jnp.array([[[0, 1]]]), None, 3), "ascending"),
        (lambda: ex.Events(jnp.array([[[2, 2]]]), None, 3), "ascending"),
        (lambda: ex.Events(jnp.array([[[4, 0]]]), None, 3), "at most 3"),
        (lambda: ex.Events(jnp.array([[[1, 0]]]), jnp.ones((1, 1, 3)), 3), "values are"),
        (lambda: network().run(ex.Events.of(np.zeros((4, 2, UNITS + 1)))), r"must be \(time, batch, 30\)"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    ("real", "delay"),
    [
        *((False, None), (True, 3), (False, 40)),
        *(pytest.param(*x, marks=pytest.mark.nightly) for x in ((True, None), (False, 3), (True, 40))),
    ],
)
def test_runs(mode, real, delay):
    net, x = network(delay=delay), raster(real)
    first, second = [net.run(given, record=("hidden",)) for given in (ex.Events.of(x), jnp.asarray(x))]
    close((first.outputs, first.state), (second.outputs, second.state))
    # What comes 40 steps late comes in the second run.
    assert delay == 40 or float(second["hidden"].mean()) > 0.005
    more = [net.run(given, second.state).outputs for given in (ex.Events.of(x), jnp.asarray(x))]
    close(*more)
    assert float(jnp.abs(more[1]).max()) > 1e-3


RULES = {
    "bptt": ex.rules.BPTT(),
    "checkpoint": ex.rules.BPTT(checkpoint=7),
    "offline": ex.rules.EProp(),
    "chunked": ex.rules.EProp(evaluation="chunked", chunk=7),
    "online": ex.rules.EProp(evaluation="online"),
}


@pytest.mark.parametrize("rule", [pytest.param(r, marks=[pytest.mark.nightly] * (r == "checkpoint")) for r in RULES])
@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_gradients(mode, rule, real):
    net, x = network(), raster(real)
    found = [RULES[rule].value_and_grad(net, ex.Trial(given, targets())) for given in (ex.Events.of(x), jnp.asarray(x))]
    close(*found)
    assert float(jnp.linalg.norm(found[1][1].projections["input->hidden"].weight)) > 1e-6


@pytest.mark.parametrize("hidden", [LSTM(9), LIF(17, tau=ex.trainable(np.linspace(5.0, 20, 17), positive=True))])
def test_any_model_takes_events(mode, hidden):
    net, x = network(hidden, delay=2), raster(True)
    rule = ex.rules.BPTT()
    close(*[rule.value_and_grad(net, ex.Trial(given, targets())) for given in (ex.Events.of(x), jnp.asarray(x))])


def test_jax_differentiates_runs_of_events(mode):
    net, x = network(), raster(False)

    def loss(gain, given):
        weights = {n: p.replace(weight=p.weight * gain) for n, p in net.projections.items()}
        return jnp.sum(net.replace(projections=type(net.projections)(weights)).run(given).outputs ** 2)

    for differentiate in (jax.grad, jax.jacfwd):
        close(differentiate(loss)(1.0, ex.Events.of(x)), differentiate(loss)(1.0, jnp.asarray(x)))


def test_events_are_counted_and_looked_at(mode):
    net, x = network(), raster(True)
    lengths = jnp.array([24, 3, 10, 24, 1])
    found = []
    for given in (ex.Events.of(x), jnp.asarray(x)):
        trial = ex.Trial(given, targets(), lengths=lengths)
        record = net.run(given, record=("hidden",))
        found.append(
            (
                observe(net, trial, record),
                ex.analysis.eligibility_traces(net, trial, "input->hidden", 3),
                jax.tree.leaves(ex.analysis.escape_slopes(net, trial, ex.rules.EProp(), jax.random.key(1), draws=3)),
            )
        )
    close(*found)


def test_no_raster_is_made():
    # The program's largest array is smaller than the raster would be.
    shape = (100, 8, 4000)
    draw = np.random.default_rng(0)
    at = [draw.integers(0, n, 9000) for n in shape]
    events = ex.Events.at(*at, shape)
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
    net = ex.Network(
        {"hidden": LIF(8), "readout": LI(2)},
        projections,
        inputs={"input": 4000},
        outputs="readout",
        key=jax.random.key(0),
    )
    trial = ex.Trial(events, jnp.zeros((100, 8, 2)))
    compiled = jax.jit(lambda n, t: ex.rules.BPTT().value_and_grad(n, t)).lower(net, trial).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < np.prod(shape) * 8 / 4
