"""Draw results/streams.json: online rules on Add, and where their gradients point along one trajectory.

python benchmarks/streams_picture.py    # docs/images/streams.png
"""

import json

import matplotlib
import numpy as np
from records import ROOT

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = {"RTRL": "#000000", "BPTT(10)": "#0072B2", "SnAp-1": "#56B4E9", "UORO": "#CC79A7", "KF-RTRL": "#009E73"}
COLOURS |= {"RFLO": "#D55E00", "KeRNL": "#E69F00", "DNI": "#8C6D1F", "readout alone": "#999999"}
COLOURS |= {"R-KF-RTRL": "#7E57C2", "r-OK": "#A6CEE3"}
FLOORS = ("nothing known", "first dependency known", "both known")


def main() -> None:
    report = json.loads((ROOT / "results" / "streams.json").read_text())
    parts = [part for part in ("add", "alignment") if part in report]
    figure, panels = plt.subplots(1, len(parts), figsize=(5.8 * len(parts), 4.8), layout="constrained", squeeze=False)
    for axes, part in zip(panels[0], parts, strict=True):
        if part == "add":
            learning(axes, report["add"], report["floors of add"])
        else:
            figure.colorbar(matrix(axes, report["alignment"]), ax=axes, shrink=0.8, label="mean cosine of gradients")
    figure.savefig(ROOT / "docs" / "images" / "streams.png", dpi=110)


def learning(axes: plt.Axes, part: dict, floors: list[float]) -> None:
    """Loss against time, mean over seeds, their range shaded."""
    for label, colour in COLOURS.items():
        if label not in part["rules"]:
            continue
        loss = np.asarray(part["rules"][label]["loss"])
        time = part["bin"] * (np.arange(loss.shape[1]) + 1) / 1000
        axes.plot(time, loss.mean(axis=0), color=colour, label=label, lw=1.8)
        axes.fill_between(time, loss.min(axis=0), loss.max(axis=0), color=colour, alpha=0.15, lw=0)
    for floor, name in zip(floors, FLOORS, strict=True):
        axes.axhline(floor, color="#555555", ls="--", lw=0.8)
        axes.annotate(name, (1.0, floor), (-3, 3), ("axes fraction", "data"), "offset points", ha="right", fontsize=8)
    axes.set(xlabel="time / thousand steps", ylabel="cross entropy / nat", title="Add, an update at every step")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper right", bbox_to_anchor=(1, 0.93))
    axes.spines[["top", "right"]].set_visible(False)


def matrix(axes: plt.Axes, part: dict) -> plt.cm.ScalarMappable:
    """Cosines of the recurrent weights' gradients, averaged along the trajectory."""
    cosines, rules = np.asarray(part["cosines"]), part["rules"]
    shown = axes.imshow(cosines, vmin=-1, vmax=1, cmap="PuOr")
    for i, row in enumerate(cosines):
        for j, value in enumerate(row):
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="k" if abs(value) < 0.7 else "w"
            )
    axes.set(xticks=range(len(rules)), yticks=range(len(rules)), title="along the trajectory that RTRL makes")
    axes.set_xticklabels(rules, rotation=60, ha="right", fontsize=8)
    axes.set_yticklabels(rules, fontsize=8)
    return shown


if __name__ == "__main__":
    main()
