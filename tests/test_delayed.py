"""Delays that learn: against loops made by hand, the yardstick and finite differences; bounds, annealing, refusals."""

import dataclasses
import itertools
import json
import pathlib

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.analysis import eligibility_traces, escape
from engrax.errors import ArgumentError, NetworkError, RecipeError, RuleError
from engrax.meter import bill, observe
from engrax.network import trainable_leaves
from engrax.network.engine import forward
from engrax.testing.reference import finite_differences, reference_gradient
from engrax.training import recipe as recipes
from engrax.training.block import train_step
from engrax.training.build import build
from engrax.training.store import read_arrays, write_arrays

STEPS, BATCH, INPUTS, OUTPUTS = 11, 2, 3, 2
KINDS = {"synapses": ex.Delayed, "axons": ex.AxonDelayed}
MODELS = {
    "Rate": lambda size: ex.neurons.Rate(size, tau=3.0),
    "LIF": lambda size: ex.neurons.LIF(size, tau=8.0, threshold=0.5, refractory=2.0),
    "ALIF": lambda size: ex.neurons.ALIF(size, tau=8.0, threshold=0.5, beta=0.3),
    "LSTM": ex.neurons.LSTM,
}


def network(model="Rate", kind="synapses", onto="dense", key=None):
    """Delays that learn from the input and within; an ordinary projection beside them, and one or the other onwards."""
    made = KINDS[kind]
    projections = [
        made("input", "hidden", max_delay=4, sigma=1.2, bias=True),
        made("hidden", "hidden", max_delay=3, sigma=0.8, autapses=False),
        ex.Dense("input", "hidden", delay=2, name="beside"),
        made("hidden", "readout", max_delay=2, bias=True) if onto == "delays" else ex.Dense("hidden", "readout"),
    ]
    populations = {"hidden": MODELS[model](4), "readout": ex.neurons.LI(OUTPUTS, tau=5.0)}
    ends = {"inputs": {"input": INPUTS}, "outputs": "readout"}
    net = ex.Network(populations, projections, **ends, key=jax.random.key(3) if key is None else key)
    return eqx.tree_at(lambda n: n.projections["input->hidden"].weight, net, replace_fn=lambda w: 2 * w)


def trial_of(dtype=None):
    draw = np.random.default_rng(1)
    inputs = jnp.asarray(2 * draw.standard_normal((STEPS, BATCH, INPUTS)), dtype)
    targets = jnp.asarray(draw.standard_normal((STEPS, BATCH, OUTPUTS)), dtype)
    return ex.Trial(inputs, targets, lengths=jnp.array([STEPS, STEPS - 3]))


def same(found, wanted, tolerance):
    """Gradients of all that trains agree, and none is zero."""
    a, b = (dict(jax.tree_util.tree_leaves_with_path(x.projections)) for x in (found, wanted))
    assert a.keys() == b.keys() and any("delays" in jax.tree_util.keystr(path) for path in a)
    for path, x in a.items():
        error, size = float(jnp.linalg.norm(x - b[path])), float(jnp.linalg.norm(b[path]))
        assert error <= tolerance * size and size > 1e-6, (jax.tree_util.keystr(path), error, size)


def by_hand(p, x):
    """What a projection makes of (time, pre), number by number."""
    weight, delays, sigma = (np.asarray(a, np.float64) for a in (p.weight, p.delays, p.sigma))
    least, current = p.delay or 0, np.zeros((len(x), len(weight)))
    for j, i in np.ndindex(weight.shape):
        d = delays[j, i] if delays.ndim == 2 else delays[i]
        shares = {k: np.exp(-((k - d) ** 2) / (2 * sigma**2)) for k in range(least, p.max_delay + 1)}
        for t, k in itertools.product(range(len(x)), shares):
            if t >= k:
                current[t, j] += weight[j, i] * shares[k] / sum(shares.values()) * x[t - k, i]
    return current


