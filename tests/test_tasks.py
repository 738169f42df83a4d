"""Tasks: what each owes to a trainer, and its mathematics (ECG files: test_data.py; speech: test_speech.py)."""

import os
import pathlib
import shutil
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import ArgumentError, TaskError
from engrax.tasks.pattern import sines
from engrax.tasks.task import SPLITS
from recordings import recordings, same, save

SOURCE = pathlib.Path(tasks.__file__).parents[2]


NAMES = (
    "digits",
    "digits-pixels",
    "evidence",
    "store_recall",
    "pattern",
    "npz-trial",
    "npz-step",
    "npz-values",
    "ecg",
    "fsdd",
)


@pytest.fixture(params=NAMES)
def task(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> tasks.Task:
    name, _, variant = request.param.partition("-")
    if name in ("ecg", "fsdd"):
        request.getfixturevalue("data")
    if name == "npz":
        return tasks.get("npz", path=save(tmp_path, **recordings(variant), lengths=np.arange(20) % 7 + 1))
    small = {
        "evidence": {"cue": 10, "delay": 20, "trials": 11, "validation_trials": 5},
        "store_recall": {"slot": 10, "probability": 0.4, "trials": 11, "validation_trials": 5},
        "pattern": {"steps": 300, "periods": [100]},
        "fsdd": {"features": "mfcc", "hold": 1, "seconds": 0.3},
    }
    return tasks.get(name, **small.get(name, {}), **({"variant": variant} if variant else {}))


# The contract -------------------------------------------------------------------------------------------------------


def test_a_sample_has_the_promised_shapes(task: tasks.Task, key: jax.Array) -> None:
    trial = task.sample(key, 6)
    assert trial.inputs.shape == (trial.steps, 6, task.input_size)
    assert trial.inputs.dtype == jnp.result_type(float)
    assert bool(jnp.any(trial.inputs != 0))
    if jnp.issubdtype(trial.targets.dtype, jnp.integer):
        assert trial.targets.shape in ((6,), (trial.steps, 6))
        assert int(trial.targets.min()) >= 0
        assert int(trial.targets.max()) < task.output_size
    else:
        assert trial.targets.shape == (trial.steps, 6, task.output_size)
    assert task.metric == ("accuracy" if jnp.issubdtype(trial.targets.dtype, jnp.integer) else "loss")
    assert task.dt > 0


@pytest.mark.parametrize("split", SPLITS)
def test_sampling_is_pure_and_may_be_jitted_and_vmapped(task: tasks.Task, key: jax.Array, split: str) -> None:
    trial = task.sample(key, 4, split)
    assert same(trial, task.sample(key, 4, split))
    assert same(trial, eqx.filter_jit(lambda t, k: t.sample(k, 4, split))(task, key))
    keys = jax.random.split(key, 3)
    stacked = eqx.filter_jit(lambda t, ks: jax.vmap(lambda k: t.sample(k, 4, split))(ks))(task, keys)
    for i in range(3):
        assert same(jax.tree.map(lambda x, i=i: x[i], stacked), task.sample(keys[i], 4, split))


def test_sampling_takes_keys_of_the_old_style(task: tasks.Task) -> None:
    old, new = jax.random.PRNGKey(3), jax.random.key(3)
    assert same(task.sample(old, 2), task.sample(new, 2))


def test_another_key_draws_other_trials(task: tasks.Task, key: jax.Array) -> None:
    other = task.sample(jax.random.fold_in(key, 1), 8)
    # The pattern is frozen: one trial for ever.
    assert same(task.sample(key, 8), other) == isinstance(task, tasks.Pattern)


@pytest.mark.parametrize("split", SPLITS)
def test_a_pass_is_repeatable_complete_and_unpadded(task: tasks.Task, split: str) -> None:
    whole = list(task.batches(split, 10_000))
    assert len(whole) == 1
    count = whole[0].batch
    parts, again = list(task.batches(split, 4)), list(task.batches(split, 4))
    assert same(parts, again)
    assert [p.batch for p in parts] == [4] * (count // 4) + ([count % 4] if count % 4 else [])
    joined = jnp.concatenate([p.inputs for p in parts], axis=1)
    assert np.array_equal(joined, whole[0].inputs)


def test_scores_of_batches_average_to_the_score_of_the_whole(task: tasks.Task, key: jax.Array) -> None:
    (whole,) = task.batches("test", 10_000)
    outputs = jax.random.normal(key, (whole.steps, whole.batch, task.output_size))
    total = weight = 0.0
    start = 0
    for part in task.batches("test", 4):
        share = float(task.weight(part))
        total += share * float(task.score(outputs[:, start : start + part.batch], part))
        weight += share
        start += part.batch
    assert weight == pytest.approx(float(task.weight(whole)))
    assert total / weight == pytest.approx(float(task.score(outputs, whole)), rel=1e-5)


def test_scores_know_right_from_wrong(task: tasks.Task, key: jax.Array) -> None:
    trial = task.sample(key, 5)
    if task.metric == "loss":
        assert float(task.score(trial.targets, trial)) == 0
        assert float(task.score(trial.targets + 0.5, trial)) == pytest.approx(0.25, rel=1e-5)
        return
    hot = jax.nn.one_hot(trial.targets, task.output_size)
    hot = jnp.broadcast_to(hot, (trial.steps, 5, task.output_size))
    assert float(task.score(hot, trial)) == 1
    assert float(task.score(-hot, trial)) == 0
    # A diverged network is wrong everywhere, not right wherever class 0 is asked.
    assert float(task.score(jnp.full_like(hot, jnp.nan), trial)) == 0


@pytest.mark.x64
def test_tasks_work_in_double_precision(task: tasks.Task, key: jax.Array) -> None:
    trial = task.sample(key, 3)
    assert trial.inputs.dtype == jnp.float64
    outputs = jax.random.normal(key, (trial.steps, 3, task.output_size))
    assert bool(jnp.isfinite(task.score(outputs, trial)))


@pytest.mark.unchecked
@pytest.mark.parametrize(("batch", "split"), [(0, "train"), (2.5, "train"), (True, "train"), (None, "test")])
def test_impossible_batches_are_refused(task: tasks.Task, key: jax.Array, batch: object, split: str) -> None:
    with pytest.raises(TaskError, match="batch"):
        task.sample(key, batch, split)
    with pytest.raises(TaskError, match="batch"):
        task.batches(split, batch)


@pytest.mark.unchecked
def test_unknown_splits_are_refused(task: tasks.Task, key: jax.Array) -> None:
    for split in ("valid", 0, None):
        with pytest.raises(TaskError, match="split"):
            task.sample(key, 2, split)
        with pytest.raises(TaskError, match="split"):
            task.batches(split, 2)


# The registry -------------------------------------------------------------------------------------------------------


def test_names_and_classes() -> None:
    assert set(tasks.names()) >= {"digits", "ecg", "evidence", "npz", "pattern"}
    assert list(tasks.names()) == sorted(tasks.names())
    assert isinstance(tasks.get("evidence", cues=3), tasks.Evidence)
    assert tasks.get("evidence", cues=3).cues == 3
    assert all(issubclass(t, tasks.Task) for t in tasks.TASKS.values())
    assert not {tasks.StoredTask, tasks.SpeechTask} & set(tasks.TASKS.values())


@pytest.mark.unchecked
def test_unknown_names_and_settings_suggest_a_spelling() -> None:
    with pytest.raises(TaskError, match=r"Did you mean 'digits'\?"):
        tasks.get("digit")
    with pytest.raises(ArgumentError, match="unknown task None"):
        tasks.get(None)
    with pytest.raises(TaskError, match=r"'digits': 'holt'. Did you mean 'hold'\?"):
        tasks.get("digits", holt=3)
    with pytest.raises(TaskError, match="'npz' needs the setting 'path'"):
        tasks.get("npz", seed=1)
    with pytest.raises(AttributeError, match=r"Did you mean 'Digits'\?"):
        _ = tasks.Digit


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("digits", "variant", "columns"),
        ("digits", "variant", ["rows"]),
        ("digits", "hold", 0),
        ("digits", "hold", 1.5),
        ("digits", "hold", "4"),
        ("evidence", "cues", 4),
        ("evidence", "cues", -1),
        ("evidence", "cue", 0),
        ("evidence", "gap", -1),
        ("evidence", "delay", None),
        ("evidence", "recall", 0),
        ("evidence", "group", True),
        ("evidence", "rate", 0),
        ("evidence", "rate", 1001),
        ("evidence", "noise", -1),
        ("evidence", "noise", float("nan")),
        ("evidence", "probability", 0.7),
        ("evidence", "trials", 0),
        ("evidence", "validation_trials", "many"),
        ("evidence", "seed", -1),
        ("evidence", "seed", 2**31),
        ("pattern", "units", 0),
        ("pattern", "rate", float("inf")),
        ("pattern", "steps", 2),
        ("pattern", "periods", [2000]),
        ("pattern", "periods", []),
        ("pattern", "periods", [0]),
        ("pattern", "periods", "1000"),
        ("pattern", "periods", 1000),
        ("pattern", "seed", 0.5),
        ("npz", "path", 5),
        ("npz", "path", None),
        ("ecg", "validation", "block"),
        ("ecg", "fraction", 0),
        ("ecg", "fraction", 0.9),
        ("ecg", "blocks", 0),
        ("ecg", "seed", "0"),
        ("ecg", "skip", -1),
        ("ecg", "skip", 1301),
        ("ecg", "dt", 0),
    ],
)
def test_nonsense_settings_are_refused_by_name(name: str, setting: str, value: object) -> None:
    with pytest.raises(TaskError, match=setting):
        tasks.get(name, **{setting: value})


