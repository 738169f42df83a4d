"""Google Speech Commands: which word is being said in a second of sound, from its mel spectrogram."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from ..encoders import Chain, Deltas, UnitSpread
from ..errors import DataError, TaskError
from ..trial import Trial
from . import gsc_files, mel
from .data import DataFile, fetch
from .scoring import trial_accuracy
from .settings import folder as as_folder
from .settings import integer, number, word
from .stored import StoredTask
from .task import SPLITS, Split

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "_silence_", "_unknown_"
TWELVE = (*KEYWORDS, SILENCE, UNKNOWN)
# Shares of each recording of noise, from its beginning, from which the silence of each split is taken.
SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
# Spectrograms of the 12-class test set, with a split of their own: they save the archive.
SPECTROGRAMS = DataFile(
    "gsc12_mel", "gsc12_mel_u8.npz", "c14cd0912b655761657ba061746d122ba00bf50fe5cff0fc3a34d2d75594ccc1", ()
)


class GSC(StoredTask):
    """Google Speech Commands. Metric: accuracy.

    Settings:
        version: 1 (65,000 recordings of 30 words) or 2 (106,000 of 35).
        words: "keywords", 12 classes: ten words, silence, and all other words as one (Yin et al. 2021); "all", each
            word a class, which is another task.
        silence: for "keywords", numbers of seconds of silence for training, validation and test. They are drawn from
            the recordings of background noise: training's from the first 80 % of each, validation's from the next 10 %,
            the test's from the last.
        seed: draws them.
        folder: of the unpacked archive, used as it is; None: `gsc/speech_commands_v0.02` (or `v0.01`) under
            `ENGRAX_DATA`, or the published archive, checked.
        hold: steps for which a frame is held.
        dt: length of a step in the unit of the network's time constants; 1: they are in frames of 10 ms.

    Splits: those of the set's own lists, by speaker.

    Trials: inputs (101 hold, batch, 120); targets (batch,). 40 log(1 + mel power / largest) (`engrax.tasks.mel`), their
    first and their second derivatives (`Deltas`), each divided by its standard deviation over the recording
    (`UnitSpread`), then by that over training recordings (the authors: over the batch). The decision is the largest
    output on average over time.

    With "keywords" most recordings are of other words, in all splits: `balanced=True` trains on all classes alike.

    Source: Warden 2018; classes and features, Yin et al. 2021.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: soundfile or kaldi-native-fbank is not installed; the files are neither found nor to be downloaded,
            or damaged; there is no cache to keep spectrograms in.
    """

    name: ClassVar[str] = "gsc"

    rows: dict[str, PyTree[Array]]
    spread: Float[Array, " features"]
    classes: tuple[str, ...] = eqx.field(static=True)
    hold: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(
        self,
        version: int = 2,
        words: str = "keywords",
        silence: Sequence[int] = (2300, 260, 260),
        seed: int = 0,
        folder: str | os.PathLike[str] | None = None,
        hold: int = 1,
        dt: float = 1.0,
    ) -> None:
        version, words = integer("version", 1, 2)(version), word("words", ("keywords", "all"))(words)
        seconds, seed = _seconds(silence), integer("seed", 0)(seed)
        found = gsc_files.read(f"v0.0{version}", None if folder is None else as_folder(folder))
        said = np.array([path.partition("/")[0] for path in found.paths])
        if missing := sorted(set(KEYWORDS) - set(said.tolist())):
            raise DataError(f"there are no recordings of {', '.join(missing)}: the set is not whole.")
        names = TWELVE if words == "keywords" else tuple(sorted(set(said.tolist())))
        parts = {}
        for split, index in _listed(found).items():
            labels = np.array([names.index(x) if x in names else names.index(UNKNOWN) for x in said[index]])
            levels = found.levels[index]
            if words == "keywords":
                quiet = _crops(found.noise, split, seconds[split], seed)
                levels = np.concatenate([levels, quiet])
                labels = np.concatenate([labels, np.full(len(quiet), names.index(SILENCE))])
            parts[split] = levels, labels
        self._store(parts, names, hold, dt)

    def _store(
        self, parts: dict[Split, tuple[np.ndarray, np.ndarray]], names: tuple[str, ...], hold: int, dt: float
    ) -> None:
        self.classes = names
        self.hold, self.dt = integer("hold", 1)(hold), number("dt", 0.0, exclusive=True)(dt)
        self.rows = {
            split: {"levels": jnp.asarray(levels), "targets": jnp.asarray(labels, jnp.int32)}
            for split, (levels, labels) in parts.items()
        }
        self.spread = _spread(self.rows["train"]["levels"])

    @property
    def input_size(self) -> int:
        return self.spread.shape[0]

    @property
    def output_size(self) -> int:
        return len(self.classes)

    def present(self, rows: PyTree[Array]) -> Trial:
        features = _features(rows["levels"])
        shown = features / jnp.broadcast_to(self.spread, features.shape)
        return Trial(jnp.repeat(shown, self.hold, axis=0), rows["targets"])

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of recordings named rightly by the mean of the outputs over time."""
        return trial_accuracy(outputs, trial.targets, trial.valid())


