"""Networks: what each projection delivers and when, what is refused, and gradients against finite differences."""

import re
from collections import OrderedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import engrax as ex
from engrax.network.graph import components
from engrax.testing import finite_differences, simulate

N, Dense, Masked = ex.neurons, ex.Dense, ex.Masked


def relay(size=1):
    """A unit whose output is its current, at once: what is left is the wiring."""
    return N.Rate(size, tau=1.0, activation=lambda x: x)


def wired(populations, projections, outputs, **options):
    """A network of relays on one input "x" of one unit; all weights one."""
    made = {n: relay() for n in populations}
    ones = [Dense(pre, post, weight=[[w]], delay=delay) for pre, post, w, delay in projections]
    return ex.Network(made, ones, inputs={"x": 1}, outputs=outputs, **options)


def pulse(net, steps=8, values=None):
    x = np.arange(1.0, steps + 1) if values is None else np.asarray(values, float)
    outputs = net.run(jnp.asarray(x, jnp.float32)[:, None, None]).outputs
    return np.asarray(outputs)[:, 0, 0]


def full(key, smooth=False):
    """Everything at once: two inputs, a cycle of three delays, ports, masks, a stateful readout, two outputs."""
    body = (
        N.Rate(3, tau=ex.trainable([2.0, 3.0, 5.0], positive=True))
        if smooth
        else N.ALIF(3, threshold=0.5, beta=0.3, refractory=2.0)
    )
    mask = np.array([[1, 0, 1], [1, 1, 0]])
    return ex.Network(
        OrderedDict(
            readout=N.LI(2, tau=ex.trainable(4.0, positive=True)),
            h=body,
            cell=N.LSTM(2, forget_bias=ex.trainable(jnp.array([0.5, 1.5]))),
        ),
        [
            Dense("x", "h", bias=True, delay=2),
            Dense("u", "cell", bias=jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)),
            Dense("h", "h", autapses=False),
            Dense("h", "cell.forget", bias=True),
            Dense("cell", "h", delay=3),
            Masked("h", "readout", mask=mask),
            Dense("cell", "readout", bias=jnp.array([0.3, -0.2])),
            Dense("x", "readout", name="skip", delay=1),
            Dense("x", "readout", name="fixed", trainable=False),
        ],
        inputs={"x": 2, "u": 1},
        outputs={"y": "readout", "inner": "h"},
        key=key,
    )


def feed(key, steps=11, batch=2):
    a, b = jax.random.split(key)
    return {"x": 2 * jax.random.normal(a, (steps, batch, 2)), "u": jax.random.normal(b, (steps, batch, 1))}


# Delays and wiring.


@pytest.mark.parametrize("delay", [0, 1, 2, 5])
def test_delay_d_reads_the_output_of_d_steps_ago_and_zeros_before_the_start(delay):
    wanted = np.concatenate([np.zeros(delay), np.arange(1.0, 9 - delay)])
    assert np.array_equal(pulse(wired("a", [("x", "a", 1.0, delay)], "a")), wanted)
    assert np.array_equal(pulse(wired("ab", [("x", "a", 1.0, None), ("a", "b", 1.0, delay)], "b")), wanted)


def test_default_delay_is_one_within_a_component_and_zero_elsewhere():
    chain = wired("ab", [("x", "a", 1.0, None), ("a", "b", 1.0, None)], "b")
    assert [p.delay for p in chain.projections.values()] == [0, 0]
    loop = wired(
        "abc", [("x", "a", 1.0, None), ("a", "b", 1.0, None), ("b", "a", 0.5, None), ("b", "c", 1.0, None)], "c"
    )
    assert [p.delay for p in loop.projections.values()] == [0, 1, 1, 0]
    x, a, b, wanted = np.arange(1.0, 9.0), 0.0, 0.0, []
    for now in x:
        a, b = now + 0.5 * b, a
        wanted.append(b)
    assert np.allclose(pulse(loop), wanted)
    itself = wired("a", [("x", "a", 1.0, None), ("a", "a", 0.5, None)], "a")
    assert np.allclose(pulse(itself, values=[1, 0, 0, 0]), 0.5 ** np.arange(4))


