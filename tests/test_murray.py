"""Murray 2019: its tasks, the loop that makes sequences, and the derivation of its appendix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax import tasks
from engrax.errors import ArgumentError, TaskError
from engrax.papers.murray2019 import network, rule_of, trained
from engrax.papers.murray2019_mathematics import drift
from engrax.rl.sequence_loop import SequenceLoop, learn_sequence, play
from engrax.tasks.syllables import DIRECTIONS
from engrax.testing import check_task


@pytest.mark.parametrize(
    ("name", "settings"),
    [("periodic", {"period": 40}), ("ready_set_go", {"longest": 30, "shortest": 10, "width": 3.0}), ("syllables", {})],
)
def test_the_contract(name, settings):
    check_task(tasks.get(name, **settings))


def test_the_periodic_target_is_the_papers():
    task = tasks.get("periodic", period=200)
    trial = task.sample(jax.random.key(0), 3)
    assert trial.inputs.shape == (200, 3, 1) and float(jnp.abs(trial.inputs).max()) == 0
    t = np.array([25, 50, 200])
    wanted = np.sin(2 * np.pi * t / 200) + 0.5 * np.sin(4 * np.pi * t / 200) + 0.25 * np.sin(8 * np.pi * t / 200)
    np.testing.assert_allclose(trial.targets[t - 1, 1, 0], wanted, atol=1e-6)
    silence = task.score(jnp.zeros_like(trial.targets), trial)
    np.testing.assert_allclose(float(silence), (1 + 1 / 4 + 1 / 16) / 2, rtol=1e-6)


@pytest.mark.parametrize("variant", ["", "readout frozen", "readout alone", "dale"])
def test_variants_of_the_periodic_network_learn_what_they_may(variant, tmp_path):
    before = network(variant=variant).initialize(jax.random.key(1))
    rule = rule_of("rflo")
    net = rule.bind(before, jax.random.key(2))
    trial = tasks.get("periodic", period=40).sample(jax.random.key(0), 1)
    _, gradient = rule.value_and_grad(net, trial)
    moving = {name for name, p in gradient.projections.items() if p.weight is not None and bool(jnp.any(p.weight))}
    wanted = {"hidden->hidden", "hidden->readout"}
    assert moving == {
        "readout frozen": wanted - {"hidden->readout"},
        "readout alone": wanted - {"hidden->hidden"},
    }.get(variant, wanted)
    found = trained("rflo", 4, 0.03, tmp_path / "x", print, 60, (0, 1), 8, variant)
    assert np.shape(found["curve"])[0] == 2 and np.all(np.isfinite(found["final"]))


def test_ready_set_go_asks_for_the_interval_again():
    task = tasks.get("ready_set_go", longest=60, shortest=20, width=5.0, trials=40)
    trial = task.trial(jnp.array([20.0, 33.0, 60.0]))
    assert trial.inputs.shape == (15 * 2 + 120, 3, 1)
    for i, delay in enumerate((20, 33, 60)):
        x = np.asarray(trial.inputs[:, i, 0])
        peaks = [t for t in range(1, len(x) - 1) if x[t - 1] < x[t] > x[t + 1]]
        assert peaks == [15, 15 + delay]
        assert int(np.argmax(trial.targets[:, i, 0])) == 15 + 2 * delay
    np.testing.assert_array_equal(task.delays(trial), [20, 33, 60])
    assert float(task.metrics(trial.targets, trial)["peak_error"]) == 0
    late = jnp.roll(trial.targets, 4, axis=0)
    assert float(task.metrics(late, trial)["peak_error"]) == 4
    # What comes before the second pulse is no answer.
    early = trial.targets.at[3].set(5.0)
    assert float(task.metrics(early, trial)["peak_error"]) == 0
    drawn = task.delays(task.sample(jax.random.key(0), 500))
    assert (float(drawn.min()), float(drawn.max())) == (20.0, 60.0)


def test_syllables_stay_on_the_board_and_sequences_are_told_their_first_alone():
    task = tasks.get("syllables", length=10)
    trial = task.sample(jax.random.key(0), 4000)
    assert trial.inputs.shape == (20, 4000, 4) and float(jnp.abs(trial.inputs[10:]).max()) == 0
    direction = jnp.argmax(trial.inputs[0], axis=-1)
    way = jnp.sum(trial.targets, axis=0)
    way = way / jnp.linalg.norm(way, axis=1, keepdims=True)
    np.testing.assert_allclose(way, jnp.asarray(DIRECTIONS)[direction], atol=1e-6)
    assert float(jnp.abs(trial.targets[10:]).max()) == 0
    shares = np.bincount(np.asarray(direction), minlength=4) / 4000
    np.testing.assert_allclose(shares, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 4000))
    square = tasks.get("syllables", length=10, sequence=[0, 1, 2, 3]).sample(jax.random.key(0), 2)
    assert square.inputs.shape == (80, 2, 4) and float(square.inputs[20:].sum()) == 0
    np.testing.assert_allclose(square.targets.sum(axis=0), 0, atol=1e-5)
    with pytest.raises(TaskError, match="sequence leaves the board"):
        tasks.get("syllables", sequence=[0, 0, 0])


def test_a_loop_learns_the_order_that_is_rewarded_and_no_other():
    """From states at right angles it can learn any order, from equal ones none."""
    steps, order = jnp.asarray(DIRECTIONS), (0, 1, 2, 3)
    loop = SequenceLoop.draw(4, 20, jax.random.key(3), rate=0.1)
    apart = jnp.eye(4, 20)
    learnt = learn_sequence(loop, apart, steps, order, 2000, jax.random.key(0))
    assert play(learnt.loop, apart, steps, 0, 4).tolist() == list(order)
    # Exploration alone is wrong now: 0.9 and a third of the rest, where three are allowed.
    assert float(learnt.right[-500:].mean()) > 0.75 > float(learnt.right[:20].mean())
    np.testing.assert_allclose(
        jnp.linalg.norm(learnt.loop.weight, axis=1), jnp.linalg.norm(loop.weight, axis=1), rtol=1e-4
    )
    alike = jnp.ones((4, 20))
    confused = learn_sequence(loop, alike, steps, order, 2000, jax.random.key(0)).loop
    assert play(confused, alike, steps, 0, 4).tolist() != list(order)


def test_a_loop_obeys_the_board_and_its_settings():
    loop = SequenceLoop(jnp.array([[1.0], [2.0], [3.0], [4.0]]), explore=0.0)
    state = jnp.ones(1)
    assert int(loop.choose(state, jnp.array([True, True, False, False]))) == 1
    key = jax.random.key(0)
    assert int(loop.choose(state, jnp.array([True, True, True, False]), key)) == 2
    with pytest.raises(ArgumentError, match="explore must be a probability"):
        SequenceLoop(loop.weight, explore=1.5)


@pytest.mark.x64
def test_the_drift_of_the_overlap_is_that_of_a_simulation():
    """Written out with numpy for small sizes and many trials: one step of W, then of w, on the same activity."""
    units, steps, trials, leak, small = 3, 12, 200_000, 0.1, 1e-4
    random = np.random.RandomState(0)
    w, b, target = (random.randn(n) for n in (units, units, steps))
    noise = random.randn(trials, steps, units)

    def run(matrix):
        h, found = np.zeros((trials, units)), []
        for t in range(steps):
            heard = np.einsum("nij,nj->ni", matrix, h) if matrix is not None else 0.0
            h = (1 - leak) * h + leak * (heard + noise[:, t])
            found.append(h)
        return np.stack(found, axis=1)

    h = run(None)
    wrong = target[None] - h @ w
    p, traces = np.zeros((trials, units)), []
    for t in range(steps):
        p = (1 - leak) * p + leak * (h[:, t - 1] if t else 0.0)
        traces.append(p)
    traces = np.stack(traces, axis=1)
    step = small * b[None, :, None] * np.einsum("nt,ntj->nj", wrong, traces)[:, None] / steps
    moved = run(step)
    turn = lambda h: np.einsum("nt,nti->ni", target[None] - h @ w, h) @ b / steps
    found = (turn(moved) - turn(h)) / small
    error = found.std() / np.sqrt(trials)
    assert abs(found.mean() - float(drift(jnp.asarray(w), jnp.asarray(b), jnp.asarray(target)))) < 4 * error
    assert error < 0.02 * abs(found.mean())


def test_the_networks_start_where_the_paper_starts_them():
    units = ex.neurons.Rate(3, tau=10.0, initial=0.1)
    np.testing.assert_allclose(units.init_state().rate, 0.1)
    _, output = units.step(units.init_state(), jnp.zeros(3))
    np.testing.assert_allclose(output, 0.09, rtol=1e-6)
