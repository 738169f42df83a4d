"""Electrocardiogram wave labelling: at every step, in which of six waves is the heart?

Files: the QT database, encoded by level crossing, as Yin, Corradi and Bohte 2021 published them (MIT licence); the
recordings are PhysioNet's (ODC-By), Laguna et al. 1997.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ..errors import TaskError
from ..trial import Trial
from .data import DataFile, fetch, package
from .scoring import Decisions, step_accuracy, step_decisions
from .settings import integer, number, word
from .stored import StoredTask

_GITHUB = "https://raw.githubusercontent.com"
_YIN = f"{_GITHUB}/byin-cwi/Efficient-spiking-networks/bfd47cff62d26b0812bb2cc24c5f220245443a32/data"
_BRF = f"{_GITHUB}/AdaptiveAILab/brf-neurons/5d45b0e7d545f09b79d029bb40573200fde57fd7/experiments/ecg/data"

TRAIN_FILE = DataFile(
    "qtdb_ecg",
    "QTDB_train.mat",
    "72d1a10c96f1540880447e07256835d66da419c0b34f3dff495731a7928c5bc7",
    (f"{_YIN}/QTDB_train.mat", f"{_BRF}/QTDB_train.mat"),
)
TEST_FILE = DataFile(
    "qtdb_ecg",
    "QTDB_test.mat",
    "916f11e21679a5b61988305bbb7cd1e6df8b34f1ed4a157a7a4e295d400ef232",
    (f"{_YIN}/QTDB_test.mat", f"{_BRF}/QTDB_test.mat"),
)

STEPS, CHANNELS, CLASSES = 1301, 4, 6


class ECGTrial(Trial):
    """A trial that remembers which of its steps carry a label.

    Args:
        labelled: (time, batch), False where the file has no label and `targets` says 0.
    """

    labelled: Bool[Array, "time batch"] | None = None


class ECG(StoredTask):
    """QT database, 618 + 141 segments of 1301 steps (5.2 s at 250 Hz). Metric: accuracy over all steps.

    Settings:
        validation: what is held out of the training file. "blocks": contiguous stretches, evenly spread over the
            file. It carries no record numbers and neighbouring segments are alike, so "random" segments (as other
            papers hold out) resemble the training set more closely and flatter the model. "none": nothing is held
            out, and validation shows training segments again: for a last training, once everything is chosen.
        fraction: share of the training file that is held out, rounded down: 61 of 618 by default.
        blocks: number of stretches.
        seed: draws the random segments.
        skip: first steps that the loss ignores (mask 0), 10 in the published program.
        dt: length of a step in the unit of the network's time constants. 1, so that they are in steps as in the
            papers (and rates are per 1000 steps); with 4 they are in milliseconds.

    Trials: inputs (1301, batch, 4), events 0 or 1 of lead 0 up, lead 0 down, lead 1 up, lead 1 down (the -1 that
    ends every segment in the file is set to 0); targets (1301, batch), 0 to 5 = P, PQ, QR, RS, ST, TP; mask
    (1301, batch). Steps without a label (8.2 % of the training file, 10.4 % of the test file) have class 0, as
    published, and are False in `ECGTrial.labelled`.

    Scores: `score` counts every step, those without a label as class 0. Beside it `metrics` gives
    "accuracy_after_skip", which leaves the first `skip` steps out as the published program does, and
    "accuracy_labelled", over labelled steps alone.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the files are neither found nor to be downloaded, or damaged.
    """

    name: ClassVar[str] = "ecg"

    rows: dict[str, PyTree[Array]]
    skip: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(
        self,
        validation: str = "blocks",
        fraction: float = 0.1,
        blocks: int = 5,
        seed: int = 0,
        skip: int = 10,
        dt: float = 1.0,
    ) -> None:
        validation = word("validation", ("blocks", "random", "none"))(validation)
        fraction = number("fraction", 0.0, 0.5, exclusive=True)(fraction)
        blocks, seed = integer("blocks", 1)(blocks), integer("seed", 0)(seed)
        self.skip = integer("skip", 0)(skip)
        self.dt = number("dt", 0.0, exclusive=True)(dt)
        if self.skip >= STEPS:
            raise TaskError(f"skip must be less than the {STEPS} steps of a segment, got {skip}.")
        events, labels = _read(TRAIN_FILE)
        held = _held_out(len(events), validation, fraction, blocks, seed)
        kept = np.ones_like(held) if validation == "none" else ~held
        self.rows = {
            "train": (events[kept], labels[kept]),
            "validation": (events[held], labels[held]),
            "test": _read(TEST_FILE),
        }

    @property
    def input_size(self) -> int:
        return CHANNELS

    @property
    def output_size(self) -> int:
        return CLASSES

    def present(self, rows: PyTree[Array]) -> ECGTrial:
        events, labels = (jnp.swapaxes(x, 0, 1) for x in rows)
        dtype = jnp.result_type(float)
        counted = (jnp.arange(STEPS) >= self.skip).astype(dtype)[:, None]
        return ECGTrial(
            inputs=events.astype(dtype),
            targets=jnp.maximum(labels, 0).astype(jnp.int32),
            mask=jnp.broadcast_to(counted, labels.shape),
            labelled=labels >= 0,
        )

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of all steps named rightly; a step without a label counts as class 0, as published."""
        return step_accuracy(outputs, trial.targets)

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """ "accuracy_after_skip": steps from `skip` on; "accuracy_labelled": labelled steps alone."""
        after = step_accuracy(outputs[self.skip :], trial.targets[self.skip :])
        figures: dict[str, Array | tuple[Array, Array]] = {"accuracy_after_skip": after}
        if isinstance(trial, ECGTrial) and trial.labelled is not None:
            share = step_accuracy(outputs, trial.targets, trial.labelled)
            figures["accuracy_labelled"] = share, jnp.sum(trial.labelled, dtype=share.dtype)
        return figures

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One decision at every step, as `score` counts them."""
        return step_decisions(outputs, trial.targets, jnp.ones(trial.targets.shape, outputs.dtype))


def _read(file: DataFile) -> tuple[Array, Array]:
    """Events (segments, time, 4) and labels (segments, time), -1 where there is none; small integers in store."""
    content = package("scipy.io", "reading the ECG files").loadmat(fetch(file))
    events, hot = content["x"], content["y"]
    labels = np.where(hot.any(axis=-1), hot.argmax(axis=-1), -1)
    return jnp.asarray(np.maximum(events, 0), jnp.int8), jnp.asarray(labels, jnp.int8)


def _held_out(count: int, validation: str, fraction: float, blocks: int, seed: int) -> np.ndarray:
    """True for the segments of the training file that validation shows."""
    total = int(count * fraction)
    if total < (blocks if validation == "blocks" else 1):
        raise TaskError(
            f"fraction={fraction:g} of {count} segments holds out {total}, too few for {blocks} blocks; raise "
            f"fraction or lower blocks."
        )
    held = np.zeros(count, bool)
    if validation == "random":
        held[np.random.RandomState(seed).permutation(count)[:total]] = True
        return held
    lengths = [total // blocks + (block < total % blocks) for block in range(blocks)]
    for block, length in enumerate(lengths):
        # In the middle of its own stretch of the file.
        start = round((block + 0.5) * count / blocks - length / 2)
        held[start : start + length] = True
    return held