@pytest.mark.parametrize(("there", "back"), [(0, 1), (1, 0), (2, 3), (0, 4)])
def test_delays_around_a_loop(there, back):
    net = wired("ab", [("x", "a", 1.0, None), ("a", "b", 2.0, there), ("b", "a", 0.25, back)], {"a": "a", "b": "b"})
    x, a, b = np.r_[np.arange(1.0, 6.0), np.zeros(7)], np.zeros(12), np.zeros(12)
    past = lambda y, t, d: y[t - d] if t >= d else 0.0
    for t in range(12):
        if there == 0:
            a[t] = x[t] + 0.25 * past(b, t, back)
            b[t] = 2 * a[t]
        else:
            b[t] = 2 * past(a, t, there)
            a[t] = x[t] + 0.25 * past(b, t, back)
    outputs = net.run(jnp.asarray(x, jnp.float32)[:, None, None]).outputs
    assert np.allclose(outputs["a"][:, 0, 0], a) and np.allclose(outputs["b"][:, 0, 0], b)


def test_populations_run_in_the_order_of_their_projections_whatever_the_dicts():
    for names in ("abc", "cba", "bca"):
        net = wired(names, [("b", "c", 1.0, None), ("x", "a", 1.0, None), ("a", "b", 1.0, None)], "c")
        assert list(net.populations) == list(names)
        assert np.array_equal(pulse(net), np.arange(1.0, 9.0))


def test_components_against_reachability():
    edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "d"), ("d", "d"), ("f", "g"), ("g", "f"), ("x", "a")]
    groups = components(tuple("gfedcba"), edges)
    assert {frozenset(g) for g in groups} == {frozenset("abc"), frozenset("d"), frozenset("e"), frozenset("fg")}
    place = {n: i for i, g in enumerate(groups) for n in g}
    assert all(place[pre] <= place[post] for pre, post in edges if pre in place)


@pytest.mark.parametrize("port", range(4))
def test_a_port_gets_only_its_own_current(key, port):
    name = N.LSTM.ports[port]
    weight = jax.random.normal(key, (3, 2))
    net = ex.Network(
        {"h": N.LSTM(3)}, [Dense("x", f"h.{name}", weight=weight, bias=True)], inputs={"x": 2}, outputs="h"
    )
    assert net.projections[f"x->h.{name}"].bias.shape == (3,)
    x = jax.random.normal(key, (4, 2, 2))
    current = np.asarray(net.run(x, record=["h.current"])["h.current"])
    assert current.shape == (4, 2, 4, 3)
    wanted = np.zeros((4, 2, 4, 3))
    wanted[:, :, port] = np.einsum("ji,tbi->tbj", weight, x)
    assert np.allclose(current, wanted, atol=1e-6)


def test_a_weight_onto_all_ports_and_one_onto_a_port_add(key):
    a, b, c = (jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), [(4, 3, 2), (3, 2), (4, 3)]))
    net = ex.Network(
        {"h": N.LSTM(3)},
        [Dense("x", "h", weight=a, bias=c), Dense("x", "h.cell", weight=b)],
        inputs={"x": 2},
        outputs="h",
    )
    x = jax.random.normal(key, (3, 2, 2))
    wanted = np.einsum("pji,tbi->tbpj", a, x) + np.asarray(c)
    wanted[:, :, 2] += np.einsum("ji,tbi->tbj", b, x)
    assert np.allclose(net.run(x, record="h.current")["h.current"], wanted, atol=1e-5)


# What projections promise.


