"""Event-driven networks: closed forms between events, exact spike times, and gradients against finite differences."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError, NetworkError, RuleError
from engrax.network import trainable_leaves
from engrax.neurons.event_unit import EventUnit, area, crossing, later
from engrax.testing import check_task

HIDDEN, OUT, INPUTS = 6, 3, 5


def units(count, seed=0):
    """Units of all sorts, some with equal time constants, and states for them."""
    draw = np.random.default_rng(seed)
    tau, synapse = jnp.asarray(draw.uniform(3, 30, count)), jnp.asarray(draw.uniform(3, 30, count))
    synapse = jnp.where(jnp.arange(count) % 5 == 0, tau, synapse)
    ones = jnp.ones(count)
    unit = EventUnit(tau, synapse, ones, ones, ones)
    return unit, jnp.asarray(draw.uniform(-1, 1, count)), jnp.asarray(draw.uniform(-2, 6, count))


def make(recurrent=True, delays=True, seed=1, dt=0.5, **options):
    """Two populations of spiking units and a readout; everything trains that can."""
    draw = np.random.default_rng(seed)
    log = lambda x: ex.trainable(jnp.asarray(x), "log")
    some = lambda mean, sd, *shape: jnp.asarray(draw.normal(mean, sd, shape))
    hidden = ex.neurons.CuBaLIF(
        HIDDEN,
        tau=log(draw.uniform(8, 14, HIDDEN)),
        tau_synapse=log(draw.uniform(3, 6, HIDDEN)),
        threshold=log(draw.uniform(0.8, 1.2, HIDDEN)),
        input_scale="leak",
        **options,
    )
    out = ex.neurons.CuBaLIF(OUT, tau=10.0, tau_synapse=5.0, input_scale="leak")
    projections = [ex.Dense("x", "hidden", weight=some(3, 4, HIDDEN, INPUTS), bias=True)]
    if recurrent:
        projections.append(ex.Dense("hidden", "hidden", weight=some(0, 2, HIDDEN, HIDDEN), delay=2))
    axons, synapses = draw.uniform(0.2, 8, HIDDEN), draw.uniform(0.2, 8, (OUT, HIDDEN))
    if delays:
        projections += [
            ex.AxonDelayed("hidden", "out", max_delay=9, delays=jnp.asarray(axons), weight=some(5, 4, OUT, HIDDEN)),
            ex.Delayed("hidden", "read", max_delay=9, delays=jnp.asarray(synapses), weight=some(1, 1, OUT, HIDDEN)),
        ]
    else:
        projections.append(ex.Dense("hidden", "out", weight=some(5, 4, OUT, HIDDEN)))
    projections.append(ex.Dense("out", "read", weight=some(1, 1, OUT, OUT)))
    populations = {"hidden": hidden, "out": out, "read": ex.neurons.LI(OUT, tau=log(12.0))}
    return ex.Network(populations, projections, inputs={"x": INPUTS}, outputs="read", dt=dt, key=jax.random.key(0))


def inputs(steps=30, batch=3, seed=2):
    return jnp.asarray((np.random.default_rng(seed).random((steps, batch, INPUTS)) < 0.15) * 4.0)


def differences(function, moving, step=3e-6):
    """Of fourth order: spike times carry rounding errors that a smaller step would show."""
    flat, back = jax.flatten_util.ravel_pytree(moving)
    each = step * jnp.eye(len(flat))
    value = jax.jit(lambda xs: jax.lax.map(lambda x: function(back(x)), xs))
    near, far = (value(flat[None] + h * each) - value(flat[None] - h * each) for h in (1, 2))
    return back((8 * near - far) / (12 * step))


def apart(a, b):
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    assert all(float(jnp.max(jnp.abs(y))) > 0 for _, y in pairs), "a parameter that does nothing tests nothing"
    return max(float(jnp.max(jnp.abs(x - y)) / jnp.max(jnp.abs(y))) for x, y in pairs)


@pytest.mark.x64
def test_between_events_units_are_their_equations():
    """Voltage, current, and the voltage's integral, against ten thousand steps of a fourth-order solver."""
    unit, v, i = units(50)
    steps, time = 2000, 40.0

    def rate(y):
        return jnp.stack([(y[1] - y[0]) / unit.tau, -y[1] / unit.tau_synapse, y[0]])

    def step(y, _):
        h = time / steps
        a = rate(y)
        b = rate(y + h / 2 * a)
        c = rate(y + h / 2 * b)
        return y + h / 6 * (a + 2 * b + 2 * c + rate(y + h * c)), None

    y = jax.lax.scan(step, jnp.stack([v, i, jnp.zeros_like(v)]), None, steps)[0]
    after = later(unit, v, i, jnp.asarray(time))
    np.testing.assert_allclose(after, y[:2], atol=1e-9)
    np.testing.assert_allclose(area(unit, (v, i), after), y[2], atol=1e-8)


