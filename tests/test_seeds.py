"""Many seeds in one program: each of them is the run that it would be alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.training.block import one_of
from engrax.training.seeds import over_seeds

SEEDS = 3


def parts():
    task = ex.tasks.get("digits", hold=2)
    populations = {"hidden": ex.neurons.LIF(12, threshold=0.3), "readout": ex.neurons.LI(task.output_size)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
    inputs = {"input": task.input_size}
    return ex.Network(populations, projections, inputs=inputs, outputs="readout", key=jax.random.key(1)), task


@pytest.mark.nightly
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="on an accelerator seeds are vmapped: sums in another order")
@pytest.mark.nightly
def test_a_seed_has_the_same_bits_in_any_company():
    net, task = parts()

    def fit(seeds):
        rule = ex.rules.EProp(feedback="random")
        return ex.fit(net, task, rule, optax.adam(1e-2), 12, seeds=seeds, validate_every=6, batch=8, progress=False)

    together = fit(SEEDS)
    for i in range(SEEDS):
        alone = fit([i])
        np.testing.assert_array_equal(alone.losses, together.losses[i : i + 1])
        np.testing.assert_array_equal(alone.test["accuracy"], together.test["accuracy"][i : i + 1])
        assert eqx.tree_equal(alone.network, one_of(together.networks, i, True))


@pytest.mark.x64
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_over_seeds_is_a_loop_over_seeds(backend, key, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    net, task = parts()
    nets = [net.initialize(k) for k in jax.random.split(key, SEEDS)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *nets)
    trial = task.sample(key, 4)

    @eqx.filter_jit
    def gradients(nets, scales):
        return over_seeds(lambda net, scale: (ex.rules.BPTT().value_and_grad(net, trial)[1], 2 * scale), nets, scales)

    found, doubled = gradients(stacked, jnp.arange(SEEDS))
    np.testing.assert_array_equal(doubled, 2 * np.arange(SEEDS))
    for i, one in enumerate(nets):
        own = ex.rules.BPTT().value_and_grad(one, trial)[1]
        pairs = zip(jax.tree.leaves(one_of(found, i, True)), jax.tree.leaves(own), strict=True)
        for mine, theirs in pairs:
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