def test_weights_are_drawn_by_name_or_function(key):
    net = ex.Network(
        {"h": relay(200)},
        [
            Dense("x", "h"),
            Dense("x", "h", name="normal", init="normal"),
            Dense("x", "h", name="zeros", init="zeros", bias=True),
            Dense("x", "h", name="own", init=lambda key, shape, dtype: jnp.full(shape, 7.0, dtype)),
            Dense("h", "h", init="orthogonal"),
        ],
        inputs={"x": 100},
        outputs="h",
        key=key,
    )
    weight = {n: np.asarray(p.weight) for n, p in net.projections.items()}
    assert weight["x->h"].shape == (200, 100)
    assert abs(weight["x->h"].std() - 0.1) < 0.003 and abs(weight["normal"].std() - 1) < 0.03
    assert np.all(weight["zeros"] == 0) and np.all(weight["own"] == 7)
    assert np.allclose(weight["h->h"] @ weight["h->h"].T, np.eye(200), atol=1e-4)
    assert np.array_equal(net.projections["zeros"].bias, np.zeros(200))
    assert len(np.unique(np.concatenate([weight["x->h"].ravel(), weight["normal"].ravel()]))) > 39_000
    with pytest.raises(ex.errors.ArgumentError, match="Did you mean 'orthogonal'"):
        Dense("x", "h", init="ortogonal")


def test_fan_in_is_the_presynaptic_size_for_every_initialiser(key):
    for name, scale in {"fan_in_normal": 1.0, "fan_in_uniform": 1 / 3, "he_normal": 2.0, "he_uniform": 2.0}.items():
        net = ex.Network({"h": N.LSTM(60)}, [Dense("x", "h", init=name)], inputs={"x": 200}, outputs="h", key=key)
        assert abs(float(jnp.var(net.projections["x->h"].weight)) * 200 / scale - 1) < 0.05, name
    for name in ("glorot_uniform", "glorot_normal"):
        net = ex.Network({"h": N.LSTM(60)}, [Dense("x", "h", init=name)], inputs={"x": 200}, outputs="h", key=key)
        assert abs(float(jnp.var(net.projections["x->h"].weight)) * 260 / 2 - 1) < 0.05, name


@pytest.mark.x64
def test_autapses_and_masked_weights_are_zero_and_stay_zero(key):
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1]])
    ones = np.ones((3, 3))
    net = ex.Network(
        {"h": N.Rate(3)},
        [
            Dense("x", "h"),
            Dense("h", "h", weight=ones, autapses=False),
            Masked("h", "h", name="m", mask=mask, weight=ones),
            Masked("h", "h", name="both", mask=mask, autapses=False),
        ],
        inputs={"x": 2},
        outputs="h",
        key=key,
    )
    allowed = {"h->h": 1 - np.eye(3), "m": mask, "both": mask * (1 - np.eye(3))}
    trial = ex.Trial(jax.random.normal(key, (6, 2, 2)), jax.random.normal(key, (6, 2, 3)))
    for rule in (ex.rules.BPTT(), ex.rules.EProp(evaluation="online")):
        gradient = rule.value_and_grad(net, trial)[1]
        for name, where in allowed.items():
            assert np.all((gradient.projections[name].weight != 0) == (where != 0)), name
    wrong = eqx.tree_at(lambda n: [p.weight for p in n.projections.values()], net, replace_fn=lambda w: w + 1.0)
    assert np.allclose(wrong.run(trial.inputs).outputs, wrong.constrain().run(trial.inputs).outputs, rtol=1e-12)
    for name, where in allowed.items():
        for built in (net, wrong.constrain(key)):
            assert np.all((built.projections[name].weight != 0) == (where != 0)), name
        assert np.all(wrong.projections[name].weight != 0) or name == "both"


def test_density_is_a_share_of_the_connections(key):
    projections = [
        Masked("x", "h", density=0.2),
        Masked("x", "h", density=1.0, name="all"),
        Masked("x", "c", density=0.3),
    ]
    net = ex.Network({"h": relay(100), "c": N.LSTM(20)}, projections, inputs={"x": 100}, outputs="h", key=key)
    share = lambda n, name: float(jnp.mean(n.projections[name].weight != 0))
    assert abs(share(net, "x->h") - 0.2) < 0.02 and share(net, "all") == 1
    ports = net.projections["x->c"].weight != 0
    assert abs(float(jnp.mean(ports)) - 0.3) < 0.05 and bool(jnp.all(ports == ports[:1]))  # a connection has all ports
    assert abs(share(net.initialize(jax.random.key(1)), "x->h") - 0.2) < 0.02


