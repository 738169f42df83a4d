"""Draw what Murray 2019's experiments found on the periodic task: docs/images/periodic.png.

python benchmarks/murray_picture.py    # from results/finished/murray2019-periodic.jsonl
"""

import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from records import ROOT

# Okabe and Ito's colours, told apart by all eyes.
COLOURS = {"bptt": "#0072B2", "rflo": "#D55E00", "local_only": "#E69F00", "random_only": "#56B4E9", "rtrl": "#000000"}
NAMES = {"bptt": "BPTT", "rflo": "RFLO", "local_only": "local only", "random_only": "random only", "rtrl": "RTRL"}
VARIANTS = {
    "rflo": ("RFLO", "#D55E00"),
    "rflo_dale": ("RFLO, Dale's law", "#CC79A7"),
    "rflo_readout_alone": ("readout alone", "#009E73"),
    "rflo_readout_frozen": ("readout frozen", "#777777"),
}
TRIALS, UNITS, SEEDS = 10000, 30, 9
SILENCE = (1 + 1 / 4 + 1 / 16) / 2


def main() -> None:
    lines = (ROOT / "results" / "finished" / "murray2019-periodic.jsonl").read_text().splitlines()
    runs = {}
    for entry in map(json.loads, lines):
        label, periods, rate, *kind = entry["run"].rsplit("-", 6)
        if kind == [str(TRIALS), str(UNITS), str(SEEDS), "0"]:
            runs[label, int(periods), float(rate)] = entry["found"]
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    _lengths(first, runs)
    _overlaps(second, runs)
    chosen = {label: found for (label, periods, _), found in runs.items() if periods == 20}
    _curves(third, {(VARIANTS[k]): chosen[k] for k in VARIANTS if k in chosen}, "20 time constants: controls")
    both = {("BPTT" if k == "bptt" else "RFLO", COLOURS[k]): chosen[k] for k in ("bptt", "rflo") if k in chosen}
    _curves(fourth, both, "20 time constants: by the whole gradient")
    figure.savefig(ROOT / "docs" / "images" / "periodic.png", dpi=110)


def _lengths(axis: Any, runs: dict[tuple[str, int, float], dict[str, Any]]) -> None:
    """Final loss against the period, each rule at its better rate."""
    for label, colour in COLOURS.items():
        found = {p: run["final"] for (n, p, _), run in runs.items() if n == label}
        for (n, p, _), run in runs.items():
            if n == label and np.median(run["final"]) < np.median(found[p]):
                found[p] = run["final"]
        if len(found) < 2:
            continue
        lengths = sorted(found)
        low, middle, high = np.transpose([np.percentile(found[p], (25, 50, 75)) for p in lengths])
        axis.plot(lengths, middle, "o-", color=colour, label=NAMES[label])
        axis.fill_between(lengths, low, high, color=colour, alpha=0.2, lw=0)
    axis.axhline(SILENCE, color="#777777", ls="--", lw=0.8, label="no output")
    axis.set(
        xscale="log", yscale="log", xticks=(20, 40, 80, 160), xlabel="period / time constants", ylabel="final loss"
    )
    axis.set(title="longer periods (at the better rate of each rule)")
    axis.set_xticks([], minor=True)
    axis.set_xticklabels(["20", "40", "80", "160"])
    axis.legend(frameon=False)


def _overlaps(axis: Any, runs: dict[tuple[str, int, float], dict[str, Any]]) -> None:
    """Cosine of readout and feedback weights along training by RFLO, at the paper's rates."""
    rates = {20: 0.03, 40: 0.01, 80: 0.001, 160: 0.0003}
    for (periods, rate), colour in zip(rates.items(), ("#D55E00", "#E69F00", "#56B4E9", "#0072B2"), strict=True):
        if ("rflo", periods, rate) not in runs:
            continue
        overlap = np.asarray(runs["rflo", periods, rate]["overlap"])
        trials = np.linspace(0, TRIALS, len(overlap) + 1)[1:]
        low, middle, high = np.percentile(overlap, (25, 50, 75), axis=1)
        axis.plot(trials, middle, "o-", ms=3, color=colour, label=f"{periods} time constants")
        axis.fill_between(trials, low, high, color=colour, alpha=0.2, lw=0)
    axis.axhline(0, color="#777777", lw=0.8)
    axis.set(xlabel="trials", ylabel="cosine of readout and feedback", title="the readout turns towards the feedback")
    axis.set_ylim(top=1.05)
    axis.legend(frameon=False, ncols=2, loc="upper center")


def _curves(axis: Any, runs: dict[tuple[str, str], dict[str, Any]], title: str) -> None:
    """Loss against trials, median and quartiles over networks."""
    for (label, colour), run in runs.items():
        curve = np.asarray(run["curve"])
        trials = TRIALS * (np.arange(curve.shape[1]) + 0.5) / curve.shape[1]
        low, middle, high = np.percentile(curve, (25, 50, 75), axis=0)
        axis.plot(trials, middle, color=colour, label=label)
        axis.fill_between(trials, low, high, color=colour, alpha=0.2, lw=0)
    axis.set(yscale="log", xlabel="trials", ylabel="loss", title=title)
    axis.legend(frameon=False)


if __name__ == "__main__":
    main()
