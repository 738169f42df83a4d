"""TIMIT: which phone is being said, frame by frame, or which string of phones was said. Bellec et al. 2020, Fig. 2.

The corpus is licensed (Linguistic Data Consortium, LDC93S1) and cannot be downloaded; this reads its folder.
"""

import os
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import DataError, TaskError
from ..trial import Trial
from . import audio
from .phones import CORE_TEST, DEVELOPMENT, FOLD, PHONES
from .scoring import step_weights
from .settings import integer, word
from .speech import NORMALISE, Recording, SpeechTask
from .strings import compact
from .task import Split

RATE = 16000
_LAYOUT = (
    "It must hold the corpus as the Linguistic Data Consortium distributes it: TRAIN/DR1/FCJF0/SX37.WAV and SX37.PHN, "
    "TEST/DR1/FAKS0/SX43.WAV and so on."
)


class TIMIT(SpeechTask):
    """The phone that is being said, of 61, at every frame of 10 ms. Metric: accuracy, of frames.

    Settings:
        path: the corpus's folder, with TRAIN and TEST in it, in any case. None: `timit` or `TIMIT` under `ENGRAX_DATA`.
        features: "fbank", 123 features a frame, or "mfcc", 39 (`engrax.tasks.audio`).
        hold: steps of 1 ms for which a frame is held.
        normalise: "training": every feature has mean 0 and standard deviation 1 over the training sentences. "speaker":
            over each speaker's own sentences.

    Sentences: for training all of TRAIN (462 speakers, 3696 sentences), for validation 50 speakers of TEST (400), for
    test the core test's 24 (192). The sentences SA1 and SA2, which all speakers say, are left out. A corpus of which
    speakers are missing is read as it is.

    Trials: `FrameTrial`s with inputs (time, batch, 123 or 39); targets (time, batch), the phone in the middle of the
    frame, as numbered by `engrax.tasks.phones.PHONES`; mask (time, batch), 1 / frames at the last step of each frame,
    so that each sentence counts alike; lengths. All are padded to the longest sentence.

    `metrics` gives "accuracy_39" beside the score: share of frames whose phone is right after both were folded to 39;
    frames of the glottal stop q do not count.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: there is no such folder, a part of it is empty, or a file cannot be read or is not as promised.

    Source: Garofolo et al. 1993; features and parts, Bellec et al. 2020.
    """

    name: ClassVar[str] = "timit"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        features: str = "fbank",
        hold: int = 5,
        normalise: str = "training",
    ) -> None:
        kind, hold = word("features", tuple(audio.SIZES))(features), integer("hold", 1)(hold)
        root = _root(path)
        recordings: list[Recording] = []
        rows: dict[Split, np.ndarray] = {}
        for split, sentences in _sentences(root).items():
            rows[split] = np.arange(len(recordings), len(recordings) + len(sentences))[:, None]
            recordings.extend(_read(transcript, kind) for transcript in sentences)
        super().__init__(recordings, rows, hold, word("normalise", NORMALISE)(normalise))

    @property
    def output_size(self) -> int:
        return len(PHONES)

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """ "accuracy_39", of frames after folding."""
        fold = jnp.asarray(FOLD, jnp.int32)
        wanted = fold[trial.targets]
        weights = step_weights(trial).astype(outputs.dtype) * (wanted >= 0).astype(outputs.dtype)
        said = jnp.where(jnp.any(jnp.isnan(outputs), axis=-1), -1, fold[jnp.argmax(outputs, axis=-1)])
        total = jnp.sum(weights)
        share = jnp.sum((said == wanted).astype(outputs.dtype) * weights) / jnp.where(total > 0, total, 1)
        return {"accuracy_39": (share, total)}


class TIMITStrings(TIMIT):
    """The string of phones that was said, without when. Metric: accuracy, 1 - edit distance / phones, after folding.

    For the loss "ctc". Settings and sentences: those of `TIMIT`.

    Trials: `FrameTrial`s as for `TIMIT`, with targets (phones, batch): number of the phone + 1, for output 0 is the
    blank. The answer is the string of the best path through the frames' mean outputs. Both strings are folded to 39
    phones and lose q before they are compared; phones that have become equal to their neighbour stay two.

    Raises:
        TaskError, DataError: as for `TIMIT`.
    """

    name: ClassVar[str] = "timit_strings"
    strings: ClassVar[bool] = True

    @property
    def output_size(self) -> int:
        return len(PHONES) + 1

    def scored(self, string: Int[Array, "labels batch"]) -> Int[Array, "labels batch"]:
        """The string in 39 phones, numbered from 1 by `engrax.tasks.phones.SCORED`, without q."""
        folded = jnp.asarray((0, *(place + 1 for place in FOLD)), jnp.int32)[string]
        return compact(folded, folded != 0)

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        return {}