def test_given_weights_are_kept_and_connections_too(key):
    given = np.ones((40, 40))
    net = ex.Network(
        {"h": relay(40)},
        [
            Dense("x", "h"),
            Masked("x", "h", name="m", weight=given, density=0.5),
            Dense("x", "h", name="g", weight=given, bias=True),
        ],
        inputs={"x": 40},
        outputs="h",
        key=key,
    )
    trained = eqx.tree_at(lambda n: n.projections["g"].bias, net, jnp.ones(40))
    again = trained.initialize(jax.random.key(1))
    assert not np.any(again.projections["x->h"].weight == net.projections["x->h"].weight)
    for name in ("m", "g"):
        assert np.array_equal(again.projections[name].weight, net.projections[name].weight)
    assert np.array_equal(again.projections["g"].bias, np.zeros(40))
    assert eqx.tree_equal(net.initialize(jax.random.key(1)), net.initialize(jax.random.key(1)))
    same = lambda n: {k: p.weight is not None and p.weight.shape for k, p in n.projections.items()}
    assert same(again) == same(net)


def test_bias_is_a_constant_current():
    weight, bias = [[1.0], [2.0]], [0.5, -1.0]
    net = ex.Network({"h": relay(2)}, [Dense("x", "h", weight=weight, bias=bias)], inputs={"x": 1}, outputs="h")
    assert np.allclose(net.run(jnp.full((3, 2, 1), 2.0)).outputs, np.broadcast_to([2.5, 3.0], (3, 2, 2)))


# Running.


@pytest.mark.x64
@pytest.mark.parametrize("smooth", [False, True])
def test_run_is_the_plain_simulation(key, smooth):
    net, inputs = full(key, smooth), feed(key)
    record = net.run(inputs, record=("h", "readout.voltage", "h.current", "cell.cell"))
    outputs, activity = simulate(net, inputs, local=False)
    assert float(jnp.std(activity["h"])) > 0.05
    for label in ("y", "inner"):
        assert np.allclose(record.outputs[label], outputs[label], rtol=1e-12, atol=1e-14)
    assert np.allclose(record["h"], activity["h"], rtol=1e-12, atol=1e-14)
    assert np.array_equal(record["readout.voltage"], record.outputs["y"])
    assert record["cell.cell"].shape == (11, 2, 2) and record["h.current"].shape == (11, 2, 3)
    # A recorded current is what its projections say it is.
    p, past = net.projections, lambda y, d: jnp.concatenate([jnp.zeros((d, *y.shape[1:])), y[: y.shape[0] - d]])
    cell = np.asarray(activity["cell"])
    wanted = (
        np.einsum("ji,tbi->tbj", p["x->h"].weight, past(inputs["x"], 2))
        + np.asarray(p["x->h"].bias)
        + np.einsum("ji,tbi->tbj", p["h->h"].weight, past(activity["h"], 1))
        + np.einsum("ji,tbi->tbj", p["cell->h"].weight, past(cell, 3))
    )
    assert np.allclose(record["h.current"], wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.x64
def test_two_pieces_and_single_steps_are_one_run(key):
    net, inputs = full(key), feed(key)
    whole = net.run(inputs)
    assert float(jnp.sum(whole.outputs["inner"])) > 5
    for cut in (1, 5):
        first = net.run(jax.tree.map(lambda x, c=cut: x[:c], inputs))
        second = net.run(jax.tree.map(lambda x, c=cut: x[c:], inputs), state=first.state)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first.outputs, second.outputs)
        assert eqx.tree_equal(both, whole.outputs, rtol=1e-12, atol=1e-14)
        assert eqx.tree_equal(second.state, whole.state, rtol=1e-12, atol=1e-14)
    state, ys = net.init_state(2), []
    assert state.history["x"].shape == (2, 2, 2) and state.history["cell"].shape == (3, 2, 2)
    for t in range(11):
        state, y = net.step(state, jax.tree.map(lambda x, t=t: x[t], inputs))
        ys.append(y)
    assert eqx.tree_equal(jax.tree.map(lambda *y: jnp.stack(y), *ys), whole.outputs, rtol=1e-12, atol=1e-14)
    assert eqx.tree_equal(state, whole.state, rtol=1e-12, atol=1e-14)


