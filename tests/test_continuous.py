"""Continuous time: Pearlmutter's units, their Euler steps, and integration by Diffrax."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax import tasks
from engrax.errors import ArgumentError, NetworkError, RuleError
from engrax.network import trainable_leaves
from engrax.testing import check_task

pytest.importorskip("diffrax", reason="needs the extra continuous")


def make(units=5, dt=0.1, key=0, inside=False, delayed=None, initial=None, **options):
    """A network whose weights, biases, time constants and initial states train."""
    keys = jax.random.split(jax.random.key(key), 5)
    tau = ex.trainable(jax.random.uniform(keys[0], (units,), minval=0.6, maxval=2.0), "log")
    start = ex.trainable(jax.random.uniform(keys[1], (units,))) if initial is None else initial
    weight = jax.random.uniform(keys[2], (units, units), minval=-1, maxval=1)
    around = {"weight": weight, "bias": 0.3 * jax.random.normal(keys[3], (units,))}
    recurrent = (
        ex.Dense("hidden", "hidden.net", **around)
        if delayed is None
        else delayed["kind"]("hidden", "hidden.net", **around, **{k: v for k, v in delayed.items() if k != "kind"})
    )
    return ex.Network(
        {"hidden": ex.neurons.CTRNN(units, tau=tau, initial=start, **options)},
        [ex.Dense("input", "hidden.net" if inside else "hidden.drive"), recurrent],
        inputs={"input": 2},
        outputs="hidden",
        dt=dt,
        key=keys[4],
    )


def trial_of(net, steps=30, batch=2):
    keys = jax.random.split(jax.random.key(9), 2)
    size = net.populations["hidden"].size
    inputs = 0.5 * jax.random.normal(keys[0], (steps, batch, 2))
    return ex.Trial(inputs, jax.random.uniform(keys[1], (steps, batch, size)))


def differences(net, trial, step=1e-5):
    """Central finite differences of the mean squared error, by every number that trains."""
    moving, fixed = eqx.partition(net, trainable_leaves(net))
    flat, back = jax.flatten_util.ravel_pytree(moving)

    @jax.jit
    def loss(x):
        return jnp.mean((eqx.combine(back(x), fixed).run(trial.inputs).outputs - trial.targets) ** 2)

    moved = lambda i, h: loss(flat.at[i].add(h))
    return back(jnp.stack([(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(len(flat))]))


def apart(a, b):
    """Largest relative difference of two gradients, array by array."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.linalg.norm(x - y) / jnp.linalg.norm(y)) for x, y in pairs)


@pytest.mark.x64
@pytest.mark.parametrize("inside", [False, True])
def test_the_discrete_adjoint_is_the_gradient(inside):
    """T1: weights, biases, time constants, initial states, to 1e-6 of finite differences."""
    net = make(inside=inside)
    trial = trial_of(net)
    gradient = ex.rules.BPTT().value_and_grad(net, trial)[1]
    assert len(jax.tree.leaves(gradient)) == 5
    assert apart(gradient, differences(net, trial)) < 1e-6


@pytest.mark.x64
def test_forward_sensitivities_and_checkpoints_are_the_same_gradient():
    """T2, T10: to 1e-12, the initial state's part in the first outputs included."""
    net = make()
    trial = trial_of(net)
    loss, gradient = ex.rules.BPTT().value_and_grad(net, trial)
    for rule in (ex.rules.RTRL(), ex.rules.BPTT(checkpoint=7), ex.rules.BPTT(checkpoint=True)):
        other, also = rule.value_and_grad(net, trial)
        assert abs(float(loss - other)) < 1e-12 and apart(also, gradient) < 1e-12, rule
    with pytest.raises(RuleError, match="use BPTT or RTRL"):
        ex.rules.UORO().value_and_grad(net, trial, jax.random.key(0))
    assert np.all(np.isfinite(ex.rules.UORO().value_and_grad(make(initial=0.5), trial, jax.random.key(0))[0]))


@pytest.mark.x64
@pytest.mark.parametrize("kind", [ex.synapses.Delayed, ex.synapses.AxonDelayed])
def test_delays_between_the_steps_have_their_gradient(kind):
    """T3: a delay for each synapse, or each unit, that lies on no step; the start goes into the past, too."""
    shape = (5, 5) if kind is ex.synapses.Delayed else (5,)
    delays = 1.0 + 6 * jax.random.uniform(jax.random.key(4), shape)
    net = make(delayed={"kind": kind, "max_delay": 8, "delays": delays, "kernel": "linear"})
    trial = trial_of(net, 20)
    gradient = ex.rules.BPTT().value_and_grad(net, trial)[1]
    assert len(jax.tree.leaves(gradient)) == 6
    assert apart(gradient, differences(net, trial)) < 1e-6
    # What it reads lies on the line between its neighbours.
    whole, more, between = (
        make(delayed={"kind": kind, "max_delay": 8, "delays": jnp.full(shape, d), "kernel": "linear"}, initial=0.2)
        for d in (3.0, 4.0, 3.25)
    )
    past = [n.projections["hidden->hidden.net"] for n in (whole, more, between)]
    pre = jax.random.normal(jax.random.key(6), (9, 2, 5))
    seen = [p.drive(p.fan_out(p.effective()), pre[-1 - p.reach :]) for p in past]
    np.testing.assert_allclose(seen[2], 0.75 * seen[0] + 0.25 * seen[1], atol=1e-12)


