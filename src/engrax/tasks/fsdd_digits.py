"""Spoken digits, one answer a recording: which digit was said?"""

from typing import Any, ClassVar

from jaxtyping import Array, Float, PyTree

from ..trial import Trial
from .fsdd import FSDD
from .scoring import trial_accuracy


class FSDDDigits(FSDD):
    """The digit that a recording says, in frames of 10 ms. Metric: accuracy, of recordings.

    Settings: those of `FSDD`, without `digits`, with a step for each frame unless `hold` says otherwise. Steps, and
    with them time constants, are then frames.

    Trials: inputs (time, batch, 123 or 39); targets (batch,), the digit; lengths. The decision is the largest output on
    average over valid steps.

    Raises:
        TaskError, DataError: as for `FSDD`.
    """

    name: ClassVar[str] = "fsdd_digits"

    def __init__(
        self,
        features: str = "fbank",
        test: Any = ("george", "jackson"),
        validation: int = 5,
        hold: int = 1,
        seconds: float = 1.0,
        normalise: str = "training",
    ) -> None:
        super().__init__(features, 1, test, validation, hold, seconds, normalise)

    def present(self, rows: PyTree[Array]) -> Trial:
        frames = super().present(rows)
        return Trial(frames.inputs, frames.targets[0], lengths=frames.lengths)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of recordings named rightly by the mean of the outputs over valid steps."""
        return trial_accuracy(outputs, trial.targets, trial.valid())

    def metrics(
        self, outputs: Float[Array, "time batch outputs"], trial: Trial
    ) -> dict[str, Array | tuple[Array, Array]]:
        """None beside the score."""
        return {}
