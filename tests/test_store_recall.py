"""The store-recall task: its grammar, its spikes, and what counts as an answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import TaskError


def read(task, trial):
    """The slots as NumPy sees them: rates of the groups (slots, batch, groups), targets, whether asked."""
    spikes = np.asarray(trial.inputs).reshape(task.slots, task.slot, -1, task.symbols + 2, task.group)
    targets = np.asarray(trial.targets).reshape(task.slots, task.slot, -1)
    asked = np.asarray(trial.mask).reshape(task.slots, task.slot, -1)
    assert (targets == targets[:, :1]).all() and (asked == asked[:, :1]).all()
    return spikes.mean((1, 4)), targets[:, 0], asked[:, 0]


@pytest.mark.parametrize(
    "settings", [{}, {"distractors": True}, {"symbols": 5, "slots": 30, "probability": 0.5}], ids=str
)
def test_a_trial_follows_the_grammar(settings, key):
    task = tasks.get("store_recall", **{"slot": 60, "rate": 100.0, **settings})
    rates, targets, asked = read(task, task.sample(key, 40))
    on = rates > 0.03
    *symbols, store, recall = np.moveaxis(on, -1, 0)
    symbols = np.stack(symbols, -1)
    assert not (store & recall).any()
    np.testing.assert_array_equal(recall, asked == 1)
    assert not targets[asked == 0].any()
    shown = symbols.sum(-1)
    np.testing.assert_array_equal(shown, ~recall if task.distractors else store)
    for trial in range(40):
        memory = None
        for slot in range(task.slots):
            if store[slot, trial]:
                assert memory is None
                memory = int(symbols[slot, trial].argmax())
            elif recall[slot, trial]:
                assert targets[slot, trial] == memory
                memory = None
    assert asked.sum() > 10 and len(set(targets[asked == 1])) == task.symbols


def test_chances_and_rates_are_those_that_were_set(key):
    task = tasks.get("store_recall", slots=6, slot=20)
    rates, _, asked = read(task, task.sample(key, 3000))
    commands = (rates[..., 2] > 0) | (rates[..., 3] > 0)
    # A slot of 20 ms and 25 units at 50 Hz has no spike once in e^25 slots.
    p, n = 1 / 7, commands.size
    assert abs(commands.mean() - p) < 4 * np.sqrt(p * (1 - p) / n)
    # Recall in the second slot: a store in the first, then a recall.
    assert abs(asked[1].mean() - p * p) < 4 * np.sqrt(p * p / 3000)
    on = rates[..., 3][asked == 1]
    assert abs(on.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / (on.size * 500))


def test_the_defaults_are_the_published_settings():
    task = tasks.get("store_recall")
    assert (task.steps, task.input_size, task.output_size, task.dt) == (2400, 100, 2, 1.0)


def test_answers_are_means_over_slots(key):
    task = tasks.get("store_recall", slot=8, probability=0.6)
    trial = task.sample(key, 30)
    right = jax.nn.one_hot(trial.targets, 2) + 0.0
    assert float(task.score(right, trial)) == 1.0
    assert float(task.score(-right, trial)) == 0.0
    assert float(task.weight(trial)) == float(trial.mask.sum()) / 8
    # Most steps of a slot may be wrong, if the others are sure.
    sure = jnp.where((jnp.arange(task.steps) % 8 == 0)[:, None, None], 10 * right, -right)
    assert float(task.score(sure, trial)) == 1.0
    # What is said elsewhere does not count, and no number is no answer.
    elsewhere = jnp.where(trial.mask[..., None] > 0, right, 1 - right)
    assert float(task.score(elsewhere, trial)) == 1.0
    assert float(task.score(jnp.full_like(right, jnp.nan), trial)) == 0.0
    with pytest.raises(TaskError, match="steps"):
        task.score(right[:-1], trial)


def test_trials_without_a_recall_weigh_nothing(key):
    task = tasks.get("store_recall", slot=5, probability=1e-6)
    trial = task.sample(key, 4)
    assert float(task.weight(trial)) == 0.0 and float(task.score(jnp.zeros((60, 4, 2)), trial)) == 0.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [("symbols", 1), ("slots", 0), ("slot", 0), ("rate", -1.0), ("probability", 0.0), ("distractors", 1)],
)
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(TaskError, match=setting):
        tasks.get("store_recall", **{setting: value})
