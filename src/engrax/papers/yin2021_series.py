"""Time series by networks of equal size: the adaptive spiking network of Yin et al. 2021 beside others.

Each task has cases: a part that is held out, and a seed. All networks are trained on the same cases, so that their
differences are paired. A learning rate is chosen for each kind of network and task, by the validation of a seed that
is not reported.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import tasks
from ..tasks.task import SPLITS, Split
from .runs import run_seeds
from .yin2021_networks import SPIKING, parameters, recipe, units_for

Say = Callable[[str], None]
RATES = (0.001, 0.003, 0.01)
UNREPORTED = 100
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


class Series(NamedTuple):
    """A task of the table.

    task: name and settings. units: of the spiking network, whose parameters set the budget. folds: settings that hold
    out one part after another. seeds: for each fold. training: length and batch. dropout: see `recipe`.
    """

    task: dict[str, Any]
    units: int
    inputs: int
    outputs: int
    training: dict[str, Any]
    folds: tuple[dict[str, Any], ...] = ({},)
    seeds: int = 3
    dropout: float = 0.0


def _training(steps: int, batch: int = 64) -> dict[str, Any]:
    return {"steps": steps, "batch": batch, "validate_every": steps // 20}


SERIES = {
    "ecg": Series({"name": "ecg"}, 36, 4, 6, _training(1800)),
    "fsdd": Series(
        {"name": "fsdd_digits", "features": "mfcc", "normalise": "speaker"},
        *(100, 39, 10, _training(1000)),
        folds=tuple({"test": [speaker]} for speaker in SPEAKERS),
        dropout=0.3,
    ),
    "gsc12": Series({"name": "gsc12"}, 128, 120, 12, _training(1200)),
    "nmnist": Series(
        {"name": "nmnist"},
        *(64, 2312, 10, _training(400)),
        folds=tuple({"fold": fold} for fold in range(10)),
        seeds=1,
        dropout=0.3,
    ),
    "vowels": Series({"name": "ucr"}, 64, 12, 9, _training(400, 32)),
}


def size(series: Series, kind: str) -> tuple[int, int]:
    """Units a layer of a kind of network at the task's budget, and its parameters."""
    ends = series.inputs, series.outputs
    units = units_for(kind, parameters("srnn", series.units, *ends), *ends)
    return units, parameters(kind, units, *ends)


def cell(
    name: str, kind: str, folder: Path, say: Say, cases: Iterable[int] | None = None, share: float = 1.0
) -> dict[str, Any]:
    """Figures of one kind of network on one task: test accuracies case by case, and what they cost.

    `cases` are their numbers, fold by fold, None all; `share` is that of the units with which it has the task's
    parameters. The learning rate is chosen with all of them.
    """
    series = SERIES[name]
    full, _ = size(series, kind)
    units = max(round(share * full), 1)
    count = parameters(kind, units, series.inputs, series.outputs)
    make = lambda task, rate, units: recipe(kind, task, units, series.training, rate, dropout=series.dropout)
    wanted = range(len(series.folds) * series.seeds) if cases is None else cases
    trained = lambda fold, rate, seeds, units: run_seeds(make({**series.task, **fold}, rate, units), seeds, folder, say)
    rate = _rate(lambda rate: trained(series.folds[0], rate, [UNREPORTED], full)[0]["validation_accuracy"])
    runs = []
    for number, fold in enumerate(series.folds):
        seeds = [i % series.seeds for i in wanted if i // series.seeds == number]
        runs += trained(fold, rate, seeds, units) if seeds else []
    return {
        "test_accuracy": [run["test_accuracy"] for run in runs],
        "mean": float(np.mean([run["test_accuracy"] for run in runs])),
        "units": units,
        "parameters": count,
        "learning_rate": rate,
        "firing_rate_hz": float(np.mean([run["firing_rate_hz"] for run in runs])) if kind in SPIKING else None,
        "operations": {
            of: {
                name: float(np.mean([run["operations"][of][name] for run in runs])) for name in ("ac", "mac", "update")
            }
            for of in ("network", "lstm")
        },
        "seconds": float(sum(run["seconds"] for run in runs)),
    }


def _rate(validation: Callable[[float], float]) -> float:
    return max(RATES, key=validation)


def paired(name: str, ours: list[float], theirs: list[float]) -> list[float]:
    """Differences of two columns: of cases, or of folds where a fold has several seeds, which are no new data."""
    by_fold = np.reshape(np.subtract(ours, theirs), (len(SERIES[name].folds), -1))
    return (by_fold.mean(axis=1) if len(by_fold) > 1 else by_fold[0]).tolist()


PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
POOLED = 20


def ridge(name: str) -> dict[str, Any]:
    """Ridge regression on each fold: of the means of a series over 20 equal stretches of its length, or, where every
    step has a class, of four leaky traces of the inputs at each step. Columns are repeated for the seeds."""
    series = SERIES[name]
    figures = [_ridge({**series.task, **fold}) for fold in series.folds]
    return {
        "test_accuracy": list(np.repeat(figures, series.seeds)),
        "mean": float(np.mean(figures)),
    }


def _ridge(settings: dict[str, Any]) -> float:
    task = tasks.get(**settings)
    parts = {split: _features(task, split) for split in SPLITS}
    features = parts["train"][0]
    middle, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    ready = {s: (np.c_[(x - middle) / scale, np.ones(len(x))], y) for s, (x, y) in parts.items()}
    x, y = ready["train"]
    wanted = np.eye(task.output_size)[y] - 1 / task.output_size
    right = lambda split, w: float(np.mean(np.argmax(ready[split][0] @ w, axis=1) == ready[split][1]))
    # Both give the same weights; the smaller of the two products is the one to take apart.
    wide = x.shape[1] > x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    projected = vectors.T @ (wanted if wide else x.T @ wanted)
    found = [vectors @ (projected / (values[:, None] + penalty)) for penalty in PENALTIES]
    weights = [x.T @ w for w in found] if wide else found
    return right("test", max(weights, key=lambda w: right("validation", w)))


TRACES = (3.0, 10.0, 30.0, 100.0)


def _features(task: tasks.Task, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Rows of features, and their classes."""
    from scipy.signal import lfilter

    features, classes = [], []
    for trial in task.batches(split, 64):
        inputs, targets = np.asarray(trial.inputs), np.asarray(trial.targets)
        if targets.ndim == 2:
            traces = [lfilter([1 - np.exp(-1 / tau)], [1, -np.exp(-1 / tau)], inputs, axis=0) for tau in TRACES]
            features.append(np.concatenate(traces, axis=-1).reshape(targets.size, -1))
            classes.append(targets.reshape(-1))
            continue
        lengths = np.full(trial.batch, trial.steps) if trial.lengths is None else np.asarray(trial.lengths)
        for series, length in zip(np.swapaxes(inputs, 0, 1), lengths, strict=True):
            ends = np.linspace(0, length, POOLED + 1)
            stretches = zip(ends[:-1].astype(int), np.maximum(np.ceil(ends[1:]), 1).astype(int), strict=True)
            features.append(np.concatenate([series[a:b].mean(axis=0) for a, b in stretches])[None])
        classes.append(targets)
    return np.concatenate(features).astype(np.float64), np.concatenate(classes)
