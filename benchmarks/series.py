"""Time series by spiking and other networks of equal size: accuracies, paired differences, and a picture.

    python benchmarks/series.py                          # many hours; resumes run by run
    python benchmarks/series.py --tasks vowels --kinds srnn,lstm
    python benchmarks/series.py --picture-only           # from results/series.json

Tasks, networks and how they are trained: engrax.papers.yin2021_series and yin2021_networks. Ridge regression beside
them, on 20 pooled frames of each series, has its penalty chosen on validation as well. Runs lie in
runs/papers/yin2021/series-runs, where `engrax reproduce yin2021/beats_rnn` finds them.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from records import ROOT, origin, save

from engrax.papers.experiment import interval
from engrax.papers.yin2021_networks import KINDS
from engrax.papers.yin2021_series import SERIES, cell, paired, ridge

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LABELS = {
    "srnn": "ALIF",
    "adlif": "SE-adLIF",
    "rnn": "tanh RNN",
    "lstm": "LSTM",
    "gru": "GRU",
    "tcn": "convolution",
    "ssm": "state space",
    "ridge": "ridge",
}
TITLES = {"ecg": "ECG", "fsdd": "spoken digits", "gsc12": "keywords", "nmnist": "N-MNIST", "vowels": "vowels"}
# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = {"srnn": "#D55E00", "adlif": "#E69F00"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(SERIES))
    parser.add_argument("--kinds", default=",".join((*KINDS, "ridge")))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "papers" / "yin2021")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "series.json")
    parser.add_argument("--picture-only", action="store_true")
    options = parser.parse_args()
    if not options.picture_only:
        table(options.tasks.split(","), options.kinds.split(","), options.runs, options.out)
    report = json.loads(options.out.read_text())
    print(written(report))
    draw(report, ROOT / "docs" / "images" / "series.png")


def table(tasks: list[str], kinds: list[str], runs: Path, out: Path) -> None:
    """Fill the table, network by network."""
    cells: dict[str, Any] = json.loads(out.read_text())["table"] if out.exists() else {}
    say = lambda text: print(text, file=sys.stderr)
    for task in tasks:
        for kind in kinds:
            row = cells.setdefault(task, {})
            row[kind] = ridge(task) if kind == "ridge" else cell(task, kind, runs / "series-runs", say)
            ours = row.get("srnn")
            for other, theirs in row.items():
                if ours is not None and other != "srnn":
                    differences = paired(task, ours["test_accuracy"], theirs["test_accuracy"])
                    theirs["srnn_minus_this"] = float(np.mean(differences))
                    theirs["interval"] = list(interval(differences))
            report = origin("test accuracies at equal parameters", "python benchmarks/series.py")
            save(out, {**report, "table": cells})


def written(report: dict[str, Any]) -> str:
    """The table in Markdown: mean accuracies, and by how many points ALIF is ahead."""
    tasks = [task for task in SERIES if task in report["table"]]
    lines = [" | ".join(["", *(TITLES[task] for task in tasks)]), "|".join(["---"] * (1 + len(tasks)))]
    for kind, label in LABELS.items():
        texts = [label]
        for task in tasks:
            found = report["table"][task].get(kind)
            text = "" if found is None else f"{100 * found['mean']:.1f}"
            if found is not None and "interval" in found:
                low, high = (100 * end for end in found["interval"])
                text += f" ({100 * found['srnn_minus_this']:+.1f}: {low:+.1f} to {high:+.1f})"
            texts.append(text)
        lines.append(" | ".join(texts))
    return "\n".join(f"| {line} |" for line in lines)


def draw(report: dict[str, Any], path: Path) -> None:
    """A panel for each task: every case a point, and their mean."""
    tasks = [task for task in SERIES if task in report["table"]]
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(2.6 * len(tasks), 3.2), constrained_layout=True, squeeze=False
    )
    for axes, task in zip(panels[0], tasks, strict=True):
        row = report["table"][task]
        shown = [kind for kind in LABELS if kind in row]
        for place, kind in enumerate(shown):
            found = 100 * np.asarray(row[kind]["test_accuracy"])
            colour = COLOURS.get(kind, "#555555")
            axes.plot(found, np.full(len(found), place), "o", ms=3, color=colour, alpha=0.45)
            axes.plot(found.mean(), place, "|", ms=14, mew=2.5, color=colour)
        axes.set(
            title=TITLES[task], xlabel="right on test / %", yticks=range(len(shown)), ylim=(len(shown) - 0.5, -0.5)
        )
        axes.set_yticklabels([LABELS[kind] for kind in shown] if task == tasks[0] else [])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", lw=0.4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
