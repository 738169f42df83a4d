"""Speech: features, label strings, spoken digits (real recordings). TIMIT: test_timit.py."""

import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import FrameTrial, Trial, tasks
from engrax.errors import DataError, TaskError
from engrax.tasks import audio, fsdd_files
from engrax.tasks.strings import best_path, compact, count, edit_distance
from engrax.tasks.task import SPLITS
from engrax.testing import check_task

RANDOM = np.random.RandomState(0)


def tone(samples: int, hertz: float = 440.0, rate: int = 16000) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.int16)


# Features -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(("kind", "size", "values"), [("fbank", 123, 41), ("mfcc", 39, 13)])
def test_frames_are_25_ms_every_10_with_two_orders_of_differences(rate, kind, size, values):
    noise = RANDOM.randint(-3000, 3000, rate).astype(np.int16)
    found = audio.features(noise, rate, kind)
    assert found.shape == (98, size) and audio.SIZES[kind] == size
    np.testing.assert_array_equal(found, audio.features(noise, rate, kind))
    value, first, second = np.split(found, 3, axis=1)
    assert value.shape[1] == values
    np.testing.assert_allclose(first[1:-1], value[2:] - value[:-2])
    np.testing.assert_allclose(first[[0, -1]], [value[1] - value[0], value[-1] - value[-2]])
    np.testing.assert_allclose(second[1:-1], first[2:] - first[:-2])
    # The first value is the log energy of the frame, without its mean.
    step, length = rate // 100, rate // 40
    for frame in (0, 50, 97):
        part = noise[frame * step : frame * step + length].astype(float)
        assert value[frame, 0] == pytest.approx(np.log(np.sum((part - part.mean()) ** 2)), rel=1e-4)
    assert audio.centres(2, rate).tolist() == [length // 2, length // 2 + step]


def test_filters_find_a_tone():
    peaks = [audio.features(tone(16000, hertz), 16000)[50, 1:41].argmax() for hertz in (200, 400, 800, 1600, 3200)]
    assert peaks == sorted(set(peaks))
    # The loudest filter is the one at the tone's place on the mel scale, of 40 from 20 Hz to 8 kHz.
    mel = lambda f: 1127 * np.log(1 + f / 700)
    for hertz, peak in zip((200, 400, 800, 1600, 3200), peaks):
        place = (mel(hertz) - mel(20)) / (mel(8000) - mel(20)) * 41 - 1
        assert abs(peak - place) < 1


def test_a_recording_shorter_than_a_frame_is_refused():
    assert audio.features(tone(400), 16000).shape == (1, 123)
    with pytest.raises(DataError, match="shorter than a frame"):
        audio.features(tone(399), 16000)


@pytest.mark.parametrize("package", ["kaldi_native_fbank", "soundfile"])
def test_a_missing_package_names_the_extra(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    use = {
        "soundfile": lambda: audio.read_audio(tmp_path / "a.wav", "a.wav"),
        "kaldi_native_fbank": lambda: audio.features(tone(1000), 16000),
    }
    with pytest.raises(DataError, match=r'pip install "engrax\[speech\]"'):
        use[package]()


# Strings --------------------------------------------------------------------------------------------------------------


def padded(strings: list[list[int]], size: int) -> jax.Array:
    return jnp.asarray([s + [0] * (size - len(s)) for s in strings], jnp.int32).T


def levenshtein(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j - 1] + (x != y), row[j] + 1, new[-1] + 1))
        row = new
    return row[-1]


def test_edit_distance_is_levenshteins():
    short = [list(s) for n in range(4) for s in itertools.product((1, 2), repeat=n)]
    pairs = list(itertools.product(short, repeat=2))
    pairs += [(list(RANDOM.randint(1, 4, RANDOM.randint(0, 9))), list(RANDOM.randint(1, 4, 7))) for _ in range(50)]
    found = edit_distance(padded([a for a, _ in pairs], 9), padded([b for _, b in pairs], 7))
    np.testing.assert_array_equal(found, [levenshtein(a, b) for a, b in pairs])
    assert found.max() >= 6