@pytest.mark.x64
def test_crossings_are_the_first_and_none_is_missed():
    unit, v, i = units(1000)
    times = jnp.linspace(0, 60, 6001)
    path = later(unit, v, i, times[:, None])[0]
    above = np.asarray(path >= 1)
    found = np.asarray(crossing(unit, v, i, jnp.full(1, 60.0)))
    crossed = above.any(axis=0)
    # A peak between two points of the grid is seen by the one and not by the other.
    np.testing.assert_array_equal(np.isfinite(found)[crossed], True)
    peaks = np.asarray(jnp.max(path, axis=0))
    assert np.all(peaks[np.isfinite(found) & ~crossed] > 1 - 1e-4)
    assert 200 < crossed.sum() < 900
    first = np.asarray(times)[above.argmax(axis=0)][crossed]
    assert np.all((first - found[crossed] >= -1e-12) & (first - found[crossed] <= 0.01 + 1e-12))
    there = later(unit, v, i, jnp.asarray(np.where(crossed, found, 0.0)))[0]
    np.testing.assert_allclose(np.asarray(there)[crossed], 1, atol=1e-13)
    # In single precision no crossing is lost either.
    single = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, (unit, v, i))
    again = np.asarray(crossing(*single, jnp.full(1, 60.0, jnp.float32)))
    sure = crossed & (peaks > 1 + 1e-4)
    np.testing.assert_allclose(again[sure], found[sure], atol=2e-2)


@pytest.mark.x64
@pytest.mark.parametrize("kind", ["delays", pytest.param("recurrent", marks=pytest.mark.nightly), "layers"])
def test_gradients_are_those_of_finite_differences(kind):
    """Of spike times and readout voltages, by weights, biases, delays, time constants and thresholds: to 1e-6."""
    net = make(recurrent=kind != "layers", delays=kind == "delays")
    moving, fixed = eqx.partition(net, trainable_leaves(net))
    x = inputs()
    weights = jnp.asarray(np.random.default_rng(3).normal(size=(len(x), x.shape[1], OUT)))

    def loss(moving):
        ran = eqx.combine(moving, fixed).run_events(x, max_spikes=200)
        each = [ran.spikes[name].times for name in ("hidden", "out")]
        late = sum(jnp.sum(jnp.where(jnp.isfinite(t), jnp.sin(t / 7), 0)) for t in each)
        return jnp.sum(weights * ran.outputs) + late

    ran = net.run_events(x, record=("hidden", "out"), max_spikes=200)
    assert float(jnp.sum(ran["hidden"])) > 60 and float(jnp.sum(ran["out"])) > 20
    assert apart(jax.jit(jax.grad(loss))(moving), differences(loss, moving)) < 1e-6


