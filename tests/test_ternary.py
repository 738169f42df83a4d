"""The ternary threshold: against its closed form, counted by hand, and trained behind a projection of one to one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.meter import bill, observe
from engrax.neurons import surrogates
from engrax.testing.reference import reference_gradient


@pytest.mark.x64
@pytest.mark.parametrize("name", ["triangular", "multi_gaussian"])
def test_values_and_derivatives(name):
    x, threshold = jnp.linspace(-0.5, 0.5, 41), 0.2
    psi = surrogates.as_surrogate(name).psi
    wide = jnp.full(x.shape, threshold)

    def output(x, threshold):
        unit = ex.neurons.Ternary(41, threshold=threshold, surrogate=name)
        return unit.step(unit.init_state(), x)[1]

    np.testing.assert_array_equal(output(x, threshold), np.sign(x) * (np.abs(x) > threshold))
    up, down = psi(x - threshold, wide), psi(-x - threshold, wide)
    assert float(jnp.max(jnp.abs(up - down))) > 0.1
    by_x, by_threshold = (jax.jvp(output, (x, wide), t)[1] for t in ((jnp.ones(41), 0 * wide), (0 * x, jnp.ones(41))))
    np.testing.assert_allclose(by_x, up + down, rtol=1e-12)
    np.testing.assert_allclose(by_threshold, down - up, rtol=1e-12, atol=1e-15)


def _network(key, threshold=0.3):
    return ex.Network(
        {
            "events": ex.neurons.Ternary(4, threshold=threshold),
            "hidden": ex.neurons.ALIF(5, tau=6.0, threshold=0.5, beta=0.3),
            "readout": ex.neurons.LI(2, tau=4.0),
        },
        [
            ex.Masked("input", "events", mask="identity", init="identity", trainable=False),
            ex.Dense("events", "hidden"),
            ex.Dense("hidden", "hidden", autapses=False),
            ex.Dense("hidden", "readout"),
        ],
        inputs={"input": 4},
        outputs="readout",
        key=key,
    )


@pytest.mark.x64
def test_the_threshold_trains_through_a_network(key):
    """One threshold for all units, against the reference; a local rule, which cuts its way to the loss, says so."""
    net = _network(key, ex.trainable(0.3, positive="log"))
    inputs = jax.random.normal(key, (12, 3, 4))
    trial = ex.Trial(inputs, jnp.array([0, 1, 0]))
    assert float(jnp.mean(jnp.abs(net.run(inputs, record=("hidden",))["hidden"]))) > 0.05
    assert net.projections["input->events"].connections().tolist() == [1, 1, 1, 1]
    _, found = ex.rules.BPTT().value_and_grad(net, trial, key)
    _, wanted = reference_gradient(ex.rules.BPTT(), net, trial, False)
    moved = [x.populations["events"].threshold.raw for x in (found, wanted)]
    assert abs(float(moved[1])) > 1e-6 and moved[0].shape == ()
    np.testing.assert_allclose(*moved, rtol=1e-9)
    assert found.projections["input->events"].weight is None
    for feedback in ("symmetric", "random"):
        rule = ex.rules.EProp(feedback=feedback)
        with pytest.raises(ex.errors.RuleError, match="population 'events' keeps no state"):
            rule.value_and_grad(net, trial, key)
    # With a fixed threshold there is nothing to reach.
    fixed = _network(key)
    _, found = ex.rules.EProp().value_and_grad(fixed, trial, key)
    _, wanted = reference_gradient(ex.rules.EProp(), fixed, trial, True)
    weights = [x.projections["events->hidden"].weight for x in (found, wanted)]
    assert float(jnp.max(jnp.abs(weights[1]))) > 1e-3
    np.testing.assert_allclose(*weights, rtol=1e-9, atol=1e-15)


def test_events_of_both_signs_are_counted(key):
    net = _network(key)
    inputs = jax.random.normal(key, (9, 2, 4))
    trial = ex.Trial(inputs, jnp.array([0, 1]), lengths=jnp.array([9, 6]))
    record = net.run(inputs, record=("events", "hidden"))
    valid = np.arange(9)[:, None] < np.array([9, 6])
    sent = np.asarray(record["events"])[valid]
    assert {-1, 0, 1} == set(sent.ravel().tolist()) and abs(sent.sum()) < np.abs(sent).sum()
    np.testing.assert_array_equal(sent, (np.sign(inputs) * (np.abs(inputs) > 0.3))[valid])
    activity = observe(net, trial, record)
    np.testing.assert_array_equal(activity.spikes["events"], np.abs(sent).sum(axis=0))
    costs = bill(net, activity)
    # Five connections an event; a graded input onto its one unit at each of 15 steps; no dynamics.
    spikes = float(np.asarray(record["hidden"])[valid].sum())
    assert costs.items["hidden"].ac == pytest.approx((5 * np.abs(sent).sum() + 4 * spikes) / 2)
    assert (costs.items["events"].mac, costs.items["events"].update) == (4 * 15 / 2, 0)


@pytest.mark.unchecked
def test_what_is_refused(key):
    with pytest.raises(ex.errors.ArgumentError, match="threshold must be > 0"):
        ex.neurons.Ternary(3, threshold=0.0)
    with pytest.raises(ex.errors.ArgumentError, match="of 0 and 1, or \"identity\", got 'eye'"):
        ex.Masked("a", "b", mask="eye")
    with pytest.raises(ex.errors.NetworkError, match=r"as many units before as after, got \(3, 2\)"):
        ex.Network(
            {"b": ex.neurons.Ternary(3)},
            [ex.Masked("a", "b", mask="identity")],
            inputs={"a": 2},
            outputs="b",
            key=key,
        )