class GSC12(GSC):
    """The 12-class test set of Google Speech Commands as a task of its own: few recordings, unknown voices.

    Metric: accuracy. It is no measure of what is published on that test set, whose networks were trained on 85,000
    other recordings.

    Settings:
        hold, dt: as for `GSC`.

    Recordings: 4890, about 400 of each class: ten words, silence, others; 239 speakers. For training 3321, for
    validation 643, for the test 926, each speaker in one of them alone (`part`).

    Trials and decision: as for `GSC`.

    Files: `gsc12_mel/gsc12_mel_u8.npz` under `ENGRAX_DATA`, or the published archive of the test set.

    Raises:
        TaskError, DataError: as for `GSC`.
    """

    name: ClassVar[str] = "gsc12"

    def __init__(self, hold: int = 1, dt: float = 1.0) -> None:
        own = os.environ.get("ENGRAX_DATA")
        if own and (Path(own).expanduser() / SPECTROGRAMS.folder / SPECTROGRAMS.name).is_file():
            with np.load(fetch(SPECTROGRAMS), allow_pickle=False) as file:
                levels, labels, names = file["mel_halfdb"], file["label"], file["filename"]
        else:
            found = gsc_files.read("test_set_v0.02")
            said, names = zip(*(path.split("/") for path in found.paths.tolist()), strict=True)
            if set(said) != set(TWELVE):
                raise DataError(f"the test set must hold the classes {', '.join(TWELVE)}, got {sorted(set(said))}.")
            levels, labels = found.levels, np.array([TWELVE.index(x) for x in said])
        whose = np.array([part(str(name)) for name in names])
        self._store({s: (levels[whose == s], labels[whose == s]) for s in SPLITS}, TWELVE, hold, dt)


def part(name: str) -> Split:
    """The split of a recording of `GSC12`, from its file's name.

    SHA-1 of the speaker (the hexadecimal number before "_nohash_"), or of the name of a file that has none (silence),
    as a number modulo 100: below 70 training, below 80 validation, else test.
    """
    speaker = re.search(r"([0-9a-f]+)_nohash_", name)
    share = int(hashlib.sha1((speaker[1] if speaker else name).encode()).hexdigest(), 16) % 100
    return "train" if share < 70 else "validation" if share < 80 else "test"


def _features(levels: UInt8[Array, "batch frames bands"]) -> Float[Array, "frames batch features"]:
    return Chain(mel.log_power, Deltas(order=2), UnitSpread())(jnp.swapaxes(levels, 0, 1))


def _spread(levels: UInt8[Array, "recordings frames bands"], most: int = 4096, batch: int = 256) -> Array:
    """Standard deviation of each feature over frames of training recordings, at most so many, evenly spaced."""
    index = np.unique(np.linspace(0, len(levels) - 1, most).astype(int))
    moments = jax.jit(lambda part: [jnp.mean(_features(part) ** power, axis=0).sum(axis=0) for power in (1, 2)])
    sums = [moments(levels[index[i : i + batch]]) for i in range(0, len(index), batch)]
    mean, square = np.sum(np.asarray(sums, np.float64), axis=0) / len(index)
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    return jnp.asarray(np.where(spread > 0, spread, 1), jnp.result_type(float))


def _seconds(silence: Any) -> dict[str, int]:
    given = list(silence) if isinstance(silence, Sequence) and not isinstance(silence, str) else []
    if len(given) != len(SPLITS):
        raise TaskError(f"silence must be three numbers, for training, validation and test, got {silence!r}.")
    return {split: integer("silence", 1)(x) for split, x in zip(SPLITS, given, strict=True)}


def _listed(found: gsc_files.Recordings) -> dict[Split, np.ndarray]:
    """The recordings of each split by the set's own lists."""
    held = {split: np.isin(found.paths, found.listed[split]) for split in ("validation", "test")}
    both = found.paths[held["validation"] & held["test"]]
    if len(both):
        raise DataError(f"{both[0]} stands in both {gsc_files.LISTS['validation']} and {gsc_files.LISTS['test']}.")
    members: dict[Split, np.ndarray] = {
        "train": np.flatnonzero(~held["validation"] & ~held["test"]),
        "validation": np.flatnonzero(held["validation"]),
        "test": np.flatnonzero(held["test"]),
    }
    for split, index in members.items():
        if not len(index):
            where = f"{gsc_files.LISTS[split]} is missing or empty" if split != "train" else "the lists name them all"
            raise DataError(f"no recordings are left for {split}: {where}.")
    return members


def _crops(noise: list[np.ndarray], split: Split, count: int, seed: int) -> np.ndarray:
    """Spectrograms of seconds drawn from the split's share of all recordings of noise."""
    if not noise:
        raise DataError(f'there is no noise: {gsc_files.NOISE} is missing or empty. words="all" needs none.')
    shares = [x[int(SHARES[split][0] * len(x)) : int(SHARES[split][1] * len(x))] for x in noise]
    shortest = min(len(x) for x in noise)
    if min(len(x) for x in shares) <= mel.SECOND:
        raise DataError(f"recordings of noise must be longer than ten seconds each, got {shortest / mel.RATE:.1f} s.")
    # RandomState, because NumPy guarantees that its numbers stay the same from version to version.
    random = np.random.RandomState([seed, SPLITS.index(split)])
    crops = []
    for _ in range(count):
        share = shares[random.randint(len(shares))]
        start = random.randint(len(share) - mel.SECOND)
        crops.append(mel.half_decibels(share[start : start + mel.SECOND]))
    return np.stack(crops)