@pytest.mark.x64
def test_the_rule_is_the_gradient_of_its_loss_and_by_first_spikes_too():
    net = make(delays=False)
    trial = ex.Trial(inputs(), jnp.asarray([0, 2, 1]))
    early = ex.Network(
        {n: net.populations[n] for n in ("hidden", "out")},
        [p for p in net.projections.values() if p.post != "read"],
        inputs={"x": INPUTS},
        outputs="out",
        dt=net.dt,
    )
    for network, rule in ((net, ex.rules.EventProp()), (early, ex.rules.EventProp(latency=2.0))):
        loss, gradient = rule.value_and_grad(network, trial)
        moving, fixed = eqx.partition(network, trainable_leaves(network))
        of = lambda m, fixed=fixed, rule=rule: rule.value_and_grad(eqx.combine(m, fixed), trial)[0]
        assert apart(gradient, differences(of, moving)) < 1e-6
        assert 0.1 < float(loss) < 10
    # The logits are first spikes: the decision is the unit that was first.
    ran = early.run_events(trial.inputs)
    logits = jnp.mean(ex.rules.EventProp(latency=2.0).perform(early, trial).outputs, axis=0)
    end = trial.steps * net.dt
    np.testing.assert_allclose(logits, (end - jnp.minimum(ran.spikes["out"].first(), end)) / 2, atol=1e-12)


@pytest.mark.nightly
@pytest.mark.x64
def test_a_fine_grid_comes_to_the_same_spikes():
    """`net.run` of the same network converges to it, to first order in dt."""
    away = []
    for fine in (4, 8, 16):
        dt = 0.5 / fine
        net = make(recurrent=False, delays=False, dt=dt)
        # An impulse of one coarse step is that many times higher for a fine one.
        x = jnp.zeros((30 * fine, 3, INPUTS)).at[::fine].set(inputs() * fine)
        quiet = eqx.tree_at(lambda n: n.projections["x->hidden"].bias, net, jnp.zeros(HIDDEN))
        scaled = eqx.tree_at(
            lambda n: tuple(n.projections[k].weight for k in ("hidden->out", "out->read")),
            quiet,
            tuple(net.projections[k].weight * fine for k in ("hidden->out", "out->read")),
        )
        exact = scaled.run_events(x, record=("hidden",))
        stepped = scaled.run(x, record=("hidden",))
        assert abs(float(jnp.sum(exact["hidden"]) - jnp.sum(stepped["hidden"]))) <= 4
        count = lambda r, fine=fine: np.asarray(jnp.mean(r.outputs, axis=0))
        away.append(np.abs(count(exact) - count(stepped)).max() / np.abs(count(exact)).max())
    assert away[2] < away[0] / 2 < 0.1


@pytest.mark.x64
def test_a_trial_is_the_same_alone_and_in_a_batch():
    net = make()
    x = inputs(batch=4)
    together, alone = net.run_events(x), net.run_events(x[:, 2:3])
    np.testing.assert_allclose(together.outputs[:, 2:3], alone.outputs, atol=1e-12)
    both = [np.sort(np.asarray(r.spikes["hidden"].times[:, i])) for r, i in ((together, 2), (alone, 0))]
    fired = int(np.isfinite(both[1]).sum())
    assert fired > 10
    np.testing.assert_allclose(both[0][:fired], both[1][:fired], atol=1e-12)


def test_silence_and_empty_events_are_no_trouble():
    net = make()
    trial = ex.Trial(jnp.zeros((20, 2, INPUTS)), jnp.asarray([0, 1]))
    loss, gradient = ex.rules.EventProp().value_and_grad(net, trial)
    assert np.isfinite(float(loss))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradient))
    assert not np.isfinite(np.asarray(net.run_events(trial.inputs).spikes["out"].first())).any()