@pytest.mark.x64
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [0, 2])
def test_it_is_the_sum_over_taps(kind, delay, key):
    """A whole sequence and single steps, and the way back of errors."""
    p = KINDS[kind]("a", "b", max_delay=5, sigma=0.9, delay=delay).build(key, (4, 3), jnp.zeros(()).dtype)
    x = np.random.default_rng(0).standard_normal((STEPS, 3))
    late = jnp.asarray(np.concatenate([np.zeros((5, 3)), x]))[: p.reach + STEPS, None]
    late = late if not delay else jnp.asarray(np.concatenate([np.zeros((5, 3)), x[:-delay]]))[:, None]
    fan, weight = p.fan_out(p.effective()), p.effective()
    found = p.drive(fan, late)
    np.testing.assert_allclose(found[:, 0], by_hand(p, x), atol=1e-13)
    steps = [p.drive(fan, late[t : t + p.reach + 1])[0] for t in range(STEPS)]
    np.testing.assert_allclose(jnp.stack(steps), found, atol=1e-13)
    wanted = jax.vjp(lambda x: p.drive(fan, x), late)[1](found)[0]
    np.testing.assert_allclose(p.transpose(weight, found), wanted, atol=1e-13)
    one = jax.vjp(lambda x: p.drive(fan, x), late[: p.reach + 1])[1](found[:1])[0]
    np.testing.assert_allclose(p.transpose(weight, found[:1]), one, atol=1e-13)
    slopes = jax.vjp(lambda w: p.drive(p.fan_out(w), late), weight)[1](found)[0]
    for a, b in zip(jax.tree.leaves(p.gradient(found, late)), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


BPTT_CASES = [
    pytest.param(*c, marks=() if c in {("Rate", "axons", 2), ("LIF", "synapses", None)} else pytest.mark.nightly)
    for c in itertools.product(MODELS, KINDS, (None, 2))
]


@pytest.mark.x64
@pytest.mark.parametrize(("model", "kind", "checkpoint"), BPTT_CASES)
def test_bptt_is_the_yardstick(model, kind, checkpoint):
    """Also in chunks that are shorter than a delay."""
    net, trial = network(model, kind, "delays"), trial_of()
    loss, found = ex.rules.BPTT(checkpoint=checkpoint).value_and_grad(net, trial)
    value, wanted = reference_gradient(ex.rules.BPTT(), net, trial, False)
    assert float(loss) == pytest.approx(float(value), rel=1e-12)
    same(found, wanted, 1e-10)


@pytest.mark.x64
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_of_delays_are_finite_differences(kind):
    net, trial = network("Rate", kind), trial_of()
    _, found = ex.rules.BPTT().value_and_grad(net, trial)
    moved = lambda n: [n.projections[name].delays for name in ("input->hidden", "hidden->hidden")]
    whole, apart = jax.flatten_util.ravel_pytree(moved(net))

    def value(delays):
        error = eqx.tree_at(moved, net, apart(delays)).run(trial.inputs).outputs - trial.targets
        return jnp.sum(trial.valid()[..., None] * error**2) / jnp.sum(trial.valid()) / OUTPUTS

    for a, b in zip(moved(found), apart(finite_differences(value, whole)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
        assert float(jnp.linalg.norm(b)) > 5e-4


EPROP_CASES = [
    pytest.param(*c, marks=() if c == ("ALIF", "synapses") else pytest.mark.nightly)
    for c in itertools.product(MODELS, KINDS)
]


@pytest.mark.x64
@pytest.mark.parametrize(("model", "kind"), EPROP_CASES)
def test_eprop_is_local_in_all_three_evaluations(model, kind):
    net, trial = network(model, kind), trial_of()
    rule = ex.rules.EProp(regularizers=[ex.losses.FiringRate(0.1)] if model in ("LIF", "ALIF") else [])
    loss, found = rule.value_and_grad(net, trial)
    value, wanted = reference_gradient(rule, net, trial, True)
    assert float(loss) == pytest.approx(float(value), rel=1e-12)
    same(found, wanted, 1e-10)
    full = ex.rules.BPTT().value_and_grad(net, trial)[1].projections["hidden->hidden"].delays
    assert float(jnp.linalg.norm(full - found.projections["hidden->hidden"].delays)) > 1e-5
    for evaluation in ("online", "chunked"):
        other = dataclasses.replace(rule, evaluation=evaluation, chunk=4)
        same(other.value_and_grad(net, trial)[1], found, 1e-10)


@pytest.mark.x64
@pytest.mark.parametrize("feedback", ["random", pytest.param("symmetric", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("kind", KINDS)
def test_delays_onto_a_readout_carry_errors_offline(kind, feedback, key):
    net, trial = network("LIF", kind, "delays"), trial_of()
    rule = ex.rules.EProp(feedback=feedback)
    bound = rule.bind(net, key)
    _, found = rule.value_and_grad(bound, trial)
    same(found, reference_gradient(rule, bound, trial, True)[1], 1e-10)


def test_what_cannot_be_done_is_refused_by_name(key):
    net, trial = network("LIF", onto="delays"), trial_of(jnp.float32)
    for evaluation in ("online", "chunked"):
        with pytest.raises(RuleError, match=r"'hidden->readout' onto a readout carries errors back through delays"):
            ex.rules.EProp(evaluation=evaluation).value_and_grad(net, trial)
    with pytest.raises(RuleError, match="cannot follow the learned delays of 'hidden->readout'"):
        ex.rules.EProp(feedback="adaptive").bind(net, key)
    with pytest.raises(RuleError, match="cannot deal out the learned delays of 'hidden->readout'"):
        ex.rules.EProp(feedback="shuffled").value_and_grad(net, trial, key)
    with pytest.raises(RuleError, match=r"'input->hidden' learns delays.*not counted"):
        ex.meter.learning(network("LIF"), trial, ex.rules.EProp())


def fixed_and_learned(model, kind, key):
    """A network with `delay=`, and one that has learned the same whole delays."""
    own = {"input->hidden": 3, "hidden->hidden": 2}
    net = network(model, kind)
    fixed, learned = [], []
    for name, p in net.projections.items():
        ends = {"weight": p.weight, "bias": False if p.bias is None else p.bias, "name": name}
        fixed.append(ex.Dense(p.pre, p.target, delay=own.get(name, p.delay), **ends))
        late = {"max_delay": 4, "delays": own[name]} if name in own else {}
        learned.append(KINDS[kind](p.pre, p.target, **late, **ends) if late else fixed[-1])
    ends = {"inputs": {"input": INPUTS}, "outputs": "readout", "key": key}
    made = [ex.Network(dict(net.populations), projections, **ends) for projections in (fixed, learned)]
    return made[0], made[1].round()


@pytest.mark.x64
@pytest.mark.parametrize("kind", KINDS)
def test_whole_delays_and_a_narrow_tap_are_a_fixed_delay(kind, key):
    """Exactly, in every state, and the gradient by weights with it; also from a state in the middle."""
    a, b = fixed_and_learned("LIF", kind, key)
    trial = trial_of()
    wanted = a.run(trial.inputs, record=("hidden",))
    found = b.run(trial.inputs, record=("hidden",))
    assert 0.05 < float(wanted["hidden"].mean()) < 0.9
    np.testing.assert_array_equal(found["hidden"], wanted["hidden"])
    np.testing.assert_allclose(found.outputs, wanted.outputs, atol=1e-14)
    half = b.run(trial.inputs[:6])
    np.testing.assert_allclose(b.run(trial.inputs[6:], half.state).outputs, wanted.outputs[6:], atol=1e-14)
    state, outputs = b.init_state(BATCH), []
    for x in trial.inputs:
        state, y = b.step(state, x)
        outputs.append(y)
    np.testing.assert_allclose(jnp.stack(outputs), wanted.outputs, atol=1e-14)
    (_, g), (_, h) = (ex.rules.BPTT().value_and_grad(n, trial) for n in (a, b))
    for name in a.projections:
        np.testing.assert_allclose(h.projections[name].weight, g.projections[name].weight, atol=1e-13)
    assert float(jnp.linalg.norm(g.projections["hidden->hidden"].weight)) > 1e-6


@pytest.mark.x64
@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["axons", "synapses"])
def test_analysis_sees_whole_delays_as_fixed_ones(kind, key):
    """Traces onto four ports, and gradients under escape noise by the same draws."""
    trial = trial_of()
    wanted, found = (eligibility_traces(n, trial, "input->hidden", 1) for n in fixed_and_learned("LSTM", kind, key))
    np.testing.assert_allclose(found, wanted, atol=1e-13)
    assert wanted.shape == (STEPS, BATCH, 4, 4) and float(jnp.linalg.norm(wanted)) > 1e-3
    grads = [escape._group(n, trial, ex.rules.BPTT(), key, 1.0) for n in fixed_and_learned("ALIF", kind, key)]
    for name, p in grads[0].projections.items():
        np.testing.assert_allclose(grads[1].projections[name].weight, p.weight, atol=1e-12)
        assert float(jnp.linalg.norm(p.weight)) > 1e-3


@pytest.mark.x64
def test_a_stream_gives_the_gradient_of_the_trial():
    net, trial = network("LIF"), trial_of().replace(lengths=None)
    rule = ex.rules.EProp()
    state, total = rule.init(net, BATCH), None
    for x, y in zip(trial.inputs, trial.targets, strict=True):
        state, _, grads = rule.update(net, state, x, y)
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    wanted = rule.value_and_grad(net, trial)[1]
    same(jax.tree.map(lambda g: g / STEPS, total), wanted, 1e-10)


def test_rounded_delays_are_whole_and_near(key):
    net = network("LIF", key=key)
    put = net.round()
    for name in ("input->hidden", "hidden->hidden"):
        p, q = net.projections[name], put.projections[name]
        np.testing.assert_array_equal(q.delays, np.round(np.asarray(p.delays)))
        taps = np.asarray(q.effective())
        assert np.count_nonzero(taps, axis=0).max() == 1 and np.count_nonzero(p.effective(), axis=0).max() > 1
        np.testing.assert_array_equal(taps.sum(axis=0), q.synapses())
    assert put.projections["beside"] is net.projections["beside"]
    # Later updates keep the taps as they are.
    assert float(put.constrain(key).projections["input->hidden"].sigma) == float(put.projections["input->hidden"].sigma)


@pytest.mark.x64
@pytest.mark.parametrize("kind", KINDS)
def test_events_are_rasters(kind):
    net, trial = network("LIF", kind), trial_of()
    raster = trial.replace(inputs=jnp.asarray(np.abs(np.asarray(trial.inputs)) > 1.5, net.dtype))
    events = raster.replace(inputs=ex.Events.of(raster.inputs))
    np.testing.assert_allclose(net.run(events.inputs).outputs, net.run(raster.inputs).outputs, atol=1e-12)
    (_, found), (_, wanted) = (ex.rules.BPTT().value_and_grad(net, t) for t in (events, raster))
    same(found, wanted, 1e-10)


@pytest.mark.nightly
@pytest.mark.x64
@pytest.mark.parametrize("kind", KINDS)
def test_eligibility_traces_see_each_synapse_with_its_delay(kind):
    """Summed with the errors of the units that send on, they are e-prop's gradient by the weights."""
    net, trial = network("LIF", kind), trial_of()
    trial = trial.replace(lengths=None)
    found = jnp.stack([eligibility_traces(net, trial, "input->hidden", i) for i in range(INPUTS)], axis=-1)
    rule = ex.rules.EProp()
    errors = jax.grad(lambda y: jnp.mean(jnp.sum((y - trial.targets) ** 2, axis=-1)) / OUTPUTS)(
        net.run(trial.inputs).outputs
    )
    keep = jnp.exp(-net.dt / net.populations["readout"].tau)

    def back(later, error):
        later = error + keep * later
        return later, later

    _, felt = jax.lax.scan(back, jnp.zeros_like(errors[0]), errors, reverse=True)
    signal = (1 - keep) * felt @ net.projections["hidden->readout"].weight
    wanted = rule.value_and_grad(net, trial)[1].projections["input->hidden"].weight
    np.testing.assert_allclose(jnp.einsum("tbj,tbji->ji", signal, found), wanted, atol=1e-12)
    assert float(jnp.linalg.norm(wanted)) > 1e-6


def test_updates_keep_delays_within_bounds_and_narrow_the_taps(key):
    annealed = {"max_delay": 6, "sigma": 0.5, "anneal": 8}
    projections = [ex.Delayed("input", "hidden", **annealed), ex.AxonDelayed("hidden", "hidden", **annealed)]
    projections += [ex.Dense("hidden", "readout")]
    populations = {"hidden": ex.neurons.LIF(4), "readout": ex.neurons.LI(OUTPUTS)}
    net = ex.Network(populations, projections, inputs={"input": INPUTS}, outputs="readout", key=key)
    first = {"input->hidden": 0.0, "hidden->hidden": 1.0}
    widths = []
    for i in range(11):
        widths.append([float(net.projections[name].sigma) for name in first])
        moved = {n: p.replace(delays=1e4 * (p.delays - 3.1)) if p.reach else p for n, p in net.projections.items()}
        net = net.replace(projections=type(net.projections)(moved)).constrain(jax.random.fold_in(key, i))
        for name, least in first.items():
            delays = np.asarray(net.projections[name].delays)
            assert delays.min() == least and delays.max() == 6 and np.unique(delays).size == 2
    ratio = (0.5 / 3) ** (np.minimum(np.arange(11), 8) / 8)
    np.testing.assert_allclose(widths, np.stack([3 * ratio] * 2, axis=1), rtol=1e-5)
    # Without a key nothing was updated; drawn anew, all begins again.
    assert float(net.constrain().projections["input->hidden"].sigma) == float(net.projections["input->hidden"].sigma)
    again = net.initialize(key).projections["input->hidden"]
    assert float(again.sigma) == 3 and np.unique(np.asarray(again.delays)).size == 12


TASK = ex.tasks.get("evidence", cues=1, cue=10, gap=5, delay=5, recall=10, rate=300.0, trials=20, validation_trials=20)


def parts():
    annealed = {"max_delay": 8, "anneal": 12}
    projections = [ex.Delayed("input", "hidden", **annealed), ex.AxonDelayed("hidden", "hidden", **annealed)]
    projections += [ex.Dense("hidden", "readout")]
    populations = {"hidden": ex.neurons.LIF(6, threshold=0.3), "readout": ex.neurons.LI(TASK.output_size)}
    ends = {"inputs": {"input": TASK.input_size}, "outputs": "readout"}
    net = ex.Network(populations, projections, **ends, key=jax.random.key(0))
    optimizer = optax.chain(optax.adam(0.01), ex.optim.multiply({"input->hidden.delays": 10.0}))
    return net, TASK, ex.rules.BPTT(), optimizer


@pytest.mark.nightly
def test_annealing_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    import importlib

    made = parts()  # once, so that runs share a program

    def trained(out, **options):
        return ex.fit(*made, 18, batch=4, seeds=2, validate_every=5, progress=False, out=tmp_path / out, **options)

    whole = trained("whole")
    for name, least in (("input->hidden", 0), ("hidden->hidden", 1)):
        p = whole.networks.projections[name]
        assert p.delays.min() >= least and p.delays.max() <= 8 and np.all(p.sigma < 4)
    fit = importlib.import_module("engrax.training.fit")
    real, calls = fit.block, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "block", interrupted)
        assert trained("parts").interrupted
    resumed = trained("parts", resume=True)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert eqx.tree_equal(resumed.networks, whole.networks)
    last = [json.loads((tmp_path / n / "result.json").read_text())["final_loss"] for n in ("whole", "parts")]
    assert last[0] == last[1]


def test_delays_are_stored_and_read_back(tmp_path: pathlib.Path, key):
    net = network("LIF", "axons").constrain(key)
    write_arrays(tmp_path / "network.safetensors", net)
    back, _ = read_arrays(tmp_path / "network.safetensors", network("LIF", "axons", key=key))
    assert eqx.tree_equal(back, net)
    assert not np.array_equal(net.projections["input->hidden"].delays, network("LIF", "axons", key=key))


def test_summary_and_bill_know_delays():
    net = network("LIF")
    lines = [line for line in net.summary().splitlines() if "hidden->hidden" in line]
    assert "4 x 4, delay 1 to 3, 32 trainable parameters" in lines[0]
    axons = network("LIF", "axons").summary()
    assert "4 x 3, delay 0 to 4, 19 trainable parameters" in axons
    trial = trial_of(jnp.float32)
    record = net.run(trial.inputs, record=("hidden",))
    items = bill(net, observe(net, trial, record)).items
    spikes = float(jnp.sum(trial.valid()[..., None] * record["hidden"])) / BATCH
    # Graded inputs go through both projections at each step; a spike reaches the three other units.
    assert items["hidden"].mac == pytest.approx(2 * INPUTS * 4 * (2 * STEPS - 3) / BATCH)
    assert items["hidden"].ac == pytest.approx(3 * spikes) and spikes > 1
    np.testing.assert_array_equal(net.projections["hidden->hidden"].connections(), 3)


RECIPE = [
    "network.projections.0.kind=delayed",
    "network.projections.0.max_delay=5",
    "network.projections.0.anneal=100",
    "network.projections.3.kind=axon_delayed",
    "network.projections.3.max_delay=4",
    "network.projections.3.sigma=0.7",
]


def test_recipes_name_both_kinds():
    made = build(recipes.load("digits", [*RECIPE, "optimizer.multipliers={ delays = 100.0 }"]))
    first, _, _, second, _ = made.net.projections.values()
    assert type(first) is ex.Delayed and first.max_delay == 5 and float(first.sigma) == 2.5
    assert type(second) is ex.AxonDelayed and float(second.sigma) == pytest.approx(0.7)
    with pytest.raises(RecipeError, match=r"projections\.0\.max_dely: unknown key\. Did you mean 'max_delay'"):
        build(recipes.load("digits", [*RECIPE, "network.projections.0.max_dely=3"]))
    with pytest.raises(RecipeError, match="max_delay"):
        build(recipes.load("digits", RECIPE[:1]))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_delay": 0}, "max_delay must be an integer of at least 1"),
        ({"max_delay": 2.5}, "max_delay must be an integer"),
        ({"anneal": -1}, "anneal must be an integer of at least 0"),
        ({"sigma": 0.0}, "sigma must be a finite number > 0"),
        ({"anneal": 5, "sigma_start": 0.1}, "sigma_start must be a finite number >= 0.5"),
        ({"sigma_start": 3.0}, "sigma_start has no meaning without anneal="),
        ({"reverse": True}, "cannot read its source in reversed time"),
        ({"delays": "all"}, "delays must be an array"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    for made in KINDS.values():
        with pytest.raises(ArgumentError, match=f"'a->b': {message}|'a->b'.*{message}"):
            made("a", "b", **{"max_delay": 4, **options})


def test_delays_that_do_not_fit_are_refused_at_the_network(key):
    def made(kind=ex.Delayed, **options):
        return kind("a", "b", **{"max_delay": 4, "delay": 1, **options}).build(key, (2, 3), jnp.float32)

    with pytest.raises(NetworkError, match=r"max_delay = 4 must be more than its shortest delay, which is 4"):
        made(delay=4)
    with pytest.raises(NetworkError, match=r"delays must have shape \(2, 3\), got \(3,\)"):
        made(delays=[1, 2, 3])
    with pytest.raises(NetworkError, match=r"delays must have shape \(3,\), got \(2, 3\)"):
        made(ex.AxonDelayed, delays=np.ones((2, 3)))
    with pytest.raises(NetworkError, match="delays must lie between 1 and max_delay = 4"):
        made(delays=0.5)
    with pytest.raises(NetworkError, match="has no delays: give delays="):
        ex.Delayed("a", "b", max_delay=4, weight=np.ones((2, 3))).build(None, (2, 3), jnp.float32)
    np.testing.assert_array_equal(made(ex.AxonDelayed, delays=2).delays, [2, 2, 2])


def test_native_loops_leave_them_to_jax():
    """Only populations that no such projection reaches are theirs."""
    net = network("LIF", "axons")
    *_, tape = forward(net, {"input": trial_of(jnp.float32).inputs}, net.init_state(BATCH), tape="lean")
    assert "hidden" not in tape.kept and "hidden" in tape.states


PERIOD, LAG = 12, 4


def sample(key, batch):
    """Two lines that tick with one period; the class is which of them leads, by `LAG` steps.

    The phase is drawn, so that each line by itself says nothing, nor do both to a unit without memory or delays.
    """
    draw, toss = jax.random.split(key)
    phase = jax.random.randint(draw, (batch,), 0, PERIOD)
    second = jax.random.bernoulli(toss, 0.5, (batch,)).astype(int)
    t = jnp.arange(4 * PERIOD)[:, None] + phase[None]
    lines = [t % PERIOD == 0, (t - jnp.where(second == 1, PERIOD - LAG, LAG)[None]) % PERIOD == 0]
    return ex.Trial(jnp.stack(lines, axis=-1).astype(jnp.float32), second)


def taught(kind, rule, seed, rate):
    """Share of right answers with whole delays, after training with `rate` times the learning rate for delays."""
    weight = np.random.default_rng(seed).uniform(0.3, 1.0, (8, 2)).astype(np.float32)
    delays = kind("input", "hidden", max_delay=8, delays=4.0, sigma=0.2, anneal=300, weight=weight)
    populations = {"hidden": ex.neurons.LIF(8, tau=1.0), "readout": ex.neurons.LI(2, tau=1.0)}
    projections = [delays, ex.Dense("hidden", "readout", bias=True)]
    net = ex.Network(populations, projections, inputs={"input": 2}, outputs="readout", key=jax.random.key(seed))
    optimizer = optax.chain(optax.adam(0.02), ex.optim.multiply({"delays": rate}))
    state = optimizer.init(eqx.filter(net, trainable_leaves(net)))

    @eqx.filter_jit
    def step(net, state, key):
        return train_step(net, state, sample(key, 64), rule, optimizer, tuple(jax.random.split(key)))

    for key in jax.random.split(jax.random.key(5), 400):
        net, state, _ = step(net, state, key)
    trial = sample(jax.random.key(99), 500)
    answers = jnp.argmax(net.round().run(trial.inputs).outputs.mean(axis=0), axis=-1)
    return float(jnp.mean(answers == trial.targets))


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "rule"), [(ex.Delayed, ex.rules.BPTT()), (ex.AxonDelayed, ex.rules.EProp())])
def test_who_leads_is_learned_by_moving_delays_alone(kind, rule):
    """Units that forget within a step cannot know it unless a delay makes both lines coincide."""
    assert min(taught(kind, rule, seed, 10.0) for seed in range(3)) > 0.95
    assert max(taught(kind, rule, seed, 0.0) for seed in range(3)) < 0.6