@pytest.mark.x64
def test_euler_of_net_solve_is_net_run():
    net = make()
    inputs = trial_of(net).inputs
    times = 0.1 * jnp.arange(31.0)
    held = jnp.concatenate([inputs, inputs[-1:]])
    record = net.solve(
        held, times, save=times[1:], solver="euler", step=0.1, interpolation="hold", record=["hidden.rate"]
    )
    np.testing.assert_allclose(record.outputs, net.run(inputs).outputs, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(record["hidden.rate"], record.outputs)


@pytest.mark.x64
def test_a_leak_is_integrated_to_its_closed_form():
    net = ex.Network(
        {"x": ex.neurons.CTRNN(1, tau=2.0, activation="identity", initial=0.0)},
        [ex.Dense("input", "x.drive", weight=jnp.ones((1, 1)))],
        inputs={"input": 1},
        outputs="x",
    )
    times = jnp.array([0.0, 0.3, 1.1, 4.0, 9.0])
    # A ramp, sampled at uneven times: y = t - tau (1 - exp(-t / tau)).
    record = net.solve(times[:, None, None], times, rtol=1e-9, atol=1e-11)
    wanted = times - 2 * (1 - jnp.exp(-times / 2))
    np.testing.assert_allclose(record.outputs[:, 0, 0], wanted, atol=1e-8)
    again = net.solve(
        times[2:, None, None],
        times[2:],
        rtol=1e-9,
        atol=1e-11,
        state=net.solve(times[:3, None, None], times[:3], rtol=1e-9, atol=1e-11).state,
    )
    np.testing.assert_allclose(again.outputs[:, 0, 0], wanted[2:], atol=1e-8)


@pytest.mark.x64
def test_discrete_gradients_come_near_the_continuous_ones_as_dt_falls():
    """T4, T5: the adjoint of a solver of high order is a gradient to 1e-7, and Euler's error falls with dt."""
    found = {}
    for dt in (0.1, 0.05, 0.025):
        net, steps = make(dt=dt), round(3 / dt)
        mask = jnp.zeros((steps, 1)).at[-1].set(1.0)
        now = ex.Trial(jnp.full((steps, 1, 2), 0.4), jnp.full((steps, 1, 5), 0.2), mask)
        found[dt] = ex.rules.BPTT().value_and_grad(net, now)[1]
    rule = ex.rules.ContinuousAdjoint(solver="dopri8", rtol=1e-10, atol=1e-12)
    exact = rule.value_and_grad(net, now)[1]
    errors = [apart(g, exact) for g in found.values()]
    slopes = np.diff(np.log(errors)) / np.diff(np.log(list(found)))
    assert np.all(np.abs(slopes - 1) < 0.15), (errors, slopes)

    moving, fixed = eqx.partition(net, trainable_leaves(net))
    flat, back = jax.flatten_util.ravel_pytree(moving)
    times = jnp.array([0.0, 3.0])

    @jax.jit
    def loss(x):
        options = {"save": times[1:], "solver": "dopri8", "rtol": 1e-11, "atol": 1e-13}
        outputs = eqx.combine(back(x), fixed).solve(jnp.full((2, 1, 2), 0.4), times, **options).outputs
        return jnp.sum((outputs - 0.2) ** 2) / 5

    along = jax.random.normal(jax.random.key(5), flat.shape)
    slope = (loss(flat + 1e-5 * along) - loss(flat - 1e-5 * along)) / 2e-5
    mine = jax.flatten_util.ravel_pytree(exact)[0] @ along
    assert abs(float(slope / mine) - 1) < 1e-7


@pytest.mark.x64
@pytest.mark.nightly
def test_the_network_run_backwards_gives_a_gradient_over_a_few_time_constants():
    net = make(initial=0.5)
    now = trial_of(net, 20)
    short = ex.rules.ContinuousAdjoint(adjoint="backsolve", rtol=1e-9, atol=1e-11).value_and_grad(net, now)[1]
    exact = ex.rules.ContinuousAdjoint(rtol=1e-9, atol=1e-11).value_and_grad(net, now)[1]
    assert apart(short, exact) < 1e-5
    with pytest.raises(Exception, match="time constants"):
        jax.block_until_ready(ex.rules.ContinuousAdjoint(adjoint="backsolve").value_and_grad(net, trial_of(net, 200)))


def test_the_network_run_backwards_is_refused_over_many_time_constants():
    """T9."""
    with pytest.raises(ArgumentError, match="time constants"):
        make().solve(jnp.zeros((200, 1, 2)), 0.1 * jnp.arange(200.0), adjoint="backsolve")


def test_events_are_inputs_too():
    net = make(initial=0.5)
    raster = (jax.random.uniform(jax.random.key(2), (30, 2, 2)) < 0.3).astype(jnp.float32)
    times, hold = 0.1 * jnp.arange(30.0), {"interpolation": "hold"}
    np.testing.assert_array_equal(
        net.solve(ex.Events.of(raster), times, **hold).outputs, net.solve(raster, times, **hold).outputs
    )


@pytest.mark.unchecked
def test_what_has_no_continuous_time_is_refused():
    times, inputs = jnp.arange(3.0), jnp.zeros((3, 1, 2))
    spiking = ex.Network(
        {"x": ex.neurons.LIF(3)}, [ex.Dense("input", "x")], inputs={"input": 2}, outputs="x", key=jax.random.key(0)
    )
    with pytest.raises(NetworkError, match="LIF has no derivative"):
        spiking.solve(inputs, times)
    late = ex.Network(
        {"x": ex.neurons.Rate(3)},
        [ex.Dense("input", "x", delay=2)],
        inputs={"input": 2},
        outputs="x",
        key=jax.random.key(0),
    )
    with pytest.raises(NetworkError, match="delays"):
        late.solve(inputs, times)
    net = make()
    for wrong, options in (
        ("increasing", {"times": times[::-1]}),
        ("shape", {"times": jnp.arange(4.0)}),
        ("not begin before", {"times": times, "save": times - 1}),
        ("solver", {"times": times, "solver": "rk"}),
        ("population", {"times": times, "record": ["other"]}),
    ):
        with pytest.raises((ArgumentError, ex.errors.EngraxError), match=wrong):
            net.solve(inputs, **options)


def test_lbfgs_asks_again_within_a_step():
    """`fit` drives an optimiser with a line search: it finds another network's outputs."""
    net = make(units=3)
    inputs = jnp.zeros((30, 1, 2))
    target = make(units=3, key=5).run(inputs).outputs

    class One(ex.tasks.DrawnTask):
        name = "one"
        metric = "loss"

        def score(self, outputs, trial):
            return jnp.mean((outputs - trial.targets) ** 2)

        input_size, output_size, dt = 2, 3, 0.1
        trials: int = 1
        validation_trials: int = 1

        def draw(self, keys):
            return ex.Trial(jnp.broadcast_to(inputs, (30, len(keys), 2)), jnp.broadcast_to(target, (30, len(keys), 3)))

    task = One()
    first = ex.fit(net, task, ex.rules.BPTT(), optax.lbfgs(), 30, batch=1, progress=False)
    other = ex.fit(net, task, ex.rules.BPTT(), optax.sgd(0.1), 30, batch=1, progress=False)
    assert first.losses[-1] < 0.5 * other.losses[-1]
    assert np.all(np.diff(first.losses) <= 1e-7)


@pytest.mark.parametrize(
    ("name", "settings"), [("orbit", {}), ("orbit", {"shape": "eight", "angles": 8}), ("xor", {"horizon": 4.0})]
)
def test_the_contract_of_trajectories(name, settings):
    check_task(tasks.get(name, **settings))


def test_orbits_are_pearlmutters():
    task = tasks.get("orbit")
    trial = task.sample(jax.random.key(0), 2)
    assert trial.inputs.shape == (370, 2, 1) and not np.any(trial.inputs)
    mask = np.asarray(trial.mask[:, 0])
    # Step k is due at time (k + 1) dt: the target begins at 5, leftmost, and is there again a turn later.
    assert mask.sum() == 321 and mask[49] == 1 and mask[48] == 0
    for step in (49, 209, 369):
        np.testing.assert_allclose(trial.targets[step, 0], [0.25, 0.5], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(trial.targets[49:, 0] - 0.5, axis=-1), 0.25, rtol=1e-5)
    # The eight begins where it crosses itself, half a turn later and after a whole one.
    eight = tasks.get("orbit", shape="eight").sample(jax.random.key(0), 1)
    for step in (49, 129, 209):
        np.testing.assert_allclose(eight.targets[step, 0], [0.5, 0.5], atol=1e-5)
    assert float(jnp.ptp(eight.targets[..., 0])) == pytest.approx(0.6, rel=1e-2)
    turned = tasks.get("orbit", shape="eight", angles=8)
    (shown,), (between,) = (list(turned.batches(split, 8)) for split in ("train", "test"))
    np.testing.assert_allclose(between.inputs[0, 0], [np.cos(np.pi / 8), np.sin(np.pi / 8)], rtol=1e-6)
    quarter, none = shown.targets[:, 2] - 0.5, shown.targets[:, 0] - 0.5
    np.testing.assert_allclose(quarter, jnp.stack([-none[:, 1], none[:, 0]], axis=-1), atol=1e-6)


def test_xor_is_due_for_a_while():
    task = tasks.get("xor")
    (trial,) = task.batches("test", 4)
    assert trial.inputs.shape == (30, 4, 2) and trial.targets[0, :, 0].tolist() == [0, 1, 1, 0]
    assert np.asarray(trial.mask).sum(axis=0).tolist() == [11] * 4
    assert float(task.score(trial.targets, trial)) == 0
    late = trial.targets.at[:19].set(7.0)
    assert float(task.metrics(late, trial)["right"]) == 1
    assert float(task.metrics(late.at[25, 1].set(0.3), trial)["right"]) == 0.75
    assert sorted(map(tuple, task.sample(jax.random.key(4), 4).inputs[0].tolist())) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.x64
@pytest.mark.parametrize("kind", ["clamp", "nudge"])
def test_a_forced_unit_follows_its_teacher(kind):
    def network(forcing):
        return ex.Network(
            {"out": ex.neurons.ForcedCTRNN(2, forcing=forcing, kind=kind)},
            [
                ex.Masked("teacher", "out.teacher", mask="identity", weight=jnp.ones((2, 2)), trainable=False),
                ex.Dense("out", "out.net", weight=jnp.array([[0.3, -1.0], [1.0, 0.4]])),
            ],
            inputs={"teacher": 2},
            outputs="out.free",
            dt=0.1,
        )

    wanted = 0.5 + 0.3 * jnp.sin(jnp.arange(40.0)[:, None, None] / 5 + jnp.arange(2.0)[None, None])
    none, some = network(0.0), network(1.0 if kind == "clamp" else 8.0)
    free = none.run(wanted).outputs
    held = some.run(wanted, record=["out.rate"])["out.rate"]
    assert (
        float(jnp.abs(held - wanted).max()) < (1e-12 if kind == "clamp" else 0.2) < float(jnp.abs(free - wanted).max())
    )
    if kind == "clamp":
        # What it would have been by itself, from where the teacher had put it.
        before = jnp.concatenate([jnp.full((1, 1, 2), 0.5), wanted[:-1]])
        weight = some.projections["out->out.net"].weight
        slope = jax.nn.sigmoid(before @ weight.T) - before
        np.testing.assert_allclose(some.run(wanted).outputs, before + 0.1 * slope, atol=1e-12)


def test_a_teacher_dies_away_and_networks_are_measured_without_it():
    task = tasks.get("orbit", horizon=7.0)

    def network(forcing):
        return ex.Network(
            {"out": ex.neurons.ForcedCTRNN(2, tau=2.0, forcing=forcing)},
            [
                ex.Masked("teacher", "out.teacher", mask="identity", weight=jnp.eye(2), trainable=False),
                ex.Dense("input", "out.net", trainable=False),
                ex.Dense("out", "out.net"),
            ],
            inputs={"input": 1, "teacher": 2},
            outputs="out.free",
            dt=0.1,
            key=jax.random.key(0),
        )

    taught = ex.taught(task)
    (trial,) = taught.batches("test", 1)
    np.testing.assert_array_equal(trial.inputs["teacher"], trial.targets)
    free = network(0.0).run(trial.inputs)
    assert float(jnp.abs(network(0.7).run(trial.inputs).outputs - free.outputs).max()) > 0.01
    for forcing in (0.7, ex.trainable(0.7), ex.trainable(0.7, "log")):
        np.testing.assert_array_equal(taught.perform(network(forcing), trial)[1].outputs, free.outputs)
        np.testing.assert_array_equal(ex.unforced(network(forcing)).run(trial.inputs).outputs, free.outputs)
    tx = ex.optim.follow(optax.adam(0.01), {"forcing": optax.linear_schedule(0.7, 0.1, 3)})
    run = ex.fit(network(ex.trainable(0.7)), taught, ex.rules.BPTT(), tx, steps=4, batch=1, progress=False)
    assert run.history[-1]["step"] == 4 and run.metric == "loss" and set(run.test) >= {"loss", "rmse"}
    steps = [entry["step"] for entry in run.history]
    best = steps[int(np.argmin([entry["validation_loss"] for entry in run.history]))]
    held = run.network.populations["out"].forcing.value
    np.testing.assert_allclose(held, 0.7 - 0.2 * min(best, 3), rtol=1e-6)


def test_a_teacher_needs_targets_that_it_can_show():
    with pytest.raises(ArgumentError, match="real targets"):
        ex.taught(tasks.get("evidence")).sample(jax.random.key(0), 2)