def run(code: str, path: pathlib.Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_tasks_imports_no_data_packages() -> None:
    heavy = ["sklearn", "scipy", "h5py", "pooch", "soundfile", "kaldi_native_fbank"]
    assert run(f"import sys, engrax.tasks; print([m for m in {heavy} if m in sys.modules])", SOURCE) == "[]"


def test_one_new_file_is_a_new_task(tmp_path: pathlib.Path) -> None:
    shutil.copytree(SOURCE / "engrax", tmp_path / "engrax", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "engrax" / "tasks" / "newcomer.py").write_text(
        "from .task import Task\n\n"
        "class Newcomer(Task):\n"
        "    input_size: int = 1\n    output_size: int = 2\n    dt: float = 1.0\n"
    )
    code = "from engrax import tasks; print(tasks.get('newcomer', output_size=3).output_size, tasks.Newcomer.__name__)"
    assert run(code, tmp_path) == "3 Newcomer"


# Digits -------------------------------------------------------------------------------------------------------------


def test_digits_seed_changes_the_split_and_nothing_else() -> None:
    first, again, other = (tasks.get("digits", **settings) for settings in ({}, {"seed": 0}, {"seed": 11}))
    for split, (images, digits) in first.rows.items():
        assert jnp.array_equal(images, again.rows[split][0])
        assert not jnp.array_equal(images, other.rows[split][0])
        assert jnp.array_equal(jnp.bincount(digits), jnp.bincount(other.rows[split][1]))


def test_digits_split_is_disjoint_complete_and_stratified() -> None:
    from sklearn.datasets import load_digits

    task, bunch = tasks.get("digits"), load_digits()
    assert [task.count(s) for s in SPLITS] == [1259, 179, 359]
    rows = np.concatenate([np.asarray(task.rows[s][0]).reshape(-1, 64) * 16 for s in SPLITS])
    assert len(np.unique(bunch.data, axis=0)) == 1797  # no two images are alike, so this shows disjointness
    assert np.array_equal(np.unique(rows, axis=0), np.unique(bunch.data, axis=0))
    everywhere = np.bincount(bunch.target)
    for split, share in zip(SPLITS, (0.7, 0.1, 0.2)):
        assert np.all(np.abs(np.bincount(task.rows[split][1]) - share * everywhere) <= 1)
    assert same(task.rows, tasks.get("digits", hold=1, variant="pixels").rows)


def test_digits_are_shown_row_by_row_or_pixel_by_pixel() -> None:
    rows = tasks.get("digits", hold=3)
    pixels = tasks.get("digits", hold=2, variant="pixels")
    (trial,), (single,) = rows.batches("test", 10_000), pixels.batches("test", 10_000)
    images = np.asarray(rows.rows["test"][0])
    assert images.max() == 1
    assert images.min() == 0
    assert trial.inputs.shape == (24, 359, 8)
    assert single.inputs.shape == (128, 359, 1)
    for i in (0, 17, 358):
        assert np.array_equal(trial.inputs[:, i], np.repeat(images[i], 3, axis=0))
        assert np.array_equal(single.inputs[:, i, 0], np.repeat(images[i].ravel(), 2))


def test_digits_baseline_is_logistic_regression_on_the_same_split() -> None:
    baseline = tasks.get("digits").baseline()
    assert baseline["name"] == "logistic regression"
    assert baseline["accuracy"] == pytest.approx(0.97, abs=0.01)
    assert baseline == tasks.get("digits", variant="pixels").baseline()


def test_a_digit_is_decided_by_the_mean_over_time(key: jax.Array) -> None:
    task = tasks.get("digits")
    trial = task.sample(key, 2)
    outputs = jnp.zeros((trial.steps, 2, 10)).at[0].set(-5.0 * jax.nn.one_hot(trial.targets, 10))
    outputs = outputs.at[1:].set(jax.nn.one_hot(trial.targets, 10))
    assert float(task.score(outputs, trial)) == 1


# Evidence accumulation ----------------------------------------------------------------------------------------------


def test_evidence_has_the_published_timing() -> None:
    task = tasks.get("evidence")
    assert (task.steps, task.input_size, task.output_size, task.dt) == (2250, 40, 2, 1.0)
    cues = np.array([[0, 1, 1, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0, 0]])
    probability = np.asarray(task.probabilities(cues))
    expected = np.zeros((2250, 2, 40), np.float32)
    for sample in range(2):
        for k in range(7):
            group = cues[sample, k]
            expected[150 * k + 50 : 150 * k + 150, sample, 10 * group : 10 * group + 10] = 0.04
    expected[-150:, :, 20:30] = 0.04
    expected[:, :, 30:] = 0.01
    assert np.array_equal(probability, expected)
    silence = probability[7 * 150 : -150, :, :30]
    assert silence.shape[0] == 1050
    assert not silence.any()
    trial = task.trial(cues, np.zeros((2250, 2, 40)))
    assert np.array_equal(trial.targets, np.broadcast_to([1, 0], (2250, 2)))
    assert np.array_equal(trial.mask, np.broadcast_to(np.arange(2250)[:, None] >= 2100, (2250, 2)))


def test_evidence_settings_move_the_windows() -> None:
    task = tasks.get("evidence", cues=3, cue=10, gap=5, delay=20, recall=8, group=2, rate=100.0, noise=0.0)
    assert (task.steps, task.input_size) == (73, 8)
    probability = np.asarray(task.probabilities(np.array([[1, 0, 1]])))[:, 0]
    assert np.array_equal(np.flatnonzero(probability[:, 0]), np.arange(20, 30))
    assert np.array_equal(np.flatnonzero(probability[:, 2]), np.r_[5:15, 35:45])
    assert np.array_equal(np.flatnonzero(probability[:, 4]), np.arange(65, 73))
    assert not probability[:, 6:].any()
    assert probability.max() == np.float32(0.1)


def test_evidence_delays_may_differ(key: jax.Array) -> None:
    task = tasks.get("evidence", cues=3, cue=10, gap=5, delay=20, longest_delay=60, recall=8, group=3, rate=1000.0)
    assert task.steps == 3 * 15 + 60 + 8
    trial = task.sample(key, 200)
    # Groups that are on fire at every step, so the last cue's last step is seen.
    left_or_right = np.asarray(trial.inputs)[:, :, :6].any(-1)
    assert left_or_right.sum(0).tolist() == [30] * 200
    last = task.steps - 1 - np.argmax(left_or_right[::-1], axis=0)
    delays = task.steps - 8 - 1 - last
    assert delays.min() == 20 and delays.max() == 60 and len(np.unique(delays)) > 30
    assert abs(delays.mean() - 40) < 4 * 40 / np.sqrt(12 * 200)
    np.testing.assert_array_equal(np.asarray(trial.mask)[:, 0], np.arange(task.steps) >= task.steps - 8)
    on = task.probabilities(np.array([[0, 1, 1]] * 2), np.array([20, 60]))
    first = np.argmax(np.asarray(on)[:, :, 0] > 0, axis=0)
    assert first.tolist() == [45, 5]
    with pytest.raises(TaskError, match="longest_delay must be at least delay, 20 ms, got 10"):
        tasks.get("evidence", delay=20, longest_delay=10)


def test_evidence_spikes_and_answers_follow_the_cues(key: jax.Array) -> None:
    task = tasks.get("evidence")
    trial = task.sample(key, 200)
    spikes = np.asarray(trial.inputs)
    assert set(np.unique(spikes)) == {0, 1}
    groups = spikes.reshape(2250, 200, 4, 10)
    cued = groups[:1050].reshape(7, 150, 200, 4, 10)[:, 50:].sum(axis=(1, 4))  # (cue, batch, group)
    cues = (cued[..., 1] > cued[..., 0]).astype(int)
    # With 40 expected spikes a cue none is empty, and only the cue's own side fires.
    assert cued[..., :2].sum(-1).min() > 0
    assert not np.minimum(cued[..., 0], cued[..., 1]).any()
    assert np.array_equal(trial.targets[0], cues.sum(0) > 3)
    assert np.array_equal(trial.targets, np.broadcast_to(trial.targets[0], (2250, 200)))
    # Within the probabilities of 2.2, every rate is as stated (tolerance: 4 standard errors).
    possible = np.asarray(task.probabilities(jnp.asarray(cues.T)))
    assert not spikes[possible == 0].any()
    for p in (0.04, 0.01):
        drawn = spikes[np.isclose(possible, p)]
        assert drawn.mean() == pytest.approx(p, abs=4 * np.sqrt(p / drawn.size))
    # Cues lean to either side alike; 7 draws at .3 or .7 have variance 7 * .21 + 49 * .04 = 3.43.
    assert cues.mean() == pytest.approx(0.5, abs=4 * np.sqrt(3.43 / 49 / 200))
    assert cues.sum(0).var() == pytest.approx(3.43, abs=1.0)
    assert trial.targets[0].mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 200))