# The corpus -----------------------------------------------------------------------------------------------------------


def _root(path: Any) -> Path:
    if path is None:
        own = os.environ.get("ENGRAX_DATA")
        places = [Path(own).expanduser() / name for name in ("timit", "TIMIT")] if own else []
        found = next((p for p in places if p.is_dir()), None)
        if found is None:
            raise DataError(
                "TIMIT is licensed and cannot be downloaded (Linguistic Data Consortium, LDC93S1). Give its folder as "
                "the setting 'path', or put it at FOLDER/timit and set the environment variable ENGRAX_DATA=FOLDER."
            )
        return found
    if not isinstance(path, str | os.PathLike):
        raise TaskError(f"path must name TIMIT's folder, got {path!r}.")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"there is no folder {root}. Give TIMIT's folder as the setting 'path'.")
    return root


def _sentences(root: Path) -> dict[Split, list[Path]]:
    """The transcripts of every part, in the order of their names."""
    parts: dict[Split, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in root.rglob("*"):
        if path.suffix.lower() != ".phn" or path.stem.lower() in ("sa1", "sa2"):
            continue
        # PART/DIALECT/SPEAKER/SENTENCE.PHN, wherever the corpus lies.
        part, _, speaker = (x.lower() for x in path.relative_to(root.parent).parts[-4:-1])
        if part == "train":
            parts["train"].append(path)
        elif part == "test" and speaker in DEVELOPMENT:
            parts["validation"].append(path)
        elif part == "test" and speaker in CORE_TEST:
            parts["test"].append(path)
    for split, found in parts.items():
        if not found:
            where = {"train": "TRAIN", "validation": "TEST, of the development speakers", "test": "TEST, of the core"}
            raise DataError(f"{root} has no sentences for {split} (in {where[split]}). {_LAYOUT}")
        found.sort(key=lambda path: tuple(part.lower() for part in path.parts[-4:]))
    return parts


def _read(transcript: Path, kind: str) -> Recording:
    path = _audio(transcript)
    samples, rate = audio.read_audio(path, str(path))
    if rate != RATE:
        raise DataError(f"{path} has a sampling rate of {rate} Hz; TIMIT has {RATE}.")
    values = audio.features(samples, rate, kind)
    ends, phones = _transcript(transcript)
    # What lies after the last phone's end is still that phone.
    place = np.minimum(np.searchsorted(ends, audio.centres(len(values), rate), side="right"), len(phones) - 1)
    return Recording(values, phones[place], phones + 1, transcript.parent.name.lower())


def _audio(transcript: Path) -> Path:
    """The audio file of a transcript: .WAV in any case, or .WAV.wav as copies in RIFF form are often called."""
    stem = transcript.stem.lower()
    beside = {p.name.lower(): p for p in sorted(transcript.parent.iterdir())}
    for name in (f"{stem}.wav", f"{stem}.wav.wav"):
        if name in beside:
            return beside[name]
    raise DataError(f"{transcript} has no audio file beside it, {transcript.stem}.WAV.")


def _transcript(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where each phone ends, in samples, and the phones, from a file of lines START END PHONE."""
    ends, phones, last = [], [], 0
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        match line.split():
            case []:
                continue
            case [start, end, phone] if start.isdecimal() and end.isdecimal():
                if phone not in PHONES:
                    raise DataError(f"{path}, line {number}: unknown phone {phone!r}. Known: {' '.join(PHONES)}.")
                if not last <= int(start) < int(end):
                    raise DataError(f"{path}, line {number}: {start} {end} does not come after sample {last}.")
                last = int(end)
                ends.append(last)
                phones.append(PHONES.index(phone))
            case _:
                raise DataError(f"{path}, line {number}: must be START END PHONE, got {line!r}.")
    if not phones:
        raise DataError(f"{path} has no phones.")
    return np.array(ends), np.array(phones)
