"""Speech in frames, for all tasks of speech: a class at every frame, or the string of what was said.

Frames of all recordings lie in one array, one recording after another, because recordings differ in length. A trial is
one recording or several in a row; a network gets every frame for `hold` steps of 1 ms.
"""

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ..trial import FrameTrial, Trial
from .scoring import Decisions, step_accuracy, step_weights
from .stored import StoredTask
from .strings import best_path, compact, count, edit_distance
from .task import Split


class Recording(NamedTuple):
    """Features of a recording (frames, features), the class of each frame, its label string (from 1), who speaks."""

    features: np.ndarray
    classes: np.ndarray
    string: np.ndarray
    speaker: str


NORMALISE = ("training", "speaker")


class SpeechTask(StoredTask):
    """Base of tasks of speech. A subclass gives recordings and says which are whose; `strings` says what is asked.

    Fields:
        rows: for each split, (trials, n): the numbers of the recordings that make a trial.
        frames: (total, features), normalised: mean 0 and standard deviation 1 over the training recordings
            ("training"), or over each speaker's own ("speaker").
        classes: (total,) class of each frame.
        start, length: (recordings,) where each recording starts in `frames`, and its number of frames.
        said: (recordings, labels) label strings, padded with 0.
        longest: frames of the longest trial; all trials are padded to it.
        hold: steps of 1 ms for which a frame is held.

    Class attributes:
        strings: False: a class at each frame is asked. True: the label string of the trial, for the loss "ctc".
    """

    strings: ClassVar[bool] = False

    rows: dict[str, PyTree[Array]]
    frames: Float[Array, "total features"]
    classes: Int[Array, " total"]
    start: Int[Array, " recordings"]
    length: Int[Array, " recordings"]
    said: Int[Array, "recordings labels"]
    longest: int = eqx.field(static=True)
    hold: int = eqx.field(static=True)

    def __init__(self, recordings: list[Recording], rows: dict[Split, np.ndarray], hold: int, normalise: str) -> None:
        length = np.array([len(r.features) for r in recordings])
        start = np.cumsum(length) - length
        values = np.concatenate([r.features for r in recordings]).astype(np.float64)
        if normalise == "training":
            training = np.isin(np.arange(len(recordings)), rows["train"])
            values = _standard(values, np.repeat(training, length))
        else:
            speaker = np.repeat([r.speaker for r in recordings], length)
            for one in np.unique(speaker):
                values[speaker == one] = _standard(values[speaker == one])
        said = np.zeros((len(recordings), max(len(r.string) for r in recordings)), np.int32)
        for row, recording in zip(said, recordings):
            row[: len(recording.string)] = recording.string
        self.rows = {split: jnp.asarray(index, jnp.int32) for split, index in rows.items()}
        self.frames = jnp.asarray(values, jnp.result_type(float))
        self.classes = jnp.asarray(np.concatenate([r.classes for r in recordings]), jnp.int32)
        self.start, self.length = jnp.asarray(start, jnp.int32), jnp.asarray(length, jnp.int32)
        self.said = jnp.asarray(said)
        self.longest = int(max(length[index].sum(axis=1).max() for index in rows.values()))
        self.hold = hold

    @property
    def input_size(self) -> int:
        return self.frames.shape[1]

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """Number of classes, and one more for the blank where strings are asked."""

    @property
    def dt(self) -> float:
        return 1.0

    def present(self, rows: PyTree[Array]) -> FrameTrial:
        place, valid = self._places(rows)
        frames = jnp.where(valid[..., None], self.frames[place], 0)
        lengths = jnp.sum(self.length[rows], axis=1)
        inputs, steps = jnp.repeat(frames, self.hold, axis=0), (lengths * self.hold).astype(jnp.int32)
        if self.strings:
            return FrameTrial(inputs, self._string(rows), lengths=steps, hold=self.hold)
        classes = jnp.repeat(jnp.where(valid, self.classes[place], 0), self.hold, axis=0)
        last = jnp.arange(self.longest * self.hold) % self.hold == self.hold - 1
        share = jnp.repeat(valid, self.hold, axis=0) & last[:, None]
        mask = share.astype(frames.dtype) / lengths[None].astype(frames.dtype)
        return FrameTrial(inputs, classes, mask, steps, hold=self.hold)

    def _places(self, rows: Int[Array, "batch n"]) -> tuple[Int[Array, "frames batch"], Array]:
        """Where each frame of each trial lies in `frames`, and whether it is one or padding."""
        length = self.length[rows].T
        ends = jnp.cumsum(length, axis=0)
        frame = jnp.arange(self.longest, dtype=jnp.int32)[:, None]
        passed = jnp.sum(frame[:, None] >= ends[None], axis=1, dtype=jnp.int32)
        valid = passed < len(length)
        # A frame's place is its recording's start plus what of the trial comes after that recording's beginning.
        offset = self.start[rows].T - (ends - length)
        place = frame + jnp.take_along_axis(offset, jnp.minimum(passed, len(length) - 1), axis=0)
        return jnp.where(valid, place, 0), valid

    def _string(self, rows: Int[Array, "batch n"]) -> Int[Array, "labels batch"]:
        labels = self.said[rows].reshape(rows.shape[0], -1).T
        return compact(labels, labels != 0)

    # What counts -----------------------------------------------------------------------------------------------------

    def scored(self, string: Int[Array, "labels batch"]) -> Int[Array, "labels batch"]:
        """A string as it is scored. Default: itself."""
        return string

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Accuracy, 1 - the error rate.

        Of frames: share of a recording's frames named rightly by the outputs at their last step, averaged over
        recordings. Of strings: 1 - edit distance / labels, over all strings together, for the string of the best path
        through the frames' mean outputs; it is below 0 where more is wrong than was said.
        """
        if not self.strings:
            return step_accuracy(outputs, trial.targets, step_weights(trial))
        said = self.scored(best_path(*_frames(outputs, trial)))
        wrong = jnp.sum(edit_distance(said, self.scored(trial.targets))).astype(outputs.dtype)
        return 1 - wrong / jnp.maximum(self.weight(trial), 1)

    def weight(self, trial: Trial) -> Float[Array, ""]:
        """Number of recordings, or of labels where strings are asked."""
        if not self.strings:
            return super().weight(trial)
        return jnp.sum(count(self.scored(trial.targets))).astype(jnp.result_type(float))

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions | None:
        """One decision a frame; none for strings."""
        return None if self.strings else super().decisions(outputs, trial)


def _standard(values: np.ndarray, known: Any = ...) -> np.ndarray:
    """Values with the mean 0 and the standard deviation 1 over those that are `known`."""
    mean, spread = values[known].mean(axis=0), values[known].std(axis=0)
    return (values - mean) / np.where(spread > 0, spread, 1)


def _frames(outputs: Array, trial: Trial) -> tuple[Any, Any]:
    """Outputs by frame, and which frames count."""
    if isinstance(trial, FrameTrial):
        return trial.by_frame(outputs), trial.valid_frames()
    return outputs, trial.valid()