def test_evidence_units_fire_independently(key: jax.Array) -> None:
    spikes = np.asarray(tasks.get("evidence", delay=0, gap=0, noise=40.0).sample(key, 64).inputs)
    noise, recall = spikes[-150:, :, 30:].reshape(-1, 10), spikes[-150:, :, 20:30].reshape(-1, 10)
    correlation = np.corrcoef(np.concatenate([noise, recall], axis=1), rowvar=False) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(noise))


def test_evidence_passes_are_the_same_trials_in_any_batch_and_differ_between_splits(key: jax.Array) -> None:
    task = tasks.get("evidence", delay=20, trials=7, validation_trials=3)
    passes = {}
    for split, count in zip(SPLITS, (7, 3, 7)):
        big, small = list(task.batches(split, 7)), list(task.batches(split, 2))
        passes[split] = np.concatenate([t.inputs for t in big], axis=1)
        assert passes[split].shape[1] == count
        assert np.array_equal(passes[split], np.concatenate([t.inputs for t in small], axis=1))
        assert len(np.unique(passes[split].swapaxes(0, 1), axis=0)) == count
    assert not np.array_equal(passes["train"], passes["test"])
    assert not np.array_equal(passes["train"][:, :3], passes["validation"])
    assert not same(task.sample(key, 4, "train").inputs, task.sample(key, 4, "test").inputs)
    other = tasks.get("evidence", delay=20, trials=7, seed=1)
    assert not np.array_equal(passes["test"], next(other.batches("test", 7)).inputs)


