"""Spoken digits: which digit is being said, frame by frame, or which string of digits was said.

Recordings: Free Spoken Digit Dataset, 3000 of 6 speakers, 8 kHz (CC BY-SA 4.0). Its own split shares speakers between
training and test and is easy; here whole speakers are held out.
"""

from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float

from ..errors import TaskError
from ..trial import Trial
from . import audio
from .audio import SIZES
from .fsdd_files import RATE, SPEAKERS, TAKES, read
from .scoring import step_weights, trial_accuracy
from .settings import integer, number, word
from .speech import NORMALISE, Recording, SpeechTask
from .task import Split

DIGITS = 10


class FSDD(SpeechTask):
    """The digit that is being said, at every frame of 10 ms. Metric: accuracy, of frames.

    Settings:
        features: "fbank", 123 features a frame, or "mfcc", 39 (`engrax.tasks.audio`).
        digits: recordings in a row that make a trial, all of one speaker.
        test: speakers held out for the test, none of whom is heard in training.
        validation: recordings of each digit and training speaker that are held out for validation, of 50: the first
            ones, as in the set's own split. They share speakers with the training recordings.
        hold: steps of 1 ms for which a frame is held.
        seconds: recordings are cut after so many; 20 of the 3000 are longer than 1 s. It bounds the length to which all
            trials are padded.
        normalise: "training": every feature has mean 0 and standard deviation 1 over the training recordings.
            "speaker": over each speaker's own recordings, also in the test, as is usual in speech recognition; it takes
            away what is peculiar to a voice and a microphone.
        repeats: with `digits` above 1, how many times every training recording is used, in other company each time.
        seed: draws that company.

    Trials: `FrameTrial`s with inputs (time, batch, 123 or 39); targets (time, batch), the digit; mask (time, batch), 1
    / frames at the last step of each frame, so that each recording counts alike; lengths. The answer to a frame is the
    largest output at its last step.

    `metrics` gives "accuracy_trial" beside the score for trials of one recording: share of recordings whose digit is
    the largest output on average over its frames.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the recordings are neither found nor to be downloaded, or are not those of the pinned version.
    """

    name: ClassVar[str] = "fsdd"

    def __init__(
        self,
        features: str = "fbank",
        digits: int = 1,
        test: Any = ("george", "jackson"),
        validation: int = 5,
        hold: int = 5,
        seconds: float = 1.0,
        normalise: str = "training",
        repeats: int = 4,
        seed: int = 0,
    ) -> None:
        kind = word("features", tuple(SIZES))(features)
        digits, hold = integer("digits", 1, TAKES)(digits), integer("hold", 1)(hold)
        takes = integer("validation", 1, TAKES - 1)(validation)
        seconds = number("seconds", 0.1, exclusive=True)(seconds)
        repeats, seed = integer("repeats", 1)(repeats), integer("seed", 0)(seed)
        held = _speakers(test)
        speaker_of, take_of, recordings = _recordings(kind, seconds)
        out, early = np.isin(speaker_of, held), take_of < takes
        members: dict[Split, np.ndarray] = {"train": ~out & ~early, "validation": ~out & early, "test": out}
        random = np.random.RandomState(seed)
        rows = {
            split: _together(chosen, speaker_of, digits, repeats if split == "train" else 1, random)
            for split, chosen in members.items()
        }
        super().__init__(recordings, rows, hold, word("normalise", NORMALISE)(normalise))

    @property
    def output_size(self) -> int:
        return DIGITS

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """ "accuracy_trial", of whole recordings, where a trial is one and its frames are asked."""
        if self.strings or self.rows["train"].shape[1] > 1:
            return {}
        return {"accuracy_trial": trial_accuracy(outputs, trial.targets[0], step_weights(trial))}


class FSDDStrings(FSDD):
    """The string of digits that was said, without when. Metric: accuracy, 1 - edit distance / digits.

    For the loss "ctc". Settings: those of `FSDD`, with strings of 3 digits unless `digits` says otherwise.

    Trials: `FrameTrial`s as for `FSDD`, with targets (digits, batch): digit + 1, for output 0 is the blank. The
    features are those of the recordings, one after another. The answer is the string of the best path through the
    frames' mean outputs.

    Raises:
        TaskError, DataError: as for `FSDD`.
    """

    name: ClassVar[str] = "fsdd_strings"
    strings: ClassVar[bool] = True

    def __init__(
        self,
        features: str = "fbank",
        digits: int = 3,
        test: Any = ("george", "jackson"),
        validation: int = 5,
        hold: int = 5,
        seconds: float = 1.0,
        normalise: str = "training",
        repeats: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(features, digits, test, validation, hold, seconds, normalise, repeats, seed)

    @property
    def output_size(self) -> int:
        return DIGITS + 1


def _speakers(test: Any) -> list[int]:
    names = list(test) if isinstance(test, list | tuple) else [test]
    for name in names:
        word("test", SPEAKERS)(name)
    if not 1 <= len(set(names)) == len(names) < len(SPEAKERS):
        raise TaskError(f"test must name 1 to {len(SPEAKERS) - 1} different speakers, got {test!r}.")
    return [SPEAKERS.index(name) for name in names]


def _together(
    chosen: np.ndarray, speaker: np.ndarray, digits: int, repeats: int, random: np.random.RandomState
) -> np.ndarray:
    """Rows of recordings of one speaker each; every recording once a repeat (but for a rest too short for a row)."""
    if digits == 1:
        return np.flatnonzero(chosen)[:, None]
    rows = []
    for _ in range(repeats):
        for one in np.unique(speaker[chosen]):
            order = random.permutation(np.flatnonzero(chosen & (speaker == one)))
            rows.append(order[: len(order) // digits * digits].reshape(-1, digits))
    return np.concatenate(rows)


def _recordings(kind: str, seconds: float) -> tuple[np.ndarray, np.ndarray, list[Recording]]:
    clips = read()
    longest = int(seconds * RATE)
    found = []
    for samples, digit, speaker in zip(clips.samples, clips.digit, clips.speaker):
        values = audio.features(samples[:longest], RATE, kind)
        found.append(Recording(values, np.full(len(values), digit), np.array([digit + 1]), SPEAKERS[speaker]))
    return clips.speaker, clips.take, found
