"""Learning curves of evidence accumulation with bands over seeds, and errors on fresh trials seed by seed."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours: told apart by colour-blind readers too.
CURVES = {
    "bptt": ("BPTT", "#000000"),
    "symmetric": ("e-prop, symmetric", "#0072B2"),
    "random": ("e-prop, random", "#D55E00"),
    "adaptive": ("e-prop, adaptive", "#009E73"),
    "sparse signed rewired": ("e-prop, sparse, signed, rewired", "#CC79A7"),
    "lif": ("e-prop without adaptation", "#999999"),
}
ROWS = {
    **{name: label for name, (label, _) in CURVES.items()},
    "8-bit weights, 16-bit traces": "8-bit weights, 16-bit traces, batches of 8",
    **{f"{bits}-bit weights": f"{bits}-bit weights" for bits in (8, 6, 4)},
    "simplified trace": "simplified slow trace (Eq. 26)",
    "uniform": "uniform broadcast",
    "shuffled": "signals shuffled over units",
    "no slow trace": "no slow trace",
    "readout only": "readout alone learns",
}


def draw(report: dict[str, Any], path: Path) -> None:
    """Curves at the large budget; dots are seeds, ticks medians, hollow at the small budget."""
    table = report["table"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(1.15, 1), constrained_layout=True)
    for name, (label, colour) in CURVES.items():
        cell = table.get(name, {}).get("2000")
        if cell is None:
            continue
        errors = 100 * np.asarray(cell["validation_errors"])
        left.plot(cell["steps"], np.median(errors, axis=0), color=colour, label=label, lw=1.6)
        left.fill_between(cell["steps"], errors.min(0), errors.max(0), color=colour, alpha=0.15, lw=0)
    left.axhline(50, color="0.6", ls=":", lw=1)
    left.text(left.get_xlim()[1], 50.5, "chance", ha="right", va="bottom", color="0.4", fontsize=8)
    left.set(xlabel="training iterations (64 trials each)", ylabel="error on validation trials (%)", ylim=(0, 55))
    left.legend(frameon=False, fontsize=8)
    rows = [name for name in ROWS if name in table]
    for y, name in enumerate(reversed(rows)):
        for steps, filled in (("500", False), ("2000", True)):
            cell = table[name].get(steps)
            if cell is None:
                continue
            height = y + (0.14 if filled else -0.14)
            errors = 100 * np.asarray(cell["errors"])
            face = "#0072B2" if filled else "none"
            spots = {"s": 22, "facecolors": face, "edgecolors": "#0072B2", "zorder": 3}
            right.scatter(errors, np.full(len(errors), height), **spots)
            right.plot([np.median(errors)] * 2, [height - 0.12, height + 0.12], color="black", lw=1.5, zorder=4)
    right.axvline(7, color="0.6", ls=":", lw=1)
    right.text(7.2, len(rows) - 0.45, "7 %: the paper's stop", color="0.4", fontsize=8, va="bottom")
    right.set_yticks(range(len(rows)), [ROWS[name] for name in reversed(rows)], fontsize=8)
    right.set(xlabel="error on 1,000 fresh trials (%), and medians", xlim=(0, 55))
    right.set_ylim(-0.6, len(rows) - 0.1)
    for steps, face in (("after 500", "none"), ("after 2000 iterations", "#0072B2")):
        right.scatter([], [], s=22, facecolors=face, edgecolors="#0072B2", label=steps)
    right.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.93))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