@pytest.mark.x64
def test_evidence_takes_the_trials_of_the_reference_program() -> None:
    """Set-up B of the NEST reference: same generator, same order of draws, spikes compared with our probabilities."""
    random = np.random.RandomState(1)
    random.randn(40, 100), random.randn(100, 100)
    random.uniform(-1, 1, (100, 2)), random.randn(100, 2)
    share = np.array([0.3, 0.7], np.float32)[random.choice([0, 1], 1)]
    cues = np.array([random.choice([0, 1], 7, p=[p, 1 - p]) for p in share])
    uniform = random.rand(1 * 2250 * 40).reshape(1, 2250, 40)
    expected = np.zeros((1, 2250, 40))
    for k, side in enumerate(cues[0]):
        expected[0, 150 * k + 50 : 150 * k + 150, 10 * side : 10 * side + 10] = 40 / 1000
    expected[0, -150:, 20:30] = 40 / 1000
    expected[0, :, 30:] = 40 / 1000 / 4
    task = tasks.get("evidence")
    spikes = uniform.swapaxes(0, 1) < np.asarray(task.probabilities(cues))
    assert np.array_equal(spikes.swapaxes(0, 1), uniform < expected)
    spikes[0] = False
    trial = task.trial(cues, spikes)
    assert trial.inputs.dtype == jnp.float64
    assert float(trial.inputs.sum()) == spikes.sum()
    assert int(trial.targets[0, 0]) == int(cues.sum() > 3)


