"""BPTT: checkpoints change nothing, truncation cuts exactly at block borders."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import engrax as ex
from engrax import kernels

STEPS, BATCH = 23, 3


def setup(key, delay=2):
    hidden = ex.neurons.ALIF(5, threshold=0.5, beta=0.3, tau=ex.trainable(10.0, positive=True))
    net = ex.Network(
        {"hidden": hidden, "out": ex.neurons.LI(2)},
        [
            ex.Dense("input", "hidden", bias=True),
            ex.Dense("hidden", "hidden", delay=delay),
            ex.Dense("hidden", "out", delay=3),
        ],
        inputs={"input": 4},
        outputs="out",
        key=key,
    )
    inputs = 2 * jax.random.normal(key, (STEPS, BATCH, 4))
    return net, ex.Trial(inputs, jax.random.normal(key, (STEPS, BATCH, 2)))


def _close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jnp.max(jnp.abs(x)) > 0
        assert jnp.max(jnp.abs(x - y)) <= 1e-10 * jnp.max(jnp.abs(x))


@pytest.mark.x64
@pytest.mark.parametrize("checkpoint", [1, 5, True, STEPS])
def test_checkpoints_change_nothing(key, checkpoint):
    net, trial = setup(key)
    rates = ex.losses.FiringRate(50.0, 20.0, running=checkpoint == 5)
    whole = ex.rules.BPTT(regularizers=rates).value_and_grad(net, trial)
    parts = ex.rules.BPTT(checkpoint=checkpoint, regularizers=rates).value_and_grad(net, trial)
    assert abs(float(whole[0] - parts[0])) < 1e-12
    _close(whole[1], parts[1])


@pytest.mark.x64
@pytest.mark.parametrize("truncation", [None, 6])
@pytest.mark.parametrize("events", ["on", pytest.param("off", marks=pytest.mark.nightly)])
def test_a_memory_budget_changes_nothing_but_memory(key, truncation, events, monkeypatch):
    if events == "on" and not kernels.load():
        pytest.skip("installed without a C++ compiler")
    monkeypatch.setenv("ENGRAX_EVENTS", events)
    jax.clear_caches()
    net, trial = setup(key)
    whole = ex.rules.BPTT(truncation=truncation).value_and_grad(net, trial)
    sizes = set()
    for budget in (1e9, 2e4, 1.2e4) if truncation is None else (1e9, 1e4):
        rule = ex.rules.BPTT(memory_budget=budget, truncation=truncation)
        sizes.add(rule._chunk(net, trial))
        found = rule.value_and_grad(net, trial)
        assert abs(float(whole[0] - found[0])) < 1e-12
        _close(whole[1], found[1])
    assert (None in sizes and len(sizes) > 1) if truncation is None else sizes == {truncation}
    with pytest.raises(ex.errors.MemoryBudgetError, match="smaller batch"):
        ex.rules.BPTT(memory_budget=100, truncation=truncation).value_and_grad(net, trial)
    jax.clear_caches()


@pytest.mark.parametrize("budget", [2e6, 1e6])
def test_a_memory_budget_is_kept(key, budget, monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", "off")
    net = ex.Network(
        {"hidden": ex.neurons.ALIF(64, beta=0.3), "out": ex.neurons.LI(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": 1},
        outputs="out",
        key=key,
    )
    trial = ex.Trial(jnp.ones((2000, 8, 1)), jnp.zeros((2000, 8, 2)))

    def temporary(rule):
        compiled = jax.jit(lambda n, t: rule.value_and_grad(n, t)).lower(net, trial).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Beside it: outputs, targets and their gradients, 2000 x 8 x 2 numbers each, and weights.
    assert temporary(ex.rules.BPTT(memory_budget=budget)) < budget + 6 * 2000 * 8 * 2 * 4 + 1e5
    assert temporary(ex.rules.BPTT()) > 4 * budget


@pytest.mark.x64
@pytest.mark.parametrize(("truncation", "checkpoint"), [(5, None), (6, 3), (7, None)])
def test_truncation_cuts_at_block_borders(key, truncation, checkpoint):
    """The same as running block after block with nothing but numbers handed over."""
    net, trial = setup(key)
    moved, fixed = eqx.partition(net, ex.trainable_leaves(net))

    def value(moved):
        whole = eqx.combine(moved, fixed)
        state, total = whole.init_state(BATCH), 0.0
        for start in range(0, STEPS, truncation):
            block = slice(start, start + truncation)
            run = whole.run(trial.inputs[block], jax.lax.stop_gradient(state))
            state, total = run.state, total + jnp.sum(jnp.square(run.outputs - trial.targets[block]))
        return total / trial.targets.size

    loss, wanted = jax.value_and_grad(value)(moved)
    rule = ex.rules.BPTT(truncation=truncation, checkpoint=checkpoint)
    found, gradient = rule.value_and_grad(net, trial)
    assert abs(float(found - loss)) < 1e-12
    _close(wanted, gradient)
    full = ex.rules.BPTT().value_and_grad(net, trial)[1].projections["hidden->hidden"].weight
    assert not jnp.allclose(full, gradient.projections["hidden->hidden"].weight)


@pytest.mark.x64
@pytest.mark.parametrize("checkpoint", [None, 4])
@pytest.mark.parametrize("delays", [(0, 1), (3, 0), (STEPS + 4, 2)])
def test_errors_from_narrow_populations_arrive(key, delays, checkpoint):
    """They are multiplied by the weights inside the loop; the gradient is that of JAX through the run."""
    net = ex.Network(
        {"hidden": ex.neurons.ALIF(17, threshold=0.5, beta=0.3), "out": ex.neurons.LI(2), "more": ex.neurons.LI(1)},
        [
            ex.Dense("input", "hidden"),
            ex.Dense("hidden", "hidden"),
            ex.Dense("hidden", "out", delay=delays[0]),
            ex.Dense("hidden", "more", delay=delays[1]),
            ex.Dense("more", "out", delay=0),
        ],
        inputs={"input": 4},
        outputs="out",
        key=key,
    )
    trial = ex.Trial(2 * jax.random.normal(key, (STEPS, BATCH, 4)), jax.random.normal(key, (STEPS, BATCH, 2)))
    moved, fixed = eqx.partition(net, ex.trainable_leaves(net))

    def value(moved):
        outputs = eqx.combine(moved, fixed).run(trial.inputs).outputs
        return jnp.mean(jnp.square(outputs - trial.targets))

    loss, wanted = jax.value_and_grad(value)(moved)
    found, gradient = ex.rules.BPTT(checkpoint=checkpoint).value_and_grad(net, trial)
    assert abs(float(found - loss)) < 1e-12
    for x, y in zip(jax.tree.leaves(wanted), jax.tree.leaves(gradient), strict=True):
        assert jnp.max(jnp.abs(x - y)) <= 1e-10 * jnp.max(jnp.abs(x))


def test_truncation_must_hold_whole_checkpoints():
    with pytest.raises(ex.errors.ArgumentError, match="multiple"):
        ex.rules.BPTT(truncation=10, checkpoint=3)
