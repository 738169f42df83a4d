"""Time series of the UCR and UEA archives: one class for each series, of any length and number of channels."""

import os
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..errors import DataError, TaskError
from ..trial import Trial
from .data import DataFile, fetch
from .scoring import Decisions, step_weights, trial_accuracy, trial_decisions
from .settings import folder as as_folder
from .settings import integer, number
from .stored import StoredTask
from .ts import Cases, read_ts

_SKTIME = (
    "https://raw.githubusercontent.com/sktime/sktime/7bd7d1620c0656f3210eeb850bb1c0034159ee47/sktime/datasets/data"
)
PINNED = {
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}


class UCR(StoredTask):
    """A problem of the UCR or UEA archive. Metric: accuracy.

    Settings:
        problem: "JapaneseVowels" (9 speakers, 12 cepstra, 7 to 29 steps; 270 training and 370 test series), which is
            fetched; or any other with `folder`.
        folder: where PROBLEM_TRAIN.ts and PROBLEM_TEST.ts lie.
        fraction: share of each class of the training file that is held out for validation, at least one series.
        seed: draws it.
        hold: steps for which a sample is held.
        dt: length of a step, ms.

    Trials: inputs (time, batch, channels), every channel with mean 0 and standard deviation 1 over the training series;
    targets (batch,), the class in the order of the file's header; lengths. The decision is the largest output on
    average over valid steps.

    Source: Dau et al. 2019 (UCR), Bagnall et al. 2018 (UEA); Japanese Vowels, Kudo et al. 1999.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the files are neither found nor to be downloaded, or are no such files.
    """

    name: ClassVar[str] = "ucr"

    rows: dict[str, PyTree[Array]]
    classes: tuple[str, ...] = eqx.field(static=True)
    hold: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(
        self,
        problem: str = "JapaneseVowels",
        folder: str | os.PathLike[str] | None = None,
        fraction: float = 0.2,
        seed: int = 0,
        hold: int = 5,
        dt: float = 1.0,
    ) -> None:
        fraction, seed = number("fraction", 0.0, 0.5, exclusive=True)(fraction), integer("seed", 0)(seed)
        self.hold, self.dt = integer("hold", 1)(hold), number("dt", 0.0, exclusive=True)(dt)
        train, test = (read_ts(_path(problem, part, folder)) for part in ("TRAIN", "TEST"))
        if train.classes != test.classes or train.values[0].shape[1] != test.values[0].shape[1]:
            raise DataError(f"{problem}: the training and the test file differ in classes or channels.")
        self.classes = train.classes
        held = _held(train.labels, fraction, seed)
        told = np.concatenate([x for x, out in zip(train.values, held, strict=True) if not out])
        mean, spread = told.mean(0), told.std(0)
        longest = max(len(x) for x in train.values + test.values)
        everything = {
            "train": (train, np.flatnonzero(~held)),
            "validation": (train, np.flatnonzero(held)),
            "test": (test, np.arange(len(test.values))),
        }
        self.rows = {
            split: _stored(cases, index, longest, mean, np.where(spread > 0, spread, 1.0))
            for split, (cases, index) in everything.items()
        }

    @property
    def input_size(self) -> int:
        return self.rows["train"]["inputs"].shape[-1]

    @property
    def output_size(self) -> int:
        return len(self.classes)

    def present(self, rows: PyTree[Array]) -> Trial:
        inputs = jnp.repeat(jnp.swapaxes(rows["inputs"], 0, 1), self.hold, axis=0)
        return Trial(inputs, rows["targets"], lengths=rows["lengths"] * self.hold)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of series named rightly by the mean of the outputs over valid steps."""
        return trial_accuracy(outputs, trial.targets, step_weights(trial))

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One a series."""
        return trial_decisions(outputs, trial.targets, step_weights(trial))


def _path(problem: Any, part: str, folder: Any) -> Path:
    if not isinstance(problem, str) or not problem or Path(problem).name != problem:
        raise TaskError(f"problem must be the name of a problem, such as 'JapaneseVowels', got {problem!r}.")
    name = f"{problem}_{part}.ts"
    if folder is not None:
        path = as_folder(folder) / name
        if not path.is_file():
            raise DataError(f"{path} does not exist.")
        return path
    if name not in PINNED:
        raise TaskError(f"problem {problem!r} is not fetched: get its files, and give folder=... beside it.")
    return fetch(DataFile(f"ucr_small/{problem}", name, PINNED[name], (f"{_SKTIME}/{problem}/{name}",)))


def _held(labels: list[str], fraction: float, seed: int) -> np.ndarray:
    """Which training series are held out, class by class."""
    random, of = np.random.RandomState(seed), np.asarray(labels)
    held = np.zeros(len(of), bool)
    for label in np.unique(of):
        index = random.permutation(np.flatnonzero(of == label))
        if len(index) < 2:
            raise DataError(f"class {str(label)!r} has a single training series: none can be held out for validation.")
        held[index[: max(1, round(fraction * len(index)))]] = True
    return held


def _stored(cases: Cases, index: np.ndarray, longest: int, mean: np.ndarray, spread: np.ndarray) -> dict[str, Array]:
    inputs = np.zeros((len(index), longest, len(mean)))
    for row, i in zip(inputs, index, strict=True):
        row[: len(cases.values[i])] = (cases.values[i] - mean) / spread
    return {
        "inputs": jnp.asarray(inputs, jnp.result_type(float)),
        "targets": jnp.asarray([cases.classes.index(cases.labels[i]) for i in index], jnp.int32),
        "lengths": jnp.asarray([len(cases.values[i]) for i in index], jnp.int32),
    }