@pytest.mark.x64
def test_trials_of_a_batch_do_not_meet(key):
    net, inputs = full(key), feed(key, batch=3)
    whole = net.run(inputs).outputs
    alone = net.run(jax.tree.map(lambda x: x[:, 1:2], inputs)).outputs
    assert eqx.tree_equal(jax.tree.map(lambda y: y[:, 1:2], whole), alone, rtol=1e-12, atol=1e-14)


def test_dicts_keep_their_order_through_jit_and_tree_map(key):
    net = full(key)
    populations, projections = ["readout", "h", "cell"], list(net.projections)
    assert projections[:2] == ["x->h", "u->cell"] and projections[-2:] == ["skip", "fixed"]
    for other in (
        jax.tree.map(lambda x: x, net),
        eqx.filter_jit(lambda n: n)(net),
        net.initialize(key),
        net.constrain(),
    ):
        assert list(other.populations) == populations and list(other.projections) == projections
    assert net.inputs == {"x": 2, "u": 1} and list(net.inputs) == ["x", "u"]


def test_outputs_and_records_by_name(key):
    net = ex.Network(
        {"h": N.LIF(3, refractory=2.0), "r": N.LI(2)},
        [Dense("x", "h"), Dense("h", "r")],
        inputs={"x": 2},
        outputs={"v": "h.voltage", "y": "r"},
        key=key,
    )
    record = net.run(jnp.ones((5, 1, 2)), record=["h", "h.refractory", "r.voltage"])
    assert set(record.outputs) == {"v", "y"} and record.outputs["v"].shape == (5, 1, 3)
    assert record["h.refractory"].dtype == jnp.int32 and np.array_equal(record["r.voltage"], record.outputs["y"])
    for name, nearest in (("hh", "'h'"), ("h.voltag", "'voltage'")):
        with pytest.raises(ex.errors.ArgumentError, match=f"Did you mean {nearest}"):
            net.run(jnp.ones((5, 1, 2)), record=[name])
    with pytest.raises(ex.errors.ArgumentError, match=r"Did you mean 'h\.refractory'"):
        record["h.refractori"]


class Plain(ex.Neuron):
    """State as a bare array, parameters as plain numbers."""

    tau: float = 5.0

    def init_state(self):
        return jnp.zeros(self.size)

    def step(self, state, current):
        state = state + self.dt / self.tau * (current - state)
        return state, state


@pytest.mark.x64
def test_a_users_model_with_a_bare_state(key):
    net = ex.Network({"h": Plain(2)}, [Dense("x", "h", weight=np.eye(2))], inputs={"x": 2}, outputs="h.0", dt=0.5)
    x = jax.random.normal(key, (6, 1, 2))
    record = net.run(x, record=["h", "h.0"])
    h = np.zeros(2)
    for t in range(6):
        h = h + 0.1 * (np.asarray(x[t, 0]) - h)
        assert np.allclose(record.outputs[t, 0], h, rtol=1e-12)
    assert np.array_equal(record["h"], record["h.0"])


def test_types_follow_the_weights(key):
    with jax.enable_x64(True):
        net = full(key)
        assert net.dtype == jnp.float64 and net.run(feed(key)).outputs["y"].dtype == jnp.float64
        narrow = ex.Network(
            {"h": N.LIF(2, tau=np.array([10.0, 20.0]))},
            [Dense("x", "h", weight=np.ones((2, 1), np.float32), bias=True)],
            inputs={"x": 1},
            outputs="h",
        )
        assert narrow.dtype == jnp.float32 and narrow.run(jnp.ones((3, 1, 1))).outputs.dtype == jnp.float32
        mixed = ex.Network(
            {"h": N.LIF(2)},
            [Dense("x", "h", weight=np.ones((2, 1), np.float32)), Dense("h", "h", weight=np.ones((2, 2)))],
            inputs={"x": 1},
            outputs="h",
        )
        assert mixed.dtype == jnp.float64
    assert full(key).dtype == jnp.float32


