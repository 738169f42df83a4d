"""An experiment: a claim, a way to measure it, and a verdict. Running one leaves a small JSON result.

Results that come with Engrax lie in `results/PAPER/EXPERIMENT.json`; whoever runs an experiment anew has theirs beside
them in a folder of their own.
"""

import datetime
import json
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .claim import Claim, claim, claims

VERDICTS = ("holds", "partly", "fails", "unresolved", "untested")


class Found(NamedTuple):
    """What an experiment measured.

    measured: the figure, or one for each part of the claim. spread: its standard deviation over seeds, likewise.
    interval: the 95 % interval, likewise. verdict: one of `VERDICTS`. why: the verdict in a sentence.
    seeds: networks measured. seconds: spent on them, also in earlier sittings.
    """

    measured: Any
    verdict: str
    why: str
    spread: Any = None
    interval: Any = None
    seeds: int = 1
    seconds: float | None = None


class Experiment:
    """Base class. A subclass names its paper and claim and defines `run`; a new file with one is found by itself."""

    paper: ClassVar[str]
    name: ClassVar[str]
    source: ClassVar[str]

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        """Measure.

        Args:
            quick: do as much of it as fits into two minutes; a verdict on less than the whole budget is "untested".
            folder: for intermediate results, so that an interrupted experiment goes on where it was.
            say: progress in words.
        """
        raise TypeError(f"{type(self).__name__} must define run(quick, folder, say).")

    @property
    def claim(self) -> Claim:
        """The claim it tests."""
        return claim(self.paper, self.name)

    def reproduce(self, quick: bool, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Run it, and put what was found into the form of a result."""
        started = time.perf_counter()
        found = self.run(quick, folder, say)
        assert found.verdict in VERDICTS, found.verdict
        spent = time.perf_counter() - started if found.seconds is None else found.seconds
        return {**blank(self.claim), **self._result(found, quick), "seconds": round(spent, 1)}

    def _result(self, found: Found, quick: bool) -> dict[str, Any]:
        from .. import __version__

        return {
            "source": self.source,
            "measured": found.measured,
            "spread": found.spread,
            "interval": found.interval,
            "verdict": found.verdict,
            "why": found.why,
            "seeds": found.seeds,
            "command": f"engrax reproduce {self.paper}/{self.name}{' --quick' if quick else ''}",
            "date": datetime.date.today().isoformat(),
            "version": __version__,
        }


def blank(of: Claim) -> dict[str, Any]:
    """The result of a claim that nothing was measured for."""
    return {
        "paper": of.paper,
        "experiment": of.name,
        "claim": of.says,
        "source": None,
        "measure": of.measure,
        "holds": of.holds,
        "settings": of.settings,
        "measured": None,
        "spread": None,
        "interval": None,
        "verdict": "untested",
        "why": "no experiment yet",
        "seeds": 0,
        "command": None,
        "seconds": None,
        "date": None,
        "version": None,
    }


def committed(paper: str) -> list[dict[str, Any]]:
    """A result for every claim of a paper: the one that comes with Engrax, or a blank one."""
    found = []
    for name, one in claims()[paper].items():
        file = resources.files("engrax.papers") / "results" / paper / f"{name}.json"
        result = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        found.append({**blank(one), **result})
    return found


def interval(values: Any) -> tuple[float, float]:
    """Student's 95 % interval of the mean of several seeds."""
    from scipy.stats import t

    v = np.asarray(values, float)
    half = t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return float(v.mean() - half), float(v.mean() + half)
