"""Projections in reversed time: what a network computes with them, its gradients, and who refuses them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.errors import ArgumentError, NetworkError, RuleError
from engrax.testing.reference import finite_differences, reference_gradient

STEPS, BATCH, INPUTS, OUTPUTS = 18, 3, 5, 2
MODELS = {
    "LIF": lambda size: ex.neurons.LIF(size, refractory=2.0),
    "ALIF": lambda size: ex.neurons.ALIF(size, tau_adaptation=40.0, beta=0.3),
    "Rate": lambda size: ex.neurons.Rate(size),
    "LSTM": lambda size: ex.neurons.LSTM(size),
}


def some(*daily):
    """All models, those not named at night only."""
    return [pytest.param(name, marks=() if name in daily else pytest.mark.nightly) for name in MODELS]


def network(make, key):
    """One layer in each direction of time, a second one behind that reads the first's past as its future."""
    populations = {"ahead": make(6), "behind": make(7), "second": make(4), "readout": ex.neurons.LI(OUTPUTS, tau=6.0)}
    projections = [
        ex.Dense("input", "ahead"),
        ex.Dense("input", "behind", reverse=True, bias=True),
        ex.Dense("ahead", "ahead", autapses=False),
        ex.Dense("behind", "behind", autapses=False),
        ex.Dense("behind", "second", reverse=True),
        ex.Dense("second", "second"),
        ex.Dense("ahead", "readout"),
        ex.Dense("behind", "readout", reverse=True),
        ex.Dense("second", "readout", delay=2),
    ]
    return ex.Network(populations, projections, inputs={"input": INPUTS}, outputs="readout", key=key)


def trial_of(key):
    inputs = 3 * jax.random.normal(key, (STEPS, BATCH, INPUTS))
    targets = jax.random.normal(jax.random.fold_in(key, 1), (STEPS, BATCH, OUTPUTS))
    return ex.Trial(inputs, targets, lengths=jnp.array([STEPS, STEPS - 4, STEPS - 8]))


def alone(net, ends, inputs, names):
    """Some populations of a network as one of its own: projections by their source there."""
    made = []
    for p, source in ends:
        bias = False if p.bias is None else p.bias
        made.append(ex.Dense(source, p.target, weight=p.effective(), bias=bias, delay=p.delay))
    sizes = {name: x.shape[-1] for name, x in inputs.items()}
    found = ex.Network({n: net.populations[n] for n in names}, made, inputs=sizes, outputs={n: n for n in names})
    return found.run(inputs).outputs[names[0]]


@pytest.mark.x64
@pytest.mark.parametrize("model", some("Rate"))
def test_it_is_its_parts_run_one_after_the_other(model, key):
    """Every part forwards in time, on a sequence that was turned by hand."""
    net, x = network(MODELS[model], key), trial_of(key).inputs
    p = net.projections
    ahead = alone(net, [(p["input->ahead"], "x"), (p["ahead->ahead"], "ahead")], {"x": x}, ["ahead"])
    ends = [(p["input->behind"], "x"), (p["behind->behind"], "behind")]
    behind = alone(net, ends, {"x": x[::-1]}, ["behind"])
    ends = [(p["behind->second"], "x"), (p["second->second"], "second")]
    second = alone(net, ends, {"x": behind[::-1]}, ["second"])
    ends = [(p["ahead->readout"], "a"), (p["behind->readout"], "b"), (p["second->readout"], "s")]
    wanted = alone(net, ends, {"a": ahead, "b": behind[::-1], "s": second}, ["readout"])
    record = net.run(x, record=("behind", "second"))
    np.testing.assert_allclose(record["behind"], behind, atol=1e-12)
    np.testing.assert_allclose(record["second"], second, atol=1e-12)
    np.testing.assert_allclose(record.outputs, wanted, atol=1e-12)
    assert float(jnp.std(record["behind"])) > 1e-3


def same(found, wanted, tolerance=1e-9):
    for name, p in wanted.projections.items():
        mine = found.projections[name]
        for a, b in ((mine.weight, p.weight), (mine.bias, p.bias)):
            if b is not None:
                error = float(jnp.linalg.norm(a - b))
                assert error <= tolerance * float(jnp.linalg.norm(b)), (name, error)
                assert float(jnp.linalg.norm(b)) > 1e-6, name


@pytest.mark.x64
@pytest.mark.parametrize("model", some("ALIF"))
def test_bptt_is_reverse_mode_through_everything(model, key):
    net, trial = network(MODELS[model], key), trial_of(key)
    rule = ex.rules.BPTT(regularizers=[] if model in ("Rate", "LSTM") else [ex.losses.FiringRate(0.1)])
    loss, found = rule.value_and_grad(net, trial)
    value, wanted = reference_gradient(rule, net, trial, False)
    assert float(loss) == pytest.approx(float(value), rel=1e-12)
    same(found, wanted)


@pytest.mark.nightly
@pytest.mark.x64
def test_bptt_against_finite_differences(key):
    net, trial = network(MODELS["Rate"], key), trial_of(key)
    _, found = ex.rules.BPTT().value_and_grad(net, trial)
    for name in ("input->behind", "behind->behind", "behind->second", "behind->readout"):
        projection = net.projections[name]

        def value(weight, name=name, projection=projection):
            moved = type(net.projections)({**net.projections, name: projection.replace(weight=weight)})
            return ex.rules.BPTT().value_and_grad(net.replace(projections=moved), trial)[0]

        wanted = finite_differences(value, projection.weight)
        free = np.asarray(projection.links())
        np.testing.assert_allclose(np.asarray(found.projections[name].weight)[free], wanted[free], atol=1e-8)


