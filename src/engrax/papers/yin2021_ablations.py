"""Yin et al. 2021, what their parts are worth: the surrogate, trained time constants, adaptation, recurrence.

On two tasks, electrocardiograms and spoken digits, with everything else held.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..training import TrainingError
from .experiment import Experiment, Found, interval
from .runs import run_seeds
from .yin2021 import SOURCE
from .yin2021_networks import FASTER, Table, recipe
from .yin2021_series import RATES, SERIES, UNREPORTED

SEEDS = 5
TASKS = ("ecg", "fsdd")

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


class Column(NamedTuple):
    """Test accuracies of one network, seed by seed; the learning rate, and the seconds they took."""

    accuracy: list[float]
    rate: float
    seconds: float


def column(
    task: str,
    changes: Table,
    folder: Path,
    say: Callable[[str], None],
    seeds: int = SEEDS,
    rates: Sequence[float] = (0.01,),
) -> Column:
    """The adaptive network so changed: on spoken digits each seed has a speaker held out.

    Of several learning rates that one is taken whose network, of a seed that is not reported, names most of the
    validation; where gradients overflow by it, the next.
    """
    series = SERIES[task]

    def trained(rate: float, number: int, seeds: list[int]) -> list[dict[str, Any]]:
        settings = {**series.task, **series.folds[number]}
        chosen = recipe("srnn", settings, series.units, series.training, rate, dropout=series.dropout, **changes)
        return run_seeds(chosen, seeds, folder, say)

    def validation(rate: float) -> float:
        try:
            return float(trained(rate, 0, [UNREPORTED])[0]["validation_accuracy"])
        except TrainingError as error:
            say(f"learning rate {rate:g}: {error}")
            return -1.0

    for rate in rates if len(rates) == 1 else sorted(rates, key=validation, reverse=True):
        runs: list[Any] = []
        try:
            for number in range(len(series.folds)):
                if mine := [seed for seed in range(seeds) if seed % len(series.folds) == number]:
                    runs += trained(rate, number, mine)
        except TrainingError as error:
            say(f"learning rate {rate:g}: {error}")
            continue
        return Column([run["test_accuracy"] for run in runs], rate, float(sum(run["seconds"] for run in runs)))
    raise TrainingError(f"{task}: gradients overflow by each of the learning rates {', '.join(map(str, rates))}.")


class Yin2021Surrogate(Experiment):
    """The multi-Gaussian surrogate beside four others."""

    paper, name, source = "yin2021", "surrogate", f"{SOURCE}, comparison of surrogates; the task of one is ours"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent / "series-runs"
        if quick:
            names, seeds = ("multi_gaussian", "gaussian"), 1
            found = {n: column("fsdd", surrogate(n), there, say, seeds).accuracy[0] for n in names}
            return Found(found, "untested", "one of two tasks, one of five seeds, two of five surrogates")
        columns = {t: {n: column(t, surrogate(n), there, say) for n in SURROGATES} for t in TASKS}
        means = {t: {n: round(float(np.mean(c.accuracy)), 4) for n, c in row.items()} for t, row in columns.items()}
        ranges: dict[str, list[float]] = {}
        for task, row in columns.items():
            others = {n: m for n, m in means[task].items() if n != "multi_gaussian"}
            best = max(others, key=lambda n: others[n])
            ranges[task] = _difference(row["multi_gaussian"].accuracy, row[best].accuracy)
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
            found = {n: column("fsdd", changes[n], there, say, 1).accuracy[0] for n in names}
            return Found(found, "untested", "one of two tasks, one of five seeds, two of eight networks")
        columns = {t: {n: column(t, c, there, say, rates=RATES) for n, c in changes.items()} for t in TASKS}
        means = {t: {n: round(float(np.mean(c.accuracy)), 4) for n, c in row.items()} for t, row in columns.items()}
        ranges: dict[str, dict[str, list[float]]] = {
            task: {
                f"minus {other}": _difference(row[OURS].accuracy, row[other].accuracy)
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
        rates = {t: {n: c.rate for n, c in row.items()} for t, row in columns.items()}
        measured = {"accuracy": means, "learning rate": rates}
        return Found(measured, verdict, why, interval=ranges, seeds=SEEDS, seconds=_seconds(columns))


def _difference(ours: list[float], theirs: list[float]) -> list[float]:
    return [round(x, 4) for x in interval(np.subtract(ours, theirs))]


def _seconds(columns: dict[str, dict[str, Column]]) -> float:
    return float(sum(found.seconds for row in columns.values() for found in row.values()))