def test_the_best_path_drops_repeats_then_blanks():
    path = jnp.asarray([[1, 0, 2], [1, 0, 2], [0, 0, 0], [1, 0, 2], [2, 0, 1]])
    outputs = jax.nn.one_hot(path, 3)
    valid = jnp.asarray([[1.0] * 3] * 4 + [[1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(best_path(outputs, valid).T, [[1, 1, 2, 0, 0], [0] * 5, [2, 2, 0, 0, 0]])
    np.testing.assert_array_equal(best_path(outputs.at[3, 0, 1].set(jnp.nan), valid).T[0], [1, 2, 0, 0, 0])
    np.testing.assert_array_equal(count(best_path(outputs, valid)), [3, 0, 2])
    string = jnp.asarray([[5], [6], [7], [0]])
    np.testing.assert_array_equal(compact(string, jnp.asarray([[True], [False], [True], [False]]))[:, 0], [5, 7, 0, 0])


# Spoken digits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(data: pathlib.Path) -> tasks.FSDD:
    return tasks.get("fsdd", features="mfcc", hold=2)


def test_the_recordings_are_those_of_the_data_set(data):
    clips = fsdd_files.read()
    assert len(clips.samples) == 3000 and sum(map(len, clips.samples)) == 10_498_424
    assert np.bincount(clips.digit).tolist() == [300] * 10 and np.bincount(clips.speaker).tolist() == [500] * 6
    assert len(set(zip(clips.digit, clips.speaker, clips.take))) == 3000 and set(clips.take) == set(range(50))


def test_speakers_of_the_test_are_not_heard_before(digits):
    clips = fsdd_files.read()
    sets = {s: np.asarray(digits.rows[s])[:, 0] for s in SPLITS}
    assert [len(x) for x in sets.values()] == [1800, 200, 1000]
    assert len(np.unique(np.concatenate(list(sets.values())))) == 3000
    assert set(clips.speaker[sets["test"]]) == {0, 1} and set(clips.speaker[sets["train"]]) == {2, 3, 4, 5}
    assert set(clips.take[sets["validation"]]) == set(range(5))
    other = tasks.get("fsdd", features="mfcc", test=["theo"], validation=1)
    assert set(clips.speaker[np.asarray(other.rows["test"])[:, 0]]) == {4} and other.count("validation") == 50


def test_a_trial_shows_one_recording(digits):
    clips = fsdd_files.read()
    trial = next(digits.batches("test", 40))
    assert isinstance(trial, FrameTrial) and trial.hold == 2
    assert trial.inputs.shape == (2 * 98, 40, 39) and digits.longest == 98
    everything = np.concatenate([np.asarray(t.inputs) for t in digits.batches("train", 600)], axis=1)
    lengths = np.concatenate([np.asarray(t.lengths) for t in digits.batches("train", 600)])
    valid = np.arange(196)[:, None] < lengths
    np.testing.assert_allclose(everything[valid].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(everything[valid].std(axis=0), 1, atol=1e-3)
    assert not everything[~valid].any()
    raw = np.concatenate([audio.features(clips.samples[i][:8000], 8000, "mfcc") for i in digits.rows["train"][:, 0]])
    for i in (0, 39):
        number = int(digits.rows["test"][i, 0])
        own = audio.features(clips.samples[number][:8000], 8000, "mfcc")
        assert int(trial.lengths[i]) == 2 * len(own)
        shown = np.repeat((own - raw.mean(axis=0)) / raw.std(axis=0), 2, axis=0)
        np.testing.assert_allclose(trial.inputs[: len(shown), i], shown, atol=2e-3)
        assert (np.asarray(trial.targets)[: len(shown), i] == clips.digit[number]).all()
    mask = np.asarray(trial.mask)
    assert not mask[::2].any() and (mask[1::2] > 0).sum() == np.asarray(trial.lengths).sum() // 2
    np.testing.assert_allclose(mask.sum(axis=0), 1, rtol=1e-5)


def test_voices_may_be_normalised_by_themselves(digits):
    task, clips = tasks.get("fsdd", features="mfcc", hold=2, normalise="speaker"), fsdd_files.read()
    speaker = np.repeat(clips.speaker, np.asarray(task.length))
    for one in range(6):
        frames = np.asarray(task.frames)[speaker == one]
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)
        assert np.abs(np.asarray(digits.frames)[speaker == one].mean(axis=0)).max() > 0.1


def test_frames_are_scored_at_their_last_step_and_recordings_alike(digits, key):
    trial = next(digits.batches("test", 2))
    first, second = (int(x) // 2 for x in trial.lengths)
    assert first != second
    # Of the first recording 3 frames are right, of the second all; steps that are no frame's last say nonsense.
    frames = np.full((98, 2), 9)
    right = np.asarray(trial.targets)[0]
    frames[:3, 0], frames[:, 1] = right[0], right[1]
    frames[3:first, 0] = (right[0] + 1) % 10
    steps = np.full((196, 2), 7)
    steps[1::2] = frames
    outputs = jax.nn.one_hot(steps, 10)
    assert float(digits.score(outputs, trial)) == pytest.approx((3 / first + 1) / 2)
    assert float(digits.metrics(outputs, trial)["accuracy_trial"]) == 0.5
    table = digits.decisions(outputs, trial)
    assert float(table.weights.sum()) == pytest.approx(2)


@pytest.mark.nightly
def test_strings_are_recordings_of_one_speaker_in_a_row(data, key):
    task = tasks.get("fsdd_strings", features="mfcc", hold=1, repeats=2)
    clips = fsdd_files.read()
    assert [task.count(s) for s in SPLITS] == [2 * 4 * (450 // 3), 4 * (50 // 3), 2 * (500 // 3)]
    for split in SPLITS:
        rows = np.asarray(task.rows[split])
        assert (clips.speaker[rows] == clips.speaker[rows][:, :1]).all()
    train = np.asarray(task.rows["train"])
    assert set(np.bincount(train.ravel())[np.unique(train)]) == {2}
    assert len(np.unique(train, axis=0)) == len(train)
    trial, single = next(task.batches("test", 5)), tasks.get("fsdd", features="mfcc", hold=1)
    row = task.rows["test"][3]
    np.testing.assert_array_equal(trial.targets[:, 3], clips.digit[np.asarray(row)] + 1)
    parts = single.present(row[:, None])
    joined = np.concatenate([np.asarray(parts.inputs)[: int(n), i] for i, n in enumerate(parts.lengths)])
    assert int(trial.lengths[3]) == len(joined)
    np.testing.assert_array_equal(np.asarray(trial.inputs)[: len(joined), 3], joined)
    assert not np.asarray(trial.inputs)[len(joined) :, 3].any()
    assert trial.mask is None and task.decisions(jnp.zeros((trial.steps, 5, 11)), trial) is None


def test_strings_are_scored_by_edit_distance(data):
    task = tasks.get("fsdd_strings", features="mfcc", hold=2)
    trial = next(task.batches("test", 2))
    one, two = np.asarray(trial.targets).T.tolist()
    assert one[0] != one[1]
    said = np.zeros((trial.steps, 2), int)
    for i, symbol in enumerate([*one, 1]):  # an insertion
        said[4 * i : 4 * i + 2, 0] = symbol
    said[4:6, 1] = two[0] % 10 + 1  # a substitution or an insertion, and deletions
    wrong = levenshtein([two[0] % 10 + 1], two) + 1
    outputs = jax.nn.one_hot(said, 11)
    assert float(task.score(outputs, trial)) == pytest.approx(1 - wrong / 6)
    assert float(task.weight(trial)) == 6
    assert float(task.score(jnp.full_like(outputs, jnp.nan), trial)) == 0
    everywhere = jax.nn.one_hot(np.arange(trial.steps) // 2 % 10 + 1, 11)[:, None]
    assert float(task.score(jnp.broadcast_to(everywhere, outputs.shape), trial)) < -5
    # A trial that was made without frames has one at every step.
    plain = Trial(trial.inputs[::2], trial.targets, lengths=trial.lengths // 2)
    assert float(task.score(outputs[::2], plain)) == pytest.approx(1 - wrong / 6)


@pytest.mark.slow
def test_a_whole_recording_asks_for_one_digit(data, key):
    task, frames = (tasks.get(name, features="mfcc", test=["theo"], hold=1) for name in ("fsdd_digits", "fsdd"))
    check_task(task)
    clips = fsdd_files.read()
    rows = np.asarray(task.rows["test"])[:, 0]
    assert set(clips.speaker[rows]) == {fsdd_files.SPEAKERS.index("theo")} and len(rows) == 500
    trial, other = (next(t.batches("test", 7)) for t in (task, frames))
    np.testing.assert_array_equal(trial.targets, clips.digit[rows[:7]])
    np.testing.assert_array_equal(trial.inputs, other.inputs)
    np.testing.assert_array_equal(trial.lengths, other.lengths)
    right = jnp.broadcast_to(jax.nn.one_hot(trial.targets, 10), (trial.steps, 7, 10))
    padded = jnp.where(trial.valid()[..., None] > 0, right, 1e3 * jax.nn.one_hot(0, 10))
    assert float(task.score(padded, trial)) == 1
    assert float(task.score(padded.at[:, 0].multiply(-1), trial)) == pytest.approx(6 / 7)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, pytest.param({"digits": 2}, marks=pytest.mark.nightly)], ids=str)
@pytest.mark.parametrize("name", ["fsdd", pytest.param("fsdd_strings", marks=pytest.mark.nightly)])
def test_digits_hold_to_the_contract(data, name, settings):
    check_task(tasks.get(name, features="mfcc", hold=2, **settings))


@pytest.mark.nightly
def test_scores_of_strings_average_to_the_score_of_the_whole(data, key):
    task = tasks.get("fsdd_strings", features="mfcc", hold=1)
    (whole,) = task.batches("validation", 1000)
    outputs = 3 * jax.random.normal(key, (whole.steps, whole.batch, 11))
    parts, start = [], 0
    for part in task.batches("validation", 13):
        parts.append((float(task.score(outputs[:, start : start + part.batch], part)), float(task.weight(part))))
        start += part.batch
    score, weight = np.array(parts).T
    assert np.average(score, weights=weight) == pytest.approx(float(task.score(outputs, whole)), rel=1e-5)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("features", "plp"),
        ("digits", 0),
        ("digits", 51),
        ("test", []),
        ("test", "georg"),
        ("test", ["george", "george"]),
        ("test", list(fsdd_files.SPEAKERS)),
        ("test", None),
        ("validation", 0),
        ("validation", 50),
        ("hold", 0),
        ("seconds", 0.05),
        ("normalise", "speakers"),
        ("repeats", 0),
        ("seed", -1),
    ],
)
def test_nonsense_settings_are_refused_by_name(setting, value):
    with pytest.raises(TaskError, match=setting):
        tasks.get("fsdd", **{setting: value})