# Gradients and trees.


@pytest.mark.x64
def test_bptt_against_finite_differences(key):
    net, inputs = full(key, smooth=True), feed(key)
    targets = {n: jax.random.normal(key, (11, 2, s)) for n, s in (("y", 2), ("inner", 3))}
    moved, fixed = eqx.partition(net, ex.trainable_leaves(net))
    point, unravel = ravel_pytree(moved)

    def loss(point):
        outputs = eqx.combine(unravel(point), fixed).run(inputs).outputs
        return sum(jnp.mean(jnp.square(outputs[n] - targets[n])) for n in targets)

    wanted = jax.jit(lambda x: finite_differences(loss, x))(point)
    assert wanted.shape == (70,)  # weights and biases but the fixed one's, four taus, two forget biases
    for leaf in jax.tree.leaves(unravel(wanted)):
        assert float(jnp.max(jnp.abs(leaf))) > 1e-5
    for options in ({}, {"checkpoint": 4}):
        value, gradient = ex.rules.BPTT(**options).value_and_grad(net, ex.Trial(inputs, targets))
        assert abs(float(value) - float(loss(point))) < 1e-12
        assert jax.tree.structure(gradient) == jax.tree.structure(moved)
        assert np.allclose(ravel_pytree(gradient)[0], wanted, rtol=1e-6, atol=1e-9)


def test_trainable_leaves_are_the_networks_tree(key):
    net = full(key, smooth=True)
    marks = ex.trainable_leaves(net)
    assert jax.tree.structure(marks) == jax.tree.structure(net)
    assert all(isinstance(x, bool) for x in jax.tree.leaves(marks))
    assert marks.populations["h"].tau.raw is True and marks.populations["readout"].tau.raw is True
    assert marks.populations["cell"].forget_bias.raw is True
    assert marks.projections["x->h"].weight is True and marks.projections["x->h"].bias is True
    assert marks.projections["fixed"].weight is False and marks.projections["h->readout"].mask is False
    plain = ex.trainable_leaves(full(key))
    assert not any(jax.tree.leaves(plain.populations["h"]))


def test_summary_counts_what_trains(key):
    text = full(key, smooth=True).summary()
    moved = {
        "x->h": 9,
        "u->cell": 16,
        "h->h": 9,
        "h->cell.forget": 8,
        "cell->h": 6,
        "h->readout": 6,
        "cell->readout": 6,
        "skip": 4,
        "fixed": 0,
    }
    for name, count in moved.items():
        assert re.search(rf"{re.escape(name)} .*, {count} trainable", text), name
    assert re.search(r"input +x +2 units", text) and re.search(r"population +h +3 Rate units, 3 trainable", text)
    assert f"{sum(moved.values()) + 1 + 3 + 2} trainable parameters in all" in text
    assert "delay 3" in text and "readout, h" in text


# What is refused.


def _net(populations=None, projections=None, inputs=None, outputs="r", **options):
    populations = {"hidden": N.LIF(3), "r": N.LI(2)} if populations is None else populations
    projections = [Dense("x", "hidden"), Dense("hidden", "r")] if projections is None else projections
    return ex.Network(
        populations, projections, inputs=inputs or {"x": 2}, outputs=outputs, **{"key": jax.random.key(0), **options}
    )


