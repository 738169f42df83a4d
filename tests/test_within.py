"""Updates within trials: they are those of a loop by hand, and of a whole trial where there is one at its end."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.testing.rules import example
from engrax.training.block import train_step
from engrax.training.within import updates_within

STEPS, BATCH = 8, 3
KEYS = tuple(jax.random.split(jax.random.key(2)))


def flat(net):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(net.projections)])


@pytest.fixture
def setting():
    net, _ = example(ex.neurons.LIF(5))
    inputs = 3.0 * jax.random.normal(jax.random.key(0), (STEPS, BATCH, net.inputs["input"]))
    targets = jax.random.normal(jax.random.key(1), (STEPS, BATCH, 2))
    return net, ex.Trial(inputs, targets)


def _moving(net):
    return eqx.filter(net, ex.network.trainable_leaves(net))


@pytest.mark.x64
@pytest.mark.parametrize("loss", [None, "cross_entropy_mean"])
@pytest.mark.parametrize("rule", [ex.rules.EProp, ex.rules.RTRL])
def test_one_update_at_the_end_is_that_of_the_trial(setting, rule, loss):
    net, trial = setting
    if loss:
        trial = trial.replace(targets=jnp.array([0, 1, 0]))
    optimizer, rule = optax.adam(0.01), rule(loss=loss)
    state = optimizer.init(_moving(net))
    whole, _, value = train_step(net, state, trial, rule, optimizer, KEYS)
    found, _, also = updates_within(net, state, trial, rule, optimizer, KEYS, STEPS)
    np.testing.assert_allclose(float(value), float(also), rtol=1e-12)
    np.testing.assert_allclose(flat(found), flat(whole), atol=1e-12)


@pytest.mark.x64
def test_updates_at_every_step_are_those_of_a_loop(setting):
    net, trial = setting
    optimizer, rule = optax.sgd(0.05), ex.rules.RTRL()
    found, *_ = updates_within(net, optimizer.init(_moving(net)), trial, rule, optimizer, KEYS, 1)
    state, carried, by_hand = optimizer.init(_moving(net)), rule.init(net, BATCH), net
    for t in range(STEPS):
        carried, _, gradient = rule.update(by_hand, carried, trial.inputs[t], trial.targets[t])
        updates, state = optimizer.update(gradient, state)
        by_hand = eqx.apply_updates(by_hand, updates).constrain(KEYS[1])
    np.testing.assert_allclose(flat(found), flat(by_hand), atol=1e-12)
    assert float(jnp.abs(flat(found) - flat(net)).max()) > 1e-3


def test_fit_updates_within_trials_and_says_what_cannot():
    task = ex.tasks.get("pattern")
    net = ex.Network(
        {"hidden": ex.neurons.Rate(20, tau=10.0), "out": ex.neurons.LI(task.output_size, tau=2.0)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": task.input_size},
        outputs="out",
        dt=task.dt,
        key=jax.random.key(0),
    )
    options = {"batch": 1, "progress": False, "validate_every": 3}
    run = ex.fit(net, task, ex.rules.EProp(), optax.sgd(1e-3), 3, update_every=20, **options)
    other = ex.fit(net, task, ex.rules.EProp(), optax.sgd(1e-3), 3, **options)
    assert np.isfinite(run.losses).all() and not np.allclose(run.losses[1:], other.losses[1:])
    with pytest.raises(ex.errors.ArgumentError, match="BPTT gives no gradient before a trial's end"):
        ex.fit(net, task, ex.rules.BPTT(), optax.sgd(1e-3), 3, update_every=1, **options)
    with pytest.raises(ex.errors.ArgumentError, match="asks for the loss again"):
        ex.fit(net, task, ex.rules.EProp(), optax.lbfgs(), 3, update_every=1, **options)
