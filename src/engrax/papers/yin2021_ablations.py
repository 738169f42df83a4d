"""Yin et al. 2021, what their parts are worth: the surrogate, trained time constants, adaptation, recurrence.

On two tasks, electrocardiograms and spoken digits, with everything else held.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .experiment import Experiment, Found, interval
from .runs import run_seeds
from .yin2021 import SOURCE
from .yin2021_networks import FASTER, Table, recipe
from .yin2021_series import SERIES

SEEDS, RATE = 5, 0.01
TASKS = ("ecg", "fsdd")
HIDDEN = "network.populations.hidden"

# All with the authors' factor of 0.5 (the exponential is SLAYER's).
SURROGATES: dict[str, Table] = {
    "multi_gaussian": {"sigma": 0.5, "dampening": 0.5},
    "double_gaussian": {"sigma": 0.5, "dampening": 0.5},
    "gaussian": {"sigma": 0.5, "dampening": 0.5},
    "triangular": {"width": 1.0, "dampening": 0.5},
    "exponential": {"width": 0.2, "height": 0.5},
}
OURS = "ALIF, trained, recurrent"


def surrogate(name: str) -> Table:
    """What of the recipe says that a surrogate is used."""
    return {"unit": {"surrogate": {"name": name, **SURROGATES[name]}}}


def variants() -> dict[str, Table]:
    """What of the recipe differs, by name: ALIF or LIF, time constants trained or fixed, recurrent or feed-forward."""
    lif = {"model": "LIF", "tau_adaptation": None, "beta": None, "reset": "subtract"}
    return {
        f"{model}, {taus}, {wiring}": {
            "unit": lif if model == "LIF" else None,
            "recurrent": wiring == "recurrent",
            "multipliers": {name: by * (taus == "trained") for name, by in TIMES[model].items()},
        }
        for model in TIMES
        for taus in ("trained", "fixed")
        for wiring in ("recurrent", "feed-forward")
    }


TIMES = {"ALIF": FASTER, "LIF": {"hidden.tau": FASTER["hidden.tau"]}}


def column(
    task: str, changes: Table, folder: Path, say: Callable[[str], None], seeds: int = SEEDS
) -> tuple[list[float], float]:
    """Test accuracies of the adaptive network so changed, seed by seed (on spoken digits each with a speaker held
    out), and the seconds they took."""
    series = SERIES[task]
    runs: list[Any] = []
    for number, fold in enumerate(series.folds):
        settings = {**series.task, **fold}
        chosen = recipe("srnn", settings, series.units, series.training, RATE, dropout=series.dropout, **changes)
        if mine := [seed for seed in range(seeds) if seed % len(series.folds) == number]:
            runs += run_seeds(chosen, mine, folder, say)
    return [run["test_accuracy"] for run in runs], float(sum(run["seconds"] for run in runs))


class Yin2021Surrogate(Experiment):
    """The multi-Gaussian surrogate beside four others."""

    paper, name, source = "yin2021", "surrogate", f"{SOURCE}, comparison of surrogates; the task of one is ours"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent / "series-runs"
        if quick:
            names, seeds = ("multi_gaussian", "gaussian"), 1
            found = {n: column("fsdd", surrogate(n), there, say, seeds)[0][0] for n in names}
            return Found(found, "untested", "one of two tasks, one of five seeds, two of five surrogates")
        columns = {t: {n: column(t, surrogate(n), there, say) for n in SURROGATES} for t in TASKS}
        means = {t: {n: round(float(np.mean(c[0])), 4) for n, c in row.items()} for t, row in columns.items()}
        ranges: dict[str, list[float]] = {}
        for task, row in columns.items():
            others = {n: m for n, m in means[task].items() if n != "multi_gaussian"}
            best = max(others, key=lambda n: others[n])
            ranges[task] = _difference(row["multi_gaussian"][0], row[best][0])
        ahead = [task for task, ends in ranges.items() if ends[0] > 0]
        behind = [task for task, ends in ranges.items() if ends[1] < 0]
        verdict = "holds" if len(ahead) == len(TASKS) else "fails" if behind else "unresolved"
        why = f"ahead of the best other surrogate, interval of the difference above 0, on {', '.join(ahead) or 'none'}"
        return Found(means, verdict, why, interval=ranges, seeds=SEEDS, seconds=_seconds(columns))


class Yin2021Tunable(Experiment):
    """ALIF units with trained time constants beside fixed ones, and beside LIF units."""

    paper, name, source = "yin2021", "tunable", f"{SOURCE}; the comparison is ours"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there, changes = folder.parent / "series-runs", variants()
        if quick:
            names = (OURS, "ALIF, fixed, recurrent")
            found = {n: column("fsdd", changes[n], there, say, 1)[0][0] for n in names}
            return Found(found, "untested", "one of two tasks, one of five seeds, two of eight networks")
        columns = {t: {n: column(t, c, there, say) for n, c in changes.items()} for t in TASKS}
        means = {t: {n: round(float(np.mean(c[0])), 4) for n, c in row.items()} for t, row in columns.items()}
        ranges: dict[str, dict[str, list[float]]] = {
            task: {
                f"minus {other}": _difference(row[OURS][0], row[other][0])
                for other in ("ALIF, fixed, recurrent", "LIF, trained, recurrent", "LIF, fixed, recurrent")
            }
            for task, row in columns.items()
        }
        ends = [end for row in ranges.values() for end in row.values()]
        lows, highs = zip(*ends, strict=True)
        if min(lows) > 0:
            verdict = "holds"
        elif max(lows) > 0:
            verdict = "partly"
        else:
            verdict = "fails" if min(highs) < 0 else "unresolved"
        above = [f"{name} on {task}" for task, row in ranges.items() for name, (low, _) in row.items() if low > 0]
        why = f"trained ALIF: interval of the difference above 0 {'; '.join(above) or 'nowhere'}"
        return Found(means, verdict, why, interval=ranges, seeds=SEEDS, seconds=_seconds(columns))


def _difference(ours: list[float], theirs: list[float]) -> list[float]:
    return [round(x, 4) for x in interval(np.subtract(ours, theirs))]


def _seconds(columns: dict[str, dict[str, Any]]) -> float:
    return float(sum(spent for row in columns.values() for _, spent in row.values()))