def test_evidence_decides_by_the_mean_over_the_response_window(key: jax.Array) -> None:
    task = tasks.get("evidence", delay=20)
    trial = task.sample(key, 6)
    hot = jax.nn.one_hot(trial.targets, 2)
    window = trial.mask[..., None]
    assert float(task.score(hot * window - 9 * hot * (1 - window), trial)) == 1
    # One loud step outvotes the others: logits are averaged, not decisions.
    assert float(task.score((hot * window).at[-1].mul(-1000.0), trial)) == 0
    assert float(task.score(hot.at[:, 0].mul(-1.0), trial)) == pytest.approx(5 / 6)


@pytest.mark.unchecked
def test_evidence_refuses_trials_that_do_not_fit() -> None:
    task = tasks.get("evidence", cues=3, delay=0)
    spikes = np.zeros((task.steps, 1, 40))
    with pytest.raises(TaskError, match=r"cues must be integers of shape \(batch, 3\)"):
        task.trial(np.zeros((1, 7), int), spikes)
    with pytest.raises(TaskError, match="cues must be integers"):
        task.trial(np.zeros((1, 3)), spikes)
    with pytest.raises(TaskError, match="cues must be 0"):
        task.trial(np.full((1, 3), 2), spikes)
    with pytest.raises(TaskError, match="spikes must have shape"):
        task.trial(np.zeros((1, 3), int), spikes[:-1])


