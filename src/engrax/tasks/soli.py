"""SoLi: eleven gestures of a hand before a radar, as sequences of 32 x 32 range-Doppler pictures.

Files, as Wang et al. 2016 publish them: one HDF5 file a sequence, GESTURE_SESSION_INSTANCE.h5, with `ch0` to `ch3`
(frames x 1024) and `label`; and file_half.json, which lists those of "train" and of "eval".
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..errors import DataError
from ..trial import Trial
from .data import package
from .scoring import step_accuracy, step_weights
from .settings import folder as as_folder
from .settings import held_out, integer, number
from .stored import StoredTask

PIXELS, GESTURES = 1024, 11
LIST = "file_half.json"


class SoLi(StoredTask):
    """SoLi. Metric: accuracy, of frames.

    Settings:
        folder: where file_half.json (or config/file_half.json) and the sequences (there or in dsp) lie.
        validation: sessions, each of one person, whose training sequences are held out; None: the last of them.
        channel: receiver, 0 to 3.
        frames: of a sequence, from its beginning; the published networks see 40.
        hold: steps for which a frame is held.
        dt: length of a step in the unit of the network's time constants.

    Trials: inputs (frames x hold, batch, 1024), the picture / 255; targets (frames x hold, batch), the gesture, 0 to
    10, at every step; lengths. Sequences of the twelfth class, background, are left out.

    `metrics` gives "accuracy_last", of each sequence's last step.

    Source: Wang, Song, Lien, Poupyrev & Hilliges 2016.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: h5py is not installed; files are missing, or no such files.
    """

    name: ClassVar[str] = "soli"

    rows: dict[str, PyTree[Array]]
    hold: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(
        self,
        folder: str | os.PathLike[str],
        validation: Sequence[int] | None = None,
        channel: int = 0,
        frames: int = 40,
        hold: int = 1,
        dt: float = 1.0,
    ) -> None:
        channel, frames = integer("channel", 0, 3)(channel), integer("frames", 1)(frames)
        self.hold, self.dt = integer("hold", 1)(hold), number("dt", 0.0, exclusive=True)(dt)
        lists = _lists(as_folder(folder))
        sessions = sorted({session for _, session in lists["train"]})
        held = held_out(sessions[-1:] if validation is None else validation, sessions, "sessions")
        parts = {
            "train": [x for x in lists["train"] if x[1] not in held],
            "validation": [x for x in lists["train"] if x[1] in held],
            "test": lists["eval"],
        }
        self.rows = {split: _stored(listed, channel, frames) for split, listed in parts.items()}

    @property
    def input_size(self) -> int:
        return PIXELS

    @property
    def output_size(self) -> int:
        return GESTURES

    def present(self, rows: PyTree[Array]) -> Trial:
        shown = jnp.swapaxes(rows["pictures"], 0, 1).astype(jnp.result_type(float)) / 255
        inputs = jnp.repeat(shown, self.hold, axis=0)
        targets = jnp.broadcast_to(rows["gestures"], inputs.shape[:2])
        return Trial(inputs, targets, lengths=rows["lengths"] * self.hold)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of valid steps at which the largest output is the gesture's."""
        return step_accuracy(outputs, trial.targets, step_weights(trial))

    def weight(self, trial: Trial) -> Float[Array, ""]:
        """Number of valid steps."""
        return jnp.sum(step_weights(trial))

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """ "accuracy_last": share of sequences named rightly at their last step."""
        valid = step_weights(trial)
        after = jnp.concatenate([valid[1:], jnp.zeros_like(valid[:1])])
        last = valid * (1 - after)
        return {"accuracy_last": (step_accuracy(outputs, trial.targets, last), jnp.sum(last))}


def _lists(folder: Path) -> dict[str, list[tuple[Path, int]]]:
    """For "train" and "eval": path and session of each sequence."""
    there = next((p for p in (folder / LIST, folder / "config" / LIST) if p.is_file()), None)
    if there is None:
        raise DataError(f"{folder / LIST} does not exist (nor in its folder config).")
    try:
        content = json.loads(there.read_text())
        return {which: [_named(folder, name) for name in content[which]] for which in ("train", "eval")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{there} must be JSON with lists 'train' and 'eval' of GESTURE_SESSION_INSTANCE ({error})."
        ) from error


def _named(folder: Path, name: str) -> tuple[Path, int]:
    _, session, _ = (int(x) for x in name.split("_"))
    for path in (folder / f"{name}.h5", folder / "dsp" / f"{name}.h5"):
        if path.is_file():
            return path, session
    raise DataError(f"{folder / name}.h5 does not exist (nor in its folder dsp).")


def _stored(listed: list[tuple[Path, int]], channel: int, frames: int) -> dict[str, Array]:
    """Pictures, gestures and lengths of all sequences but those of the background."""
    h5py = package("h5py", "reading HDF5 files")
    read = [x for path, _ in listed if (x := _sequence(h5py, path, channel))[1] < GESTURES]
    if not read:
        raise DataError("SoLi: a split has no sequence of a gesture.")
    pictures = np.zeros((len(read), frames, PIXELS), np.float32)
    lengths = np.array([min(len(seen), frames) for seen, _ in read])
    for held, (seen, _), length in zip(pictures, read, lengths, strict=True):
        held[:length] = seen[:length]
    gestures = jnp.asarray([gesture for _, gesture in read], jnp.int32)
    return {"pictures": jnp.asarray(pictures), "gestures": gestures, "lengths": jnp.asarray(lengths, jnp.int32)}


def _sequence(h5py: Any, path: Path, channel: int) -> tuple[np.ndarray, int]:
    try:
        with h5py.File(path, "r") as file:
            seen, label = file[f"ch{channel}"][()], np.unique(file["label"][()])
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is no file with ch{channel} and label ({error}).") from error
    one = len(label) == 1 and 0 <= label[0] <= GESTURES
    if seen.ndim != 2 or seen.shape[1] != PIXELS or not len(seen) or not one:
        raise DataError(
            f"{path}: ch{channel} must be (frames, {PIXELS}) and all labels one class of 0 to {GESTURES}; got "
            f"{seen.shape} and {label.tolist()}."
        )
    return seen, int(label[0])
