"""Sequential MNIST: a handwritten digit, pixel after pixel, in reading order or in one fixed shuffled order."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ..encoders import Window
from ..trial import Trial
from .data import DataFile, fetch
from .idx import read_idx
from .scoring import Decisions, trial_accuracy, trial_decisions
from .settings import boolean, integer, word
from .stored import StoredTask

PIXELS = 784
_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


def _file(name: str, packed: str, again: str) -> DataFile:
    return DataFile("mnist", name, packed, tuple(mirror + name for mirror in _MIRRORS), (again,))


# Checksums of the archives as the mirrors serve them, and of the same files packed anew.
FILES = {
    "train-images": _file(
        "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
    ),
    "train-labels": _file(
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "fe03b8bd7915f70bf5aa08be480aa413fbd85afcaa58b35d230d335f284fd88e",
    ),
    "test-images": _file(
        "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "5634745efa576a17e7d4cf5cd9d09123c75e6538e5114267c2d156edaf519341",
    ),
    "test-labels": _file(
        "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ae18e77e031ccde52407f794d123116439864147d33ac992975f85dd4dc42af6",
    ),
}


def digits(validation: int, seed: int) -> dict[str, PyTree[Array]]:
    """Images (count, 784) and digits of each split; so many training images, drawn by `seed`, are held out."""
    images, labels, test_images, test_labels = (read_idx(fetch(file)) for file in FILES.values())
    held = integer("validation", 1, len(images) - 1)(validation)
    # RandomState, because NumPy guarantees that its numbers stay the same from version to version.
    drawn = np.random.RandomState(integer("seed", 0)(seed)).permutation(len(images))
    parts = {
        "train": (images, labels, np.sort(drawn[held:])),
        "validation": (images, labels, np.sort(drawn[:held])),
        "test": (test_images, test_labels, np.arange(len(test_images))),
    }
    return {
        split: (jnp.asarray(x[index].reshape(len(index), PIXELS)), jnp.asarray(y[index], jnp.int32))
        for split, (x, y, index) in parts.items()
    }


class SMNIST(StoredTask):
    """Sequential and permuted sequential MNIST, 784 steps, 10 classes. Metric: accuracy.

    Settings:
        permuted: show the pixels in one shuffled order, the same for all images (PS-MNIST).
        permutation: seed of that order.
        window: pixels shown at a step: those from the step's own on, at the end the last ones. 1 is the task as it is
            usually defined; published figures with 4 or 8 pixels (Yin et al. 2021) belong in another column.
        encoding: "grey", the grey level / 255; "binary", 1 where that is above 0.1.
        validation: training images that are held out, drawn by `seed`; 6,000 of 60,000.
        seed: of that split.

    Trials: inputs (784, batch, window), 0 to 1; targets (batch,), the digit. The decision is the largest output on
    average over time, which for spiking outputs is the largest number of spikes. dt is 1, so that time constants are in
    steps as in the papers.

    Source: LeCun et al. 1998; sequential, Le, Jaitly & Hinton 2015.

    Raises:
        TaskError: a setting has an impossible value.
        DataError: the files are neither found nor to be downloaded, or damaged.
    """

    name: ClassVar[str] = "smnist"

    rows: dict[str, PyTree[Array]]
    order: Int[Array, " pixels"]
    window: int = eqx.field(static=True)
    encoding: str = eqx.field(static=True)

    def __init__(
        self,
        permuted: bool = False,
        permutation: int = 0,
        window: int = 1,
        encoding: str = "grey",
        validation: int = 6000,
        seed: int = 0,
    ) -> None:
        permuted, permutation = boolean("permuted")(permuted), integer("permutation", 0)(permutation)
        self.window = integer("window", 1, PIXELS)(window)
        self.encoding = word("encoding", ("grey", "binary"))(encoding)
        self.rows = digits(validation, seed)
        shuffled = np.random.RandomState(permutation).permutation(PIXELS)
        self.order = jnp.asarray(shuffled if permuted else np.arange(PIXELS), jnp.int32)

    @property
    def input_size(self) -> int:
        return self.window

    @property
    def output_size(self) -> int:
        return 10

    @property
    def dt(self) -> float:
        return 1.0

    def present(self, rows: PyTree[Array]) -> Trial:
        images, digits = rows
        dtype = jnp.result_type(float)
        shown = images[:, self.order].astype(dtype).T / 255
        shown = shown if self.encoding == "grey" else (shown > 0.1).astype(dtype)
        return Trial(Window(self.window)(shown[..., None]), digits)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of digits named rightly by the mean of the outputs over time."""
        return trial_accuracy(outputs, trial.targets, trial.valid())

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One a digit."""
        return trial_decisions(outputs, trial.targets, trial.valid())
