"""A user's own recordings, from one NumPy `.npz` file. What is wrong with the file is said by the array's name."""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..errors import DataError, TaskError, nearest
from ..trial import Trial
from .scoring import (
    Decisions,
    mean_squared_error,
    step_accuracy,
    step_weights,
    trial_accuracy,
    trial_decisions,
)
from .settings import integer, number
from .stored import StoredTask
from .task import SPLITS

_REMEDY = "Write it by np.savez(path, inputs=..., targets=...)."
# zipfile and NumPy raise what they like on a damaged file: NotImplementedError, RuntimeError, struct.error, ...
_UNREADABLE = Exception
_REQUIRED, _OPTIONAL = ("inputs", "targets"), ("lengths", "split")


class Npz(StoredTask):
    """Trials of a `.npz` file, as `np.savez("mine.npz", inputs=..., targets=...)` writes it.

    Settings:
        path: the file. Pickled objects in it are never loaded.
        seed: draws the split where the file has none.
        dt: length of a step, ms.

    Arrays in the file:
        inputs: (samples, time, channels), real numbers.
        targets: what is asked for, which also decides the metric and the default loss: (samples,) integers are
            classes of whole trials (metric: accuracy); (samples, time) integers are classes at every step
            (accuracy); (samples, time, k) numbers are values to follow (loss, the mean squared error). Classes
            count from 0, and the largest sets the number of outputs.
        lengths: optional, (samples,) integers: valid steps of each sample. What lies beyond is padding, may hold
            anything, and is set to 0.
        split: optional, (samples,) integers: 0 train, 1 validation, 2 test. Left out: 80, 10 and 10 % at random.

    Trials: inputs (time, batch, channels); targets (batch,), (time, batch) or (time, batch, k); lengths (batch,) if
    the file has them. Scores count valid steps alone.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the file is missing, is no `.npz` file, or an array in it is missing, unknown or impossible.
    """

    name: ClassVar[str] = "npz"

    rows: dict[str, PyTree[Array]]
    outputs: int = eqx.field(static=True)
    kind: Literal["trial", "step", "values"] = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(self, path: str | os.PathLike[str], seed: int = 0, dt: float = 1.0) -> None:
        seed = integer("seed", 0)(seed)
        self.dt = number("dt", 0.0, exclusive=True)(dt)
        if not isinstance(path, str | os.PathLike):
            raise TaskError(f"path must name a .npz file, got {path!r}.")
        arrays = _Arrays(Path(path).expanduser())
        inputs, lengths = arrays.inputs()
        targets, self.kind, self.outputs = arrays.targets(lengths)
        floating = jnp.result_type(float)
        stored: dict[str, Array] = {
            "inputs": jnp.asarray(inputs, floating),
            "targets": jnp.asarray(targets, floating if self.kind == "values" else jnp.int32),
        }
        if "lengths" in arrays.content:
            stored["lengths"] = jnp.asarray(lengths, jnp.result_type(int))
        part = arrays.split(seed)
        self.rows = {
            split: {name: array[np.flatnonzero(part == code)] for name, array in stored.items()}
            for code, split in enumerate(SPLITS)
        }

    @property
    def metric(self) -> Literal["accuracy", "loss"]:
        """ "loss" for values to follow, "accuracy" for classes."""
        return "loss" if self.kind == "values" else "accuracy"

    @property
    def input_size(self) -> int:
        return self.rows["train"]["inputs"].shape[-1]

    @property
    def output_size(self) -> int:
        return self.outputs

    def present(self, rows: PyTree[Array]) -> Trial:
        targets = rows["targets"] if self.kind == "trial" else jnp.swapaxes(rows["targets"], 0, 1)
        return Trial(jnp.swapaxes(rows["inputs"], 0, 1), targets, lengths=rows.get("lengths"))

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Accuracy of whole trials (largest mean output over valid steps) or of valid steps, or mean squared error."""
        if self.kind == "trial":
            return trial_accuracy(outputs, trial.targets, step_weights(trial))
        if self.kind == "step":
            return step_accuracy(outputs, trial.targets, step_weights(trial))
        return mean_squared_error(outputs, trial)

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions | None:
        """One decision a trial or a step, as `score` takes it."""
        if self.kind == "trial":
            return trial_decisions(outputs, trial.targets, step_weights(trial))
        return super().decisions(outputs, trial)

    def weight(self, trial: Trial) -> Float[Array, ""]:
        """Number of trials, or of steps that count where steps are scored."""
        return super().weight(trial) if self.kind == "trial" else jnp.sum(step_weights(trial))


class _Arrays:
    """The arrays of the file, checked one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = _read(path)
        for name in _REQUIRED:
            if name not in self.content:
                raise self.error(f"has no array {name!r}.{nearest(name, self.content)}")
        for name in self.content:
            # Ignoring a misspelt "lengths" would train on padding without a word.
            if name not in _REQUIRED + _OPTIONAL:
                raise self.error(f"has an unknown array {name!r}.{nearest(name, _REQUIRED + _OPTIONAL)}")

    def error(self, what: str) -> DataError:
        return DataError(f"{self.path} {what}")

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs with their padding cleared, and lengths (all steps where the file gives none)."""
        inputs = self.content["inputs"]
        if inputs.ndim != 3 or 0 in inputs.shape:
            raise self.error(f"inputs must have shape (samples, time, channels), none of them 0, got {inputs.shape}.")
        self.samples, self.steps = inputs.shape[:2]
        lengths = self.integers("lengths", (self.samples,), 1, self.steps)
        if lengths is None:
            lengths = np.full(self.samples, self.steps)
        return self.numbers("inputs", lengths), lengths

    def targets(self, lengths: np.ndarray) -> tuple[np.ndarray, Literal["trial", "step", "values"], int]:
        """Targets with their padding cleared, their kind, and the number of outputs."""
        targets = self.content["targets"]
        shapes = {1: (self.samples,), 2: (self.samples, self.steps)}
        if targets.ndim == 3 and targets.shape[:2] == shapes[2] and targets.shape[2] > 0:
            return self.numbers("targets", lengths), "values", targets.shape[2]
        if targets.ndim not in shapes or targets.shape != shapes[targets.ndim]:
            n, t = shapes[2]
            raise self.error(f"targets must have shape ({n},), ({n}, {t}) or ({n}, {t}, k), got {targets.shape}.")
        if not np.issubdtype(targets.dtype, np.integer):
            raise self.error(
                f"targets of shape {targets.shape} must be classes, of an integer type, got {targets.dtype}. Values "
                f"to follow have shape ({self.samples}, {self.steps}, k)."
            )
        if targets.ndim == 2:
            targets = np.where(self.padding(lengths), 0, targets)
            self.content["targets"] = targets
        checked = self.integers("targets", targets.shape, 0, np.iinfo(np.int32).max - 1)
        classes = int(checked.max()) + 1 if checked is not None else 0
        if classes < 2:
            raise self.error("targets hold the single class 0; a task needs at least two classes, 0 and 1.")
        return targets, "trial" if targets.ndim == 1 else "step", classes

    def split(self, seed: int) -> np.ndarray:
        """0, 1 or 2 for each sample."""
        split = self.integers("split", (self.samples,), 0, 2)
        if split is None:
            # A tenth, but at least one, for validation and for test.
            tenth = max(1, round(self.samples / 10))
            split = np.zeros(self.samples, int)
            order = np.random.RandomState(seed).permutation(self.samples)
            split[order[:tenth]], split[order[tenth : 2 * tenth]] = 1, 2
        for code, name in enumerate(SPLITS):
            if not np.any(split == code):
                reason = f"split has no sample of {code}" if "split" in self.content else "too few samples"
                raise self.error(f"leaves the {name} part empty: {reason} ({self.samples} samples in all).")
        return split

    def integers(self, name: str, shape: tuple[int, ...], minimum: int, maximum: int) -> np.ndarray | None:
        if name not in self.content:
            return None
        array = self.content[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
            raise self.error(f"{name} must be integers of shape {shape}, got {array.dtype} of shape {array.shape}.")
        wrong = (array < minimum) | (array > maximum)
        if wrong.any():
            where, value = _first(wrong), array[wrong][0]
            raise self.error(f"{name}{where} is {value}; {name} must lie between {minimum} and {maximum}.")
        return array

    def numbers(self, name: str, lengths: np.ndarray) -> np.ndarray:
        array = self.content[name]
        real = any(np.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer, np.bool_))
        if not real:
            raise self.error(f"{name} must be real numbers, got {array.dtype}.")
        array = np.where(self.padding(lengths)[..., None], np.zeros((), array.dtype), array)
        wrong = ~np.isfinite(array)
        if wrong.any():
            raise self.error(f"{name}{_first(wrong)} is {array[wrong][0]}; {name} must be finite within its length.")
        return array

    def padding(self, lengths: np.ndarray) -> np.ndarray:
        return np.arange(self.steps)[None, :] >= lengths[:, None]


def _first(wrong: np.ndarray) -> str:
    return "[" + ", ".join(str(i) for i in np.argwhere(wrong)[0]) + "]"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"there is no file {path}. Give the .npz file's path as the setting 'path'.")
    content: dict[str, Any] = {}
    # Opened here, because np.load leaves a file open that it cannot read.
    with path.open("rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except _UNREADABLE as error:
            raise DataError(f"{path} is not a .npz file ({error}). {_REMEDY}") from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds a single array. {_REMEDY}")
        for name in file.files:
            try:
                content[name] = file[name]
            except _UNREADABLE as error:
                raise DataError(
                    f"{path}: the array {name!r} cannot be read ({error}). Objects are refused; store plain numbers."
                ) from error
            if not isinstance(content[name], np.ndarray):
                raise DataError(f"{path}: the member {name!r} is not a NumPy array.")
    return content
