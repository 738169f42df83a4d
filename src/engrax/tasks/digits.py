"""Handwritten digits read row by row: real data that come with scikit-learn, so nothing is downloaded."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..trial import Trial
from .data import package
from .scoring import trial_accuracy
from .settings import integer, word
from .stored import StoredTask


class Digits(StoredTask):
    """The 1,797 images of 8 x 8 grey levels of scikit-learn's `load_digits`, shown over time. Metric: accuracy.

    Settings:
        variant: "rows" shows 8 rows of 8 pixels, from the top; "pixels" shows the 64 pixels one after another, in
            reading order.
        hold: steps for which each row or pixel is held.
        seed: of the split into training, validation and test images.

    Trials: inputs (8 hold, batch, 8) or (64 hold, batch, 1), grey level / 16, between 0 and 1; targets (batch,), the
    digit. The decision is the largest output on average over time. dt is 1 ms.

    Split: 70 / 10 / 20 % of every digit, 1259 training, 179 validation and 359 test images, the same in every run
    unless `seed` is changed. The images of one writer are in all three.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository (test part).

    Raises:
        TaskError: a setting has an impossible value.
    """

    name: ClassVar[str] = "digits"

    rows: dict[str, PyTree[Array]]
    variant: str = eqx.field(static=True)
    hold: int = eqx.field(static=True)

    def __init__(self, variant: str = "rows", hold: int = 4, seed: int = 0) -> None:
        self.variant = word("variant", ("rows", "pixels"))(variant)
        self.hold = integer("hold", 1)(hold)
        split_seed = integer("seed", 0)(seed)
        data = package("sklearn.datasets", "the task 'digits'").load_digits()
        images, digits = data.images / 16.0, data.target
        self.rows = {
            split: (jnp.asarray(images[index], jnp.result_type(float)), jnp.asarray(digits[index], jnp.int32))
            for split, index in _stratified(digits, split_seed).items()
        }

    @property
    def input_size(self) -> int:
        return 8 if self.variant == "rows" else 1

    @property
    def output_size(self) -> int:
        return 10

    @property
    def dt(self) -> float:
        return 1.0

    def present(self, rows: PyTree[Array]) -> Trial:
        images, digits = rows
        frames = jnp.swapaxes(images.reshape(images.shape[0], -1, self.input_size), 0, 1)
        return Trial(jnp.repeat(frames, self.hold, axis=0), digits)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of digits named rightly by the mean of the outputs over time."""
        return trial_accuracy(outputs, trial.targets, trial.valid())

    def baseline(self) -> dict[str, str | float]:
        """What a linear classifier reaches: `name` and test `accuracy` of logistic regression on the 64 pixels.

        It is fitted to the training images with scikit-learn's default penalty, and scored on the test images.
        """
        linear = package("sklearn.linear_model", "the baseline of 'digits'")
        (images, digits), (test_images, test_digits) = self.rows["train"], self.rows["test"]
        model = linear.LogisticRegression(max_iter=1000)
        model.fit(np.asarray(images).reshape(-1, 64), np.asarray(digits))
        accuracy = model.score(np.asarray(test_images).reshape(-1, 64), np.asarray(test_digits))
        return {"name": "logistic regression", "accuracy": float(accuracy)}


def _stratified(digits: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    # RandomState, because NumPy guarantees that its numbers stay the same from version to version.
    random = np.random.RandomState(seed)
    parts: dict[str, list[np.ndarray]] = {"test": [], "validation": [], "train": []}
    for digit in range(10):
        index = random.permutation(np.flatnonzero(digits == digit))
        test, validation = round(0.2 * len(index)), round(0.1 * len(index))
        cut = np.split(index, [test, test + validation])
        for part, rows in zip(parts.values(), cut, strict=True):
            part.append(rows)
    # In the order of the file, so that a batch of a pass holds all digits.
    return {split: np.sort(np.concatenate(part)) for split, part in parts.items()}