def test_what_cannot_be_done_is_refused_by_name():
    trial = ex.Trial(inputs(10).astype(jnp.float32), jnp.asarray([0, 1, 2]))
    net = make(delays=False)
    rule = ex.rules.EventProp()
    with pytest.raises(NetworkError, match="'hidden': CuBaLIF has a refractory"):
        rule.value_and_grad(make(refractory=2.0), trial)
    lif = ex.Network(
        {"a": ex.neurons.LIF(3)}, [ex.Dense("x", "a")], inputs={"x": 5}, outputs="a", key=jax.random.key(0)
    )
    with pytest.raises(NetworkError, match="'a': LIF has no closed form"):
        lif.run_events(trial.inputs)
    graded = ex.Network(
        {"a": ex.neurons.LI(3), "b": ex.neurons.LI(3)},
        [ex.Dense("x", "a"), ex.Dense("a", "b")],
        inputs={"x": 5},
        outputs="b",
        key=jax.random.key(0),
    )
    with pytest.raises(NetworkError, match="'a->b': 'a' sends graded"):
        rule.value_and_grad(graded, trial)
    learnt = ex.Network(
        {"a": ex.neurons.LI(3)},
        [ex.Delayed("x", "a", max_delay=3)],
        inputs={"x": 5},
        outputs="a",
        key=jax.random.key(0),
    )
    with pytest.raises(NetworkError, match="inputs come on the grid"):
        rule.value_and_grad(learnt, trial)
    spiking = net.replace(output_specs=tuple(s._replace(population="out") for s in net.output_specs))
    with pytest.raises(RuleError, match="a number of spikes has no gradient"):
        rule.value_and_grad(spiking, trial)
    with pytest.raises(RuleError, match="gradient of a rate"):
        ex.rules.EventProp(regularizers=ex.losses.FiringRate(1.0, 10.0)).value_and_grad(net, trial)

    class Other(ex.neurons.CuBaLIF):
        """A model of another step, perhaps."""

    with pytest.raises(NetworkError, match="Other has no closed form"):
        Other(HIDDEN).event_unit()
    with pytest.raises(ArgumentError, match="gives outputs and voltages"):
        net.run_events(trial.inputs, record=("hidden.synaptic",))
    with pytest.raises(Exception, match="more than max_spikes = 2"):
        jax.block_until_ready(net.run_events(inputs().astype(jnp.float32), max_spikes=2))
    with pytest.raises(Exception, match="more than pending = 1"):
        jax.block_until_ready(make().run_events(inputs().astype(jnp.float32), pending=1))


@pytest.mark.nightly
def test_latencies_are_learnt_and_measured_from_event_to_event(data):
    """A hundred steps on handwritten digits: far above chance, by the engine that it was trained on."""
    task = ex.tasks.get("latency_mnist", validation=59_000)
    check_task(task)
    trial = next(iter(task.batches("test", 8)))
    per_pixel = jnp.sum(trial.inputs, axis=0)
    assert float(jnp.max(per_pixel)) == 1 and float(jnp.sum(trial.inputs[task.window :])) == 0
    net = ex.Network(
        {
            "hidden": ex.neurons.CuBaLIF(40, tau=20.0, input_scale="leak"),
            "out": ex.neurons.LI(10, tau=20.0, input_scale="one"),
        },
        [ex.Dense("x", "hidden", init={"name": "normal", "scale": 1.5}), ex.Dense("hidden", "out")],
        inputs={"x": 784},
        outputs="out",
        key=jax.random.key(0),
    )
    rule = ex.rules.EventProp()
    few = jax.tree.map(lambda x: x[:1000], {k: task.rows[k] for k in ("validation", "test")})
    small = eqx.tree_at(lambda t: t.rows, task, {**task.rows, **few})
    run = ex.fit(net, small, rule, optax.adam(0.02), 80, batch=32, validate_every=80, progress=False)
    again = ex.evaluate(run)
    assert again["accuracy"] == pytest.approx(run.test_accuracy) and run.test_accuracy > 0.4
    assert again["accuracy"] == pytest.approx(ex.evaluate(run.network, small, rule=rule)["accuracy"])
    assert again["firing_rate_hz"] > 0
