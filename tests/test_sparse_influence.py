"""SnAp-n: RTRL where all is in reach, and what the paper's recursion keeps where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.testing.rules import example
from test_influence import assert_same, layered, trial

UNITS, STEPS, BATCH = 6, 10, 2


def ring(key):
    """Six units, each heard by the next one alone."""
    mask = np.roll(np.eye(UNITS), 1, axis=0)
    net = ex.Network(
        {"hidden": ex.neurons.Rate(UNITS, tau=3.0), "out": ex.neurons.Relay(2)},
        [
            ex.Dense("input", "hidden", bias=True),
            ex.Masked("hidden", "hidden", mask=mask),
            ex.Dense("hidden", "out"),
        ],
        inputs={"input": 3},
        outputs="out",
        key=key,
    )
    keys = jax.random.split(key, 2)
    inputs = jax.random.normal(keys[0], (STEPS, BATCH, 3))
    return net, ex.Trial(inputs, jax.random.normal(keys[1], (STEPS, BATCH, 2)))


def kept_by_hand(net, given, order):
    """SnAp-n of the ring by the recursion of Menick et al., for a rate unit: M <- mask o (J M + D), all of it dense."""
    w_in, w = (np.asarray(net.projections[n].effective()) for n in ("input->hidden", "hidden->hidden"))
    w_out, leak = np.asarray(net.projections["hidden->out"].weight), 1 / 3.0
    reach = np.eye(UNITS)
    for _ in range(order - 1):
        reach = ((reach + (w != 0) @ reach) > 0) * 1.0
    total, loss = np.zeros((UNITS, UNITS)), 0.0
    for b in range(BATCH):
        h, m = np.zeros(UNITS), np.zeros((UNITS, UNITS, UNITS))  # unit, post, pre
        for t in range(STEPS):
            u = w_in @ np.asarray(given.inputs[t, b]) + w @ h
            slope = leak * (1 - np.tanh(u) ** 2)
            jacobian = (1 - leak) * np.eye(UNITS) + slope[:, None] * w
            m = np.einsum("kl,lij->kij", jacobian, m)
            m[np.arange(UNITS), np.arange(UNITS)] += slope[:, None] * h
            m *= reach[:, :, None]
            h = (1 - leak) * h + leak * np.tanh(u)
            error = w_out @ h - np.asarray(given.targets[t, b])
            loss += 0.5 * error @ error
            total += np.einsum("k,kij->ij", error @ w_out, m)
    return loss, total * (w != 0)


@pytest.mark.x64
@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_it_keeps_what_the_paper_keeps(order, key):
    """Also with lists no longer than they must be; from order 6 on, the whole ring, it is RTRL."""
    net, given = ring(key)
    loss, wanted = kept_by_hand(net, given, order)
    capacity = ex.rules.SnAp.capacity_for(net, order)
    assert capacity == min(order, UNITS)
    exact = ex.rules.RTRL().value_and_grad(net, given)
    for rule in (ex.rules.SnAp(order=order), ex.rules.SnAp(order=order, capacity=capacity)):
        value, gradient = rule.value_and_grad(net, given)
        found = gradient.projections["hidden->hidden"].weight
        scale = float(value) / loss
        np.testing.assert_allclose(found, scale * wanted, atol=1e-12)
        if order == UNITS:
            assert_same((value, gradient), exact)
    if order < UNITS:
        assert float(jnp.abs(found - exact[1].projections["hidden->hidden"].weight).max()) > 1e-9


@pytest.mark.x64
@pytest.mark.parametrize("loss", [None, "cross_entropy_last"])
def test_with_all_in_reach_it_is_rtrl_through_delays_and_layers(loss, key):
    net, given = layered(key), trial(key, loss is not None)
    assert_same(
        ex.rules.SnAp(order=3, loss=loss).value_and_grad(net, given),
        ex.rules.RTRL(loss=loss).value_and_grad(net, given),
    )


@pytest.mark.x64
def test_the_first_order_is_eprop_without_weights_of_units_onto_themselves():
    net, given = example(ex.neurons.Rate(5))
    assert_same(ex.rules.SnAp().value_and_grad(net, given), ex.rules.EProp().value_and_grad(net, given))


@pytest.mark.x64
def test_diagonal_recurrence_is_exact_in_memory_of_one_number_a_synapse(key):
    """Linear recurrent units, whose state is their own only: e-prop's traces are RTRL, and the gradient BPTT's."""
    net, given = example(ex.neurons.LRU(5))
    net = ex.Network(
        dict(net.populations),
        [ex.Dense("input", "hidden", bias=True), ex.Dense("hidden", "readout")],
        inputs=net.inputs,
        outputs="readout",
        key=key,
    )
    wanted = ex.rules.BPTT().value_and_grad(net, given)
    assert_same(ex.rules.EProp(evaluation="online").value_and_grad(net, given), wanted)
    assert_same(ex.rules.SnAp().value_and_grad(net, given), wanted)


def test_what_cannot_be_kept_is_refused_by_name(key):
    net, given = ring(key)
    narrow = ex.rules.SnAp(order=2, capacity=1)
    with pytest.raises(ex.errors.RuleError, match="reaches 2 units of a population in 2 steps, more than capacity = 1"):
        narrow.value_and_grad(net, given)
    assert bool(jnp.isnan(jax.jit(narrow.value_and_grad)(net, given)[1].projections["hidden->hidden"].weight).any())
    with pytest.raises(ex.errors.MemoryBudgetError, match="a lower order, or a capacity"):
        ex.rules.SnAp(order=2, memory_budget=100.0).value_and_grad(net, given)
    with pytest.raises(ex.errors.RuleError, match="'first' leads to no output in 1 step"):
        ex.rules.SnAp().value_and_grad(layered(key), trial(key))
    for bad in ({"order": 0}, {"order": 1.5}, {"capacity": 0}):
        with pytest.raises(ex.errors.ArgumentError, match="SnAp"):
            ex.rules.SnAp(**bad)
