"""Optimisers: the formulas by hand, and a table that runs every named one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax import optim
from engrax.errors import ArgumentError


@pytest.fixture
def net(key):
    """A network with adaptive feedback and trained time constants."""
    populations = {
        "hidden": ex.neurons.ALIF(
            4, tau=ex.trainable(20.0, positive=True), tau_adaptation=ex.trainable(100.0, positive=True)
        ),
        "readout": ex.neurons.LI(2, tau=ex.trainable(20.0, positive=True)),
    }
    projections = [ex.Dense("input", "hidden", bias=True), ex.Dense("hidden", "readout", name="out")]
    plain = ex.Network(populations, projections, inputs={"input": 3}, outputs="readout", key=key)
    return ex.rules.EProp(feedback="adaptive").bind(plain, key)


def params(net):
    return eqx.filter(net, ex.trainable_leaves(net))


def random_like(tree, seed=0):
    random = np.random.RandomState(seed)
    return jax.tree.map(lambda x: jnp.asarray(random.randn(*x.shape), x.dtype), tree)


@pytest.mark.x64
def test_adam_tensorflow_is_the_formula():
    random = np.random.RandomState(0)
    gradients = random.randn(20, 3) * 1e-7  # small, so that eps decides
    optimizer = optim.adam_tensorflow(0.01, b1=0.8, b2=0.95, eps=1e-8)
    w = jnp.zeros(3)
    state = optimizer.init(w)
    m, v, by_hand = np.zeros(3), np.zeros(3), np.zeros(3)
    for t, g in enumerate(gradients, 1):
        updates, state = optimizer.update(jnp.asarray(g), state, w)
        w = w + updates
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        by_hand -= 0.01 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t) * m / (np.sqrt(v) + 1e-8)
    assert np.abs(by_hand).min() > 0
    np.testing.assert_allclose(w, by_hand, rtol=1e-12)
    other = optax.adam(0.01, b1=0.8, b2=0.95, eps=1e-8)
    with jax.numpy_dtype_promotion("standard"):
        first, _ = other.update(jnp.asarray(gradients[0]), other.init(jnp.zeros(3)))
    mine, _ = optimizer.update(jnp.asarray(gradients[0]), optimizer.init(jnp.zeros(3)))
    assert np.max(np.abs(first / mine - 1)) > 0.01  # the test tells the two apart


def test_adam_tensorflow_takes_a_schedule_of_the_steps_taken():
    optimizer = optim.adam_tensorflow(lambda count: jnp.where(count == 1, 0.0, 1.0))
    state = optimizer.init(jnp.ones(2))
    sizes = []
    for _ in range(3):
        updates, state = optimizer.update(jnp.ones(2), state)
        sizes.append(float(jnp.max(jnp.abs(updates))))
    assert sizes[0] > 0.9 and sizes[1] == 0 and sizes[2] > 0.9


def test_kolen_pollack_multiplies_both_weights_and_nothing_else(net):
    p = params(net)
    updates = random_like(p)
    decayed, _ = (tx := optim.kolen_pollack(0.1)).update(updates, tx.init(p), p)
    back, forth = (lambda t: t.feedback["readout->hidden"].weight), (lambda t: t.projections["out"].weight)
    for where in (back, forth):
        np.testing.assert_allclose(where(p) + where(decayed), 0.9 * (where(p) + where(updates)), rtol=1e-5, atol=1e-6)
    same = eqx.tree_at(lambda t: [back(t), forth(t)], decayed, [back(updates), forth(updates)])
    assert eqx.tree_equal(same, updates)


def test_kolen_pollack_brings_feedback_to_the_readout_weights(net):
    p = params(net)
    tx = optim.kolen_pollack(0.1)
    gap = lambda t: jnp.linalg.norm(t.feedback["readout->hidden"].weight - t.projections["out"].weight.T)
    before = float(gap(p))
    assert before > 0.1
    for i in range(10):
        updates = random_like(p, i)
        mirrored = updates.projections["out"].weight.T  # as the rule's gradient is
        updates = eqx.tree_at(lambda t: t.feedback["readout->hidden"].weight, updates, mirrored)
        p = eqx.apply_updates(p, tx.update(updates, tx.init(p), p)[0])
    assert float(gap(p)) == pytest.approx(before * 0.9**10, rel=1e-4)


@pytest.mark.unchecked
def test_kolen_pollack_says_what_it_misses(net):
    tx = optim.kolen_pollack(0.1)
    with pytest.raises(ArgumentError, match="adaptive"):
        tx.init(params(net.replace(feedback=type(net.feedback)())))
    with pytest.raises(ArgumentError, match="params"):
        tx.update(params(net), tx.init(params(net)))


def test_multiply_scales_what_is_named_and_the_longest_name_counts(net):
    p = params(net)
    ones = jax.tree.map(jnp.ones_like, p)
    tx = optim.multiply({"tau": 3.0, "readout.tau": 2.0, "input->hidden.weight": 0.0})
    updates, _ = tx.update(ones, tx.init(p))
    assert float(updates.populations["hidden"].tau.raw) == 3.0
    assert float(updates.populations["readout"].tau.raw) == 2.0
    assert float(updates.populations["hidden"].tau_adaptation.raw) == 1.0  # "tau" is a whole word
    assert not updates.projections["input->hidden"].weight.any()
    assert (updates.projections["input->hidden"].bias == 1).all()


def test_multiply_refuses_a_name_that_fits_nothing(net):
    with pytest.raises(ArgumentError, match=r"hidden\.taus.*Did you mean 'populations\.hidden\.tau'"):
        optim.multiply({"hidden.taus": 3.0}).init(params(net))


def test_leaves_follow_schedules_and_the_others_an_optimiser(net):
    p, slope = params(net), optax.linear_schedule(40.0, 20.0, 4)
    grads = jax.tree.map(jnp.ones_like, p)
    tx = optim.follow(
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5)),
        {"hidden.tau": slope, "bias": lambda n: n.astype(float) / 2},
    )
    state, weight = tx.init(p), p.projections["out"].weight
    followed = {id(p.populations["hidden"].tau.raw), id(p.projections["input->hidden"].bias)}
    length = np.sqrt(sum(x.size for x in jax.tree.leaves(p) if id(x) not in followed))
    for step in (1, 2):
        updates, state = tx.update(grads, state, p)
        p = eqx.apply_updates(p, updates)
        # Its value, though it is stored as what keeps it positive.
        np.testing.assert_allclose(p.populations["hidden"].tau.value, 40.0 - 5 * step, rtol=1e-6)
        np.testing.assert_allclose(p.projections["input->hidden"].bias, step / 2, rtol=1e-6)
        # Clipped by the norm of the rest alone.
        np.testing.assert_allclose(p.projections["out"].weight, weight - 0.5 * step / length, rtol=1e-5)


def test_follow_refuses_what_it_cannot_do(net):
    p, tx = params(net), optim.follow(optax.sgd(0.1), {"hidden.tau": lambda _: 10.0})
    with pytest.raises(ArgumentError, match=r"hidden\.taus.*Did you mean 'populations\.hidden\.tau'"):
        optim.follow(optax.sgd(0.1), {"hidden.taus": lambda _: 10.0}).init(p)
    with pytest.raises(ArgumentError, match="leaf names and schedules"):
        optim.follow(optax.sgd(0.1), {"hidden.tau": 10.0})
    with pytest.raises(ArgumentError, match="needs the parameters"):
        tx.update(p, tx.init(p))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "constant"}, [1.0, 1.0, 1.0]),
        ({"name": "step", "every": 5, "factor": 0.1}, [1.0, 0.1, 0.01]),
        ({"name": "linear", "steps": 10, "end": 0.5}, [1.0, 0.75, 0.5]),
        ({"name": "cosine", "steps": 10}, [1.0, 0.5, 0.0]),
    ],
)
def test_schedule(settings, expected):
    values = [float(optim.schedule(1.0, **settings)(count)) for count in (0, 5, 10)]
    assert values == pytest.approx(expected, abs=1e-6)


def test_a_plateau_lowers_the_rate_and_a_falling_loss_does_not():
    tx = optim.get("sgd", 1.0, schedule={"name": "plateau", "every": 2, "patience": 3, "factor": 0.1, "end": 0.05})
    state, rates = tx.init(jnp.zeros(1)), []
    for value in [8.0, 6.0, 4.0, 2.0, *[3.0] * 20]:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(jnp.ones(1), state, jnp.zeros(1), value=jnp.asarray(value))
        rates.append(-float(updates[0]))
    # The lowest mean of two is 3, the second one's; three means of 3 end a patience of three.
    np.testing.assert_allclose(rates, [1.0] * 9 + [0.1] * 6 + [0.05] * 9, rtol=1e-6)


@pytest.mark.nightly
def test_fit_tells_a_plateau_the_loss():
    """By a rate that falls to nothing after two steps that hardly move: all later ones move nothing."""
    task = ex.tasks.get("orbit", horizon=6.0)
    unit = {"out": ex.neurons.Rate(2, tau=1.0)}
    net = ex.Network(
        unit,
        [ex.Dense("input", "out", weight=jnp.ones((2, 1)), bias=jnp.zeros(2))],
        inputs={"input": 1},
        outputs="out",
        dt=0.1,
    )
    tx = optim.get("sgd", 1e-6, schedule={"name": "plateau", "every": 1, "patience": 1, "factor": 1e-9})
    bias = []
    watch = lambda step, nets: bias.append(np.asarray(nets.projections["input->out"].bias)) or {}
    ex.fit(net, task, ex.rules.BPTT(), tx, steps=12, batch=1, validate_every=2, watch=watch, progress=False)
    assert len(bias) == 6 and np.all(bias[0] != 0)
    np.testing.assert_allclose(bias[-1], bias[0], rtol=1e-3)


@pytest.mark.parametrize("name", optim.NAMES)
def test_every_named_optimiser_descends(name):
    tx = optim.get(name, 0.05, schedule=None if name in ("rprop", "sm3") else {"name": "cosine"}, steps=100)
    w = jnp.asarray([[1.0, -2.0], [0.5, 3.0]])
    value = lambda w: jnp.sum(jnp.square(w))
    start = float(value(w))

    @jax.jit
    def step(w, state):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = tx.update(jax.grad(value)(w), state, w)
        return w + updates.astype(w.dtype), state

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state = tx.init(w)
    for _ in range(60):
        w, state = step(w, state)
    assert float(value(w)) < start


def test_clip_norm_limits_the_gradient():
    tx = optim.get("sgd", 1.0, clip_norm=0.5)
    updates, _ = tx.update(jnp.asarray([30.0, 40.0]), tx.init(jnp.zeros(2)))
    np.testing.assert_allclose(updates, [-0.3, -0.4], rtol=1e-6)


def test_options_reach_the_optimiser():
    tx = optim.get("sgd", 1.0, momentum=0.5)
    state = tx.init(jnp.zeros(1))
    _, state = tx.update(jnp.ones(1), state)
    updates, _ = tx.update(jnp.ones(1), state)
    np.testing.assert_allclose(updates, [-1.5])


NAN = float("nan")


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "word"),
    [
        *[(lambda x=x: optim.adam_tensorflow(x), "learning_rate") for x in ("abc", None, True, 0.0, -1.0, NAN)],
        *[(lambda x=x: optim.adam_tensorflow(0.1, b1=x), "b1") for x in ("abc", None, 1.0, -0.1, NAN)],
        *[(lambda x=x: optim.adam_tensorflow(0.1, b2=x), "b2") for x in ("abc", None, 1.0, -0.1, NAN)],
        *[(lambda x=x: optim.adam_tensorflow(0.1, eps=x), "eps") for x in ("abc", None, 0.0, -1.0, NAN)],
        *[(lambda x=x: optim.kolen_pollack(x), "decay") for x in ("abc", None, 1.0, -0.1, NAN, True)],
        *[(lambda x=x: optim.multiply(x), "multipliers") for x in ("abc", None, 3.0, {"tau": "abc"}, {"tau": -1.0})],
        *[(lambda x=x: optim.get(x, 0.1), "optimiser") for x in ("adm", "", None, 5)],
        *[(lambda x=x: optim.get("adam", x), "learning_rate") for x in ("abc", None, 0.0, NAN)],
        *[(lambda x=x: optim.get("adam", 0.1, clip_norm=x), "clip_norm") for x in ("abc", 0.0, NAN, True)],
        *[(lambda x=x: optim.follow(optax.sgd(0.1), x), "follow") for x in ("abc", None, {"tau": 3.0})],
        *[(lambda x=x: optim.plateau(every=x), "every") for x in ("abc", 0, None)],
        *[(lambda x=x: optim.plateau(every=1, factor=x), "factor") for x in (0.0, 1.0, NAN)],
        *[(lambda x=x: optim.plateau(every=1, end=x), "end") for x in (-0.1, 2.0)],
        (lambda: optim.get("adam", 0.1, schedule={"name": "plateau"}), "every"),
        (lambda: optim.get("adam", 0.1, schedule={"name": "plateau", "every": 3, "patince": 3}), "patience"),
        *[(lambda x=x: optim.get("adam", 0.1, schedule=x), "schedule") for x in ("abc", 3, {"name": "stp"})],
        (lambda: optim.get("adam", 0.1, schedule={"name": "step"}), "every"),
        (lambda: optim.get("adam", 0.1, schedule={"name": "cosine"}), "steps"),
        (lambda: optim.get("adam", 0.1, schedule={"name": "step", "evry": 3}), "every"),
        (lambda: optim.get("sm3", 0.1, schedule={"name": "constant"}), "schedule"),
        (lambda: optim.get("adam", 0.1, bb1=0.9), "b1"),
        (lambda: optim.get("adam", 0.1, b1="abc"), "b1"),
    ],
)
def test_nonsense_is_refused_by_name(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
