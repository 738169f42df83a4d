"""Trainings that end early, and curricula made of them."""

import jax
import numpy as np
import optax
import pytest

import engrax as ex
from engrax.errors import ArgumentError
from engrax.training.recipe import load

RULE, ADAM = ex.rules.EProp(), optax.adam(0.01)


def task(cues: int) -> ex.tasks.Task:
    settings = {"cue": 10, "gap": 2, "delay": 5, "recall": 5, "rate": 400.0, "trials": 60, "validation_trials": 60}
    return ex.tasks.get("evidence", cues=cues, **settings)


@pytest.fixture
def net(key: jax.Array) -> ex.Network:
    populations = {"hidden": ex.neurons.LIF(20, threshold=0.4), "readout": ex.neurons.LI(2)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
    return ex.Network(populations, projections, inputs={"input": 40}, outputs="readout", key=key)


def fit(net: ex.Network, steps: int, **options: object) -> ex.Run:
    return ex.fit(net, task(1), RULE, ADAM, steps, batch=20, validate_every=5, progress=False, **options)


@pytest.mark.slow
def test_training_ends_when_it_is_good_enough(net: ex.Network, tmp_path) -> None:
    whole = fit(net, 40)
    reached = [e["step"] for e in whole.history if e["validation_accuracy"] >= 0.9]
    assert reached and 5 < reached[0] < 40, [e["validation_accuracy"] for e in whole.history]
    early = fit(net, 40, until=0.9, out=tmp_path / "a")
    assert early.steps == reached[0] == early.history[-1]["step"] and len(early.losses) == early.steps
    for a, b in zip(early.history, whole.history, strict=False):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    # Taken up again, it is still at its end.
    again = fit(net, 40, until=0.9, out=tmp_path / "a", resume=True)
    assert again.steps == early.steps and again.test_accuracy == early.test_accuracy
    assert fit(net, 10, until=0.0).steps == 5


@pytest.mark.slow
def test_every_seed_must_be_good_enough(net: ex.Network) -> None:
    run = fit(net, 40, seeds=2, until=0.9)
    figures = np.array([e["validation_accuracy_per_seed"] for e in run.history])
    best = np.maximum.accumulate(figures)
    assert np.all(best[-1] >= 0.9) == (run.steps < 40) and not np.any(np.all(best[:-1] >= 0.9, axis=1))


@pytest.mark.slow
def test_a_loss_must_be_low_enough(key: jax.Array) -> None:
    populations = {"hidden": ex.neurons.LIF(20, threshold=0.4), "readout": ex.neurons.LI(1)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "readout")]
    pattern = ex.tasks.get("pattern", steps=50, periods=(50, 25))
    inputs = {"input": pattern.input_size}
    net = ex.Network(populations, projections, inputs=inputs, outputs="readout", key=key)
    run = ex.fit(net, pattern, RULE, ADAM, 6, batch=1, validate_every=2, until=1e9, progress=False)
    assert run.steps == 2
    run = ex.fit(net, pattern, RULE, ADAM, 6, batch=1, validate_every=2, until=0.0, progress=False)
    assert run.steps == 6


@pytest.mark.slow
def test_a_curriculum_goes_on_with_the_network_of_the_stage_before(net: ex.Network, tmp_path, key: jax.Array) -> None:
    stages = [task(1), task(3), task(5)]
    runs = ex.curriculum(
        net.replace(),
        stages[:2],
        RULE,
        ADAM,
        20,
        until=0.8,
        key=key,
        out=tmp_path,
        batch=20,
        validate_every=5,
        progress=False,
    )
    assert [type(run.task) for run in runs] == [ex.tasks.Evidence] * 2 and [run.task.cues for run in runs] == [1, 3]
    assert runs[0].steps < 20 and runs[1].steps == 20
    assert (tmp_path / "1" / "result.json").is_file() and (tmp_path / "2" / "result.json").is_file()
    alone = ex.fit(
        runs[0].network, stages[1], RULE, ADAM, 20, batch=20, validate_every=5, key=jax.random.fold_in(key, 1),
        progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(alone.losses, runs[1].losses)


@pytest.mark.unchecked
@pytest.mark.parametrize("until", ["0.9", True, float("nan")])
def test_good_enough_is_a_number(net: ex.Network, until: object) -> None:
    with pytest.raises(ArgumentError, match="until must be a number"):
        fit(net, 10, until=until)


@pytest.mark.unchecked
def test_a_curriculum_refuses_what_is_none(net: ex.Network) -> None:
    for tasks in ([], task(1)):
        with pytest.raises(ArgumentError, match="list of tasks"):
            ex.curriculum(net, tasks, RULE, ADAM, 5, until=0.9)
    with pytest.raises(ArgumentError, match="one network"):
        ex.curriculum(net, [task(1)], RULE, ADAM, 5, until=0.9, seeds=2)


def test_recipes_may_end_early() -> None:
    assert load("digits", ["training.until=0.9"]).training.until == 0.9
    assert load("digits").training.until is None