REFUSED = {
    "pre": ({"projections": [Dense("hiden", "r")]}, "hiden->r.*Did you mean 'hidden'"),
    "post": ({"projections": [Dense("x", "hiddn")]}, "x->hiddn.*Did you mean 'hidden'"),
    "post is an input": ({"projections": [Dense("hidden", "x")]}, "'x', which is an input"),
    "port": ({"projections": [Dense("x", "hidden.forget")]}, "port of 'hidden'"),
    "port spelling": (
        {"populations": {"r": N.LSTM(3)}, "projections": [Dense("x", "r.forgt")]},
        "Did you mean 'forget'",
    ),
    "output": ({"outputs": "rr"}, "Did you mean 'r'"),
    "output in a dict": ({"outputs": {"y": "hiden"}}, "Did you mean 'hidden'"),
    "output variable": ({"outputs": "hidden.voltag"}, "Did you mean 'voltage'"),
    "output current": ({"outputs": "hidden.current"}, "not its current"),
    "duplicate": ({"projections": [Dense("x", "r"), Dense("x", "r")]}, "'x->r': give one of them name="),
    "both": ({"inputs": {"r": 2}}, "'r' is both"),
    "dot": ({"populations": {"a.b": N.LI(1)}}, r"'a\.b'"),
    "arrow": ({"inputs": {"a->b": 2}}, "'a->b'"),
    "dt": ({"dt": 30.0}, "population 'hidden': tau.*shorter than the time step"),
    "weight shape": (
        {"projections": [Dense("x", "r", weight=np.ones((3, 2)))]},
        r"'x->r': weight must have shape \(2, 2\)",
    ),
    "bias shape": ({"projections": [Dense("x", "r", bias=np.ones(3))]}, r"'x->r': bias must have shape \(2,\)"),
    "mask shape": ({"projections": [Masked("x", "r", mask=np.ones((3, 2)))]}, r"'x->r': mask must have shape \(2, 2\)"),
    "autapses": ({"projections": [Dense("hidden", "r", autapses=False)]}, "'hidden->r': autapses"),
    "no key": ({"key": None}, "'x->hidden' has no weight"),
    "no key for density": (
        {"key": None, "projections": [Masked("x", "r", weight=np.ones((2, 2)), density=0.5)]},
        "'x->r': density needs key",
    ),
    "itself": ({"projections": [Dense("hidden", "hidden", delay=0)]}, "cycle within a step: hidden -> hidden"),
    "cycle": (
        {
            "populations": {n: relay() for n in "abcr"},
            "projections": [Dense(a, b, delay=0) for a, b in ("xa", "ab", "bc", "ca", "cr")],
            "inputs": {"x": 1},
        },
        "cycle within a step: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)",
    ),
}


@pytest.mark.parametrize(("changed", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_network_refuses(changed, message):
    _net()
    with pytest.raises(ex.errors.NetworkError, match=message):
        _net(**changed)


def test_tau_of_one_unit_alone_is_enough_to_refuse():
    with pytest.raises(ex.errors.NetworkError, match="tau"):
        _net({"r": N.LI(2, tau=ex.trainable([0.5, 20.0], positive=True))}, [Dense("x", "r")])
    _net({"r": N.LI(2, tau=1.0)}, [Dense("x", "r")])


@pytest.mark.unchecked
def test_inputs_must_fit(key):
    net = full(key)
    good = feed(key)
    for inputs, message in [
        (good["x"], "several inputs"),
        ({"x": good["x"]}, "'u' is missing"),
        ({**good, "w": good["x"]}, "unknown input 'w'"),
        ({"x": good["x"], "u": good["x"]}, r"'u' must be \(time, batch, 1\)"),
        ({"x": good["x"][:5], "u": good["u"]}, "same numbers of steps"),
        ({"x": good["x"][0], "u": good["u"]}, "'x' must be"),
    ]:
        with pytest.raises(ex.errors.ArgumentError, match=message):
            net.run(inputs)


@pytest.mark.unchecked
def test_sizes_may_be_numpys(key):
    net = ex.Network(
        {"out": ex.neurons.LI(np.int64(2))},
        [ex.Dense("input", "out")],
        inputs={"input": np.int64(3)},
        outputs="out",
        key=key,
    )
    assert net.inputs == {"input": 3} and type(net.inputs["input"]) is int