DAILY = {("LIF", "random"), ("ALIF", "adaptive"), ("Rate", "symmetric")}


@pytest.mark.x64
@pytest.mark.parametrize(
    ("model", "feedback"),
    [
        pytest.param(*case, marks=() if case in DAILY else pytest.mark.nightly)
        for case in itertools.product(MODELS, ("symmetric", "random", "adaptive", "uniform"))
    ],
)
def test_eprop_cuts_what_it_cuts_in_either_direction(model, feedback, key):
    net, trial = network(MODELS[model], key), trial_of(key)
    rule = ex.rules.EProp(feedback=feedback)
    bound = rule.bind(net, key)
    _, found = rule.value_and_grad(bound, trial)
    same(found, reference_gradient(rule, bound, trial, True)[1])


@pytest.mark.x64
@pytest.mark.parametrize("turn", [True, False])
def test_broadcast_without_a_direct_projection_comes_in_the_learners_own_time(turn, key):
    """Where a learner reaches the readout through another one, its direction is that of the way there."""
    make = MODELS["LIF"]
    populations = {"first": make(6), "second": make(5), "readout": ex.neurons.LI(OUTPUTS, tau=6.0)}
    ends = [("input", "first", False), ("first", "second", True), ("second", "readout", turn)]
    chain = [ex.Dense(a, b, reverse=reverse) for a, b, reverse in ends]
    net = ex.Network(populations, chain, inputs={"input": INPUTS}, outputs="readout", key=key)
    rule = ex.rules.EProp(feedback="random")
    bound, trial = rule.bind(net, key), trial_of(key)
    nothing = ex.Dense("first", "readout", weight=jnp.zeros((OUTPUTS, 6)), reverse=not turn)
    wider = ex.Network(populations, [*chain, nothing], inputs={"input": INPUTS}, outputs="readout", key=key)
    kept = {name: net.projections.get(name, p) for name, p in wider.projections.items()}
    wider = wider.replace(feedback=bound.feedback, projections=type(net.projections)(kept))
    wanted = reference_gradient(rule, wider, trial, True)[1].projections["input->first"].weight
    found = rule.value_and_grad(bound, trial)[1].projections["input->first"].weight
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert float(jnp.linalg.norm(found)) > 1e-3


@pytest.mark.nightly
def test_events_are_turned_as_rasters_are(key):
    net = network(MODELS["LIF"], key)
    raster = (jax.random.uniform(key, (STEPS, BATCH, INPUTS)) < 0.4).astype(jnp.float32)
    trial = trial_of(key).replace(inputs=raster)
    rule = ex.rules.BPTT()
    np.testing.assert_allclose(net.run(ex.Events.of(raster)).outputs, net.run(raster).outputs, atol=1e-6)
    (a, found), (b, wanted) = (rule.value_and_grad(net, t) for t in (trial.replace(inputs=ex.Events.of(raster)), trial))
    assert float(a) == pytest.approx(float(b), rel=1e-5)
    same(found, wanted, 1e-4)


@pytest.mark.nightly
def test_who_cannot_take_it_says_so(key):
    net, trial = network(MODELS["LIF"], key), trial_of(key)
    for evaluation in ("online", "chunked"):
        with pytest.raises(RuleError, match=r"input->behind.*reversed time.*offline"):
            ex.rules.EProp(evaluation=evaluation).value_and_grad(net, trial)
    with pytest.raises(RuleError, match="reversed time"):
        ex.rules.EProp().init(net, 2)
    for options in ({"checkpoint": 6}, {"truncation": 6}):
        with pytest.raises(RuleError, match=r"input->behind.*leave out"):
            ex.rules.BPTT(**options).value_and_grad(net, trial)
    with pytest.raises(ArgumentError, match="from its end"):
        net.run(trial.inputs, net.init_state(BATCH))
    with pytest.raises(ArgumentError, match="from its end"):
        net.step(net.init_state(BATCH), trial.inputs[0])
    ends = {"hidden": MODELS["LIF"](4), "readout": ex.neurons.LI(OUTPUTS)}
    with pytest.raises(NetworkError, match=r"hidden->hidden.*loop"):
        ex.Network(ends, [ex.Dense("hidden", "hidden", reverse=True)], inputs={"x": 2}, outputs="readout", key=key)
    with pytest.raises(NetworkError, match="not both"):
        ex.Network(ends, [ex.Dense("x", "hidden", reverse=True, delay=1)], inputs={"x": 2}, outputs="readout", key=key)
    both = [ex.Dense("x", "hidden"), ex.Dense("hidden", "readout")]
    both += [ex.Dense("hidden", "readout", reverse=True, name="again")]
    mixed = ex.Network(ends, both, inputs={"x": INPUTS}, outputs="readout", key=key)
    with pytest.raises(RuleError, match="both in reversed time"):
        ex.rules.EProp(feedback="random").value_and_grad(mixed, trial)
    assert "reversed time" in net.summary()
