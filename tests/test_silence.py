"""Trainings that begin badly: silent networks are named; odd time constants, empty events and single classes pass."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import SilenceWarning
from engrax.training.build import build
from engrax.training.diagnose import silence
from engrax.training.recipe import load
from recordings import recordings, save

LOUD, MUTE = {"threshold": 0.1}, {"threshold": 1e6}


def network(first, second, key):
    populations = {"a": ex.neurons.LIF(5, **first), "b": ex.neurons.LIF(5, **second), "readout": ex.neurons.LI(3)}
    ends = [("input", "a"), ("a", "b"), ("a", "readout"), ("b", "readout")]
    return ex.Network(populations, [ex.Dense(*end) for end in ends], inputs={"input": 5}, outputs="readout", key=key)


@pytest.fixture
def task(tmp_path):
    return ex.tasks.get("npz", path=str(save(tmp_path, **recordings("trial", steps=30))))


def train(net, task, **options):
    return ex.fit(net, task, ex.rules.BPTT(), optax.sgd(1e-9), 4, batch=4, validate_every=2, progress=False, **options)


@pytest.mark.parametrize(
    ("first", "second", "who"),
    [(LOUD, MUTE, "population 'b' sends"), (MUTE, LOUD, "populations 'a', 'b' send"), (LOUD, LOUD, None)],
)
def test_silent_populations_are_named_once(first, second, who, task, key):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = train(network(first, second, key), task)
    assert len(run.history) == 2
    found = [str(w.message) for w in said if issubclass(w.category, SilenceWarning)]
    if who is None:
        assert not found
    else:
        (message,) = found
        assert message.startswith(f"{who} no spikes") and "at step 2" in message and "Lower the threshold" in message


def test_one_silent_seed_is_enough_and_one_that_falls_silent_later(key):
    net = network(LOUD, LOUD, key)
    rates = lambda step, a, b: {
        "step": step,
        "validation_firing_rate_hz.a": float(np.mean(a)),
        "validation_firing_rate_hz.a_per_seed": a,
        "validation_firing_rate_hz.b": b,
    }
    assert silence(net, [rates(1, [3.0, 2.0], 1.0)]) is None
    assert "'a'" in str(silence(net, [rates(1, [3.0, 0.0], 1.0)]))
    assert "'b'" in str(silence(net, [rates(1, [3.0, 2.0], 1.0), rates(2, [3.0, 2.0], 0.0)]))
    assert silence(net, [rates(1, [3.0, 2.0], 0.0), rates(2, [3.0, 2.0], 0.0)]) is None


def test_a_readout_whose_voltage_is_read_may_be_silent(task, key):
    net = ex.Network(
        {"readout": ex.neurons.LIF(3, threshold=1e6)},
        [ex.Dense("input", "readout")],
        inputs={"input": 5},
        outputs="readout.voltage",
        key=key,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(net, task)


@pytest.mark.parametrize("tau", [1.001, 1e30])
@pytest.mark.parametrize("positive", [True, "log"])
def test_time_constants_may_begin_anywhere(tau, positive, key):
    """From just above a step, the least that a network allows, to for ever."""
    unit = ex.neurons.ALIF(3, tau=20.0, tau_adaptation=ex.trainable(tau, positive), beta=0.5)
    net = ex.Network(
        {"hidden": unit, "readout": ex.neurons.LI(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": 4},
        outputs="readout",
        key=key,
    )
    trial = ex.Trial(5 * jax.random.uniform(key, (20, 3, 4)), jnp.asarray([0, 1, 1]))
    loss, grads = ex.rules.BPTT().value_and_grad(net, trial)
    assert np.any(net.run(trial.inputs, record=("hidden",))["hidden"])
    assert np.any(grads.projections["input->hidden"].weight)
    assert np.isfinite(float(loss)) and all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("rule", ["bptt", "eprop"])
def test_trials_without_an_event_pass(rule):
    built = build(load("digits", ["network.populations.hidden.size=4", "network.populations.hidden.beta=0.0"], rule))
    trial = built.task.sample(jax.random.key(0), 3)
    net = built.rule.bind(built.net, jax.random.key(0))
    loss, grads = built.rule.value_and_grad(net, trial.replace(inputs=jnp.zeros_like(trial.inputs)), jax.random.key(0))
    assert np.isfinite(float(loss)) and all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