# Pattern generation -------------------------------------------------------------------------------------------------


def test_the_curve_is_the_published_sum_of_sines() -> None:
    amplitudes, phases = [0.7, 1.9, 1.2, 0.5], [0.3, 5.0, 2.2, 4.1]
    curve = sines(amplitudes, phases)
    raw = np.zeros(1000)
    for a, phi, cycles in zip(amplitudes, phases, (1, 2, 3, 5)):  # 1000 // 333 = 3
        raw += [a * np.sin(phi + 2 * np.pi * cycles * i / 999) for i in range(1000)]
    raw -= raw[0]
    assert np.allclose(curve, raw / np.abs(raw).max(), rtol=0, atol=1e-12)
    assert curve[0] == 0
    assert abs(curve[-1]) < 1e-12  # both ends included: the last sample repeats the first
    assert np.abs(curve).max() == 1


def test_the_pattern_is_drawn_once(key: jax.Array) -> None:
    task = tasks.get("pattern")
    trial = task.sample(key, 3)
    assert trial.inputs.shape == (1000, 3, 100)
    assert trial.targets.shape == (1000, 3, 1)
    assert trial.mask is None
    for other in (*task.batches("train", 5), *task.batches("test", 1), task.sample(key, 1, "validation")):
        assert np.array_equal(other.inputs, trial.inputs[:, :1])
        assert np.array_equal(other.targets, trial.targets[:, :1])
    assert same(task, tasks.get("pattern"))
    assert not np.array_equal(task.spikes, tasks.get("pattern", seed=1).spikes)
    assert not np.array_equal(task.curve, tasks.get("pattern", seed=1).curve)
    assert not task.spikes[0].any()
    assert set(np.unique(task.spikes)) == {0, 1}
    assert float(task.spikes[1:].mean()) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 / 99_900))
    assert float(jnp.abs(task.curve).max()) == 1


def test_the_pattern_may_be_replaced(key: jax.Array) -> None:
    spikes, curve = jnp.ones((5, 3)), jnp.zeros((5, 2))
    task = eqx.tree_at(lambda t: (t.spikes, t.curve), tasks.get("pattern"), (spikes, curve))
    assert (task.input_size, task.output_size) == (3, 2)
    assert task.sample(key, 2).inputs.shape == (5, 2, 3)
