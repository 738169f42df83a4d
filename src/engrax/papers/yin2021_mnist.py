"""Yin et al. 2021, sequential digits: 784 steps an image, with windows of pixels, as far as one long run goes."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from .experiment import Experiment, Found
from .runs import run_once
from .yin2021 import SOURCE

FULL, IMAGES = 36000, 54000
QUICK = (
    *("training.steps=2", "training.validate_every=1", "training.batch=8"),
    *(f"network.populations.{name}.size=8" for name in ("first", "second", "third")),
)


class _Digits(Experiment):
    """The whole recipe, for a share of its budget."""

    paper, source = "yin2021", f"{SOURCE}, table of results; settings from the authors' code"
    recipe: ClassVar[str]
    bar: ClassVar[float]
    # Updates by 300 images each; the published budget is `FULL`. A larger number goes on from a smaller one's settings
    # anew: a schedule has its length.
    updates: ClassVar[int] = 1800

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        changes = QUICK if quick else (f"training.steps={self.updates}",)
        run = run_once(self.recipe, changes, 0, folder.parent / "series-runs", say)
        if quick:
            return Found(run["test_accuracy"], "untested", "2 updates by 8 images", seconds=run["seconds"])
        passes = self.updates * run["recipe"]["training"]["batch"] / IMAGES
        curve = {f"{step} updates": round(figure, 4) for step, figure in run["curve"]}
        measured = {"test accuracy": run["test_accuracy"], "validation accuracy": curve}
        verdict = "holds" if run["test_accuracy"] >= self.bar else "fails" if self.updates >= FULL else "untested"
        why = f"{self.updates} of {FULL} updates, {passes:g} passes; the bar is {self.bar:g} at the full budget"
        return Found(measured, verdict, why, seconds=run["seconds"])


class Yin2021SMNIST(_Digits):
    """Sequential digits, eight pixels at a step."""

    name, recipe, bar = "smnist", "yin2021/smnist", 0.982


class Yin2021PSMNIST(_Digits):
    """Permuted sequential digits, four pixels at a step."""

    name, recipe, bar = "psmnist", "yin2021/psmnist", 0.94
