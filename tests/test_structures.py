"""e-prop on networks of other shapes than one hidden population: every feedback, against the yardstick.

The yardstick cuts recurrent paths in a plain simulation and lets JAX differentiate (`engrax.testing.reference`).
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.testing.reference import reference_gradient

STEPS, BATCH, INPUTS, OUTPUTS = 20, 3, 6, 2
KEY = jax.random.key(0)
FEEDBACK = ("symmetric", "random", "adaptive", "uniform", "shuffled")
MODELS = {
    "LIF": lambda size: ex.neurons.LIF(size, refractory=2.0),
    "ALIF": lambda size: ex.neurons.ALIF(size, tau_adaptation=40.0, beta=0.3, refractory=3.0),
    "simplified ALIF": lambda size: ex.neurons.ALIF(size, tau_adaptation=40.0, beta=0.3, trace="simplified"),
    "CuBaLIF": lambda size: ex.neurons.CuBaLIF(size, tau=10.0, tau_synapse=3.0),
    "Rate": lambda size: ex.neurons.Rate(size),
    "LSTM": lambda size: ex.neurons.LSTM(size),
}


def delayed(make, key):
    """Three steps of delay, of inputs too."""
    populations = {"hidden": make(8), "readout": ex.neurons.LI(OUTPUTS, tau=6.0)}
    projections = [
        ex.Dense("input", "hidden", delay=3),
        ex.Dense("hidden", "hidden", autapses=False, delay=3),
        ex.Dense("hidden", "readout"),
    ]
    return populations, projections, "readout"


def stacked(make, key):
    """Two recurrent layers, each with a readout of its own."""
    populations = {"first": make(7), "second": make(5)}
    populations |= {"near": ex.neurons.LI(OUTPUTS, tau=6.0), "far": ex.neurons.LI(OUTPUTS, tau=6.0)}
    ends = [("input", "first"), ("first", "first"), ("first", "second"), ("second", "second")]
    ends += [("first", "near"), ("second", "far")]
    # Strong enough for the second layer to be active in every model.
    strong = {"name": "fan_in_normal", "scale": 3.0}
    made = [ex.Dense(a, b, bias=a == "input", init=strong if a == "first" else "fan_in_normal") for a, b in ends]
    return populations, made, {"near": "near", "far": "far"}


def shared(make, key):
    """Two populations with time constants of their own that drive each other, and one readout for both."""
    populations = {"fast": ex.neurons.LIF(6, tau=5.0), "slow": make(5), "readout": ex.neurons.LI(OUTPUTS, tau=6.0)}
    ends = [("input", "fast"), ("input", "slow"), ("fast", "slow"), ("slow", "fast"), ("fast", "fast")]
    ends += [("fast", "readout"), ("slow", "readout")]
    return populations, [ex.Dense(a, b, delay=1 if (a, b) == ("slow", "fast") else None) for a, b in ends], "readout"


def signed(make, key):
    """Excitatory and inhibitory units."""
    populations = {"hidden": make(8), "readout": ex.neurons.LI(OUTPUTS, tau=6.0)}
    ends = [("input", "hidden"), ("hidden", "hidden"), ("hidden", "readout")]
    return populations, [ex.Signed(a, b, excitatory=0.75, autapses=a != b) for a, b in ends], "readout"


def rewired(make, key):
    """A third of all connections."""
    populations = {"hidden": make(8), "readout": ex.neurons.LI(OUTPUTS, tau=6.0)}
    ends = [("input", "hidden"), ("hidden", "hidden"), ("hidden", "readout")]
    return populations, [ex.Rewired(a, b, density=0.34, autapses=a != b) for a, b in ends], "readout"


SHAPES = {f.__name__: f for f in (delayed, stacked, shared, signed, rewired)}
# A few by day, all at night.
DAILY = {("stacked", "LIF", "adaptive"), ("rewired", "simplified ALIF", "random")}
CASES = [
    pytest.param(*case, id=" ".join(case), marks=() if case in DAILY else pytest.mark.nightly)
    for case in itertools.product(SHAPES, MODELS, FEEDBACK)
]


def network(shape, model, key):
    """An active network of a shape and model, with a trial of unequal lengths."""
    populations, projections, outputs = SHAPES[shape](MODELS[model], key)
    keys = jax.random.split(key, 3)
    net = ex.Network(populations, projections, inputs={"input": INPUTS}, outputs=outputs, key=keys[0])
    inputs = 3 * jax.random.normal(keys[1], (STEPS, BATCH, INPUTS))
    labels = list(outputs) if isinstance(outputs, dict) else [None]
    drawn = {o: jax.random.normal(jax.random.fold_in(keys[2], i), (STEPS, BATCH, 2)) for i, o in enumerate(labels)}
    targets = drawn if isinstance(outputs, dict) else drawn[None]
    hidden = [n for n in net.populations if not isinstance(net.populations[n], ex.neurons.LI)]
    for name, x in net.run(inputs, record=tuple(hidden)).recorded.items():
        assert (0.02 < float(x.mean()) < 0.9) if net.populations[name].spiking else float(x.std()) > 1e-3, name
    return net, ex.Trial(inputs, targets, lengths=jnp.array([STEPS, STEPS - 4, STEPS - 8]))


def broadcast(net):
    """The network with projections of zeros wherever feedback has none to answer: errors go there all the same."""
    there = {(p.post, p.pre) for p in net.projections.values()}
    missing = [tuple(name.split("->")) for name in net.feedback if tuple(name.split("->")) not in there]
    sizes = {n: p.size for n, p in net.populations.items()}
    more = [ex.Dense(b, a, weight=jnp.zeros((sizes[a], sizes[b]))) for a, b in missing]
    labels = {o.label: o.population for o in net.output_specs}
    outputs = net.output_specs[0].population if net.single_output else labels
    projections = [*net.projections.values(), *more]
    wider = ex.Network(dict(net.populations), projections, inputs={"input": INPUTS}, outputs=outputs, key=KEY)
    kept = {name: net.projections.get(name, p) for name, p in wider.projections.items()}
    return wider.replace(feedback=net.feedback, projections=type(net.projections)(kept))


def close(found, wanted, tolerance):
    a, b = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (found, wanted))
    assert a.keys() == b.keys()
    for path, x in a.items():
        error = float(jnp.linalg.norm(x - b[path]))
        assert error <= tolerance * float(jnp.linalg.norm(b[path])) + 1e-14, (jax.tree_util.keystr(path), error)


@pytest.mark.x64
@pytest.mark.parametrize(("shape", "model", "feedback"), CASES)
def test_every_feedback_on_every_shape(shape, model, feedback, key):
    net, trial = network(shape, model, key)
    rule = ex.rules.EProp(feedback=feedback)
    bound = rule.bind(net, key)
    _, found = rule.value_and_grad(bound, trial, key)
    plain = {name: p.weight for name, p in found.projections.items()}
    assert all(float(jnp.linalg.norm(g)) > 1e-6 for g in plain.values())
    if feedback != "shuffled":
        _, wanted = reference_gradient(rule, broadcast(bound), trial, True)
        close(plain, {name: wanted.projections[name].weight for name in plain}, 1e-9)
    for evaluation in ("online", "chunked"):
        other = dataclasses.replace(rule, evaluation=evaluation, chunk=7)
        close(other.value_and_grad(bound, trial, key)[1], found, 1e-10)


@pytest.mark.x64
def test_a_layer_learns_from_its_own_readout_alone(key):
    """In a stack nothing comes from the layer above: where its own readout errs in nothing, the first layer rests."""
    net, trial = network("stacked", "LIF", key)
    targets = {"far": trial.targets["far"], "near": net.run(trial.inputs).outputs["near"]}
    _, grads = ex.rules.EProp().value_and_grad(net, trial.replace(targets=targets))
    assert float(jnp.linalg.norm(grads.projections["second->second"].weight)) > 1e-6
    for name in ("first->first", "input->first"):
        np.testing.assert_allclose(grads.projections[name].weight, 0, atol=1e-14)
