"""Rules side by side: accuracy along training, and the angle to the reference gradient."""

from typing import TYPE_CHECKING

import numpy as np

from .figures import CYCLE, axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training.compare import Comparison


def draw(found: "dict[str, Comparison]") -> "Figure":
    """Validation metric, norm ratio, fall of the loss a step, and cosine by projection, against steps."""
    first = next(iter(found.values()))
    metric = first.run.metric
    names = [n for n in first.alignments[0][1].projections if n != "all"]
    figure, panels = axes(1.5 * (3 + len(names)), rows=3 + len(names), sharex=True)
    top, ratio, fall, *each = panels
    factor = 100 if metric == "accuracy" else 1
    for colour, (label, one) in zip(CYCLE, found.items()):
        steps = [entry["step"] for entry in one.run.history]
        name = f"validation_{metric}"
        values = factor * np.array([entry.get(f"{name}_per_seed", [entry[name]]) for entry in one.run.history])
        top.plot(steps, values.mean(axis=1), color=colour, label=label)
        top.fill_between(steps, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0)
        angles = [a for _, a in one.alignments]
        ratio.plot(steps, [a.projections["all"].norm_ratio for a in angles], color=colour)
        share = [a.decrease / a.reference_decrease if a.reference_decrease else np.nan for a in angles]
        fall.plot(steps, share, color=colour)
        for panel, projection in zip(each, names):
            panel.plot(steps, [a.projections[projection].cosine for a in angles], color=colour)
    top.set_ylabel(f"validation\n{metric}{' (%)' if metric == 'accuracy' else ''}")
    top.legend(fontsize=7, frameon=False)
    ratio.set(ylabel="norm over\nreference's")
    ratio.set_ylim(bottom=0)
    fall.set(ylabel="loss fall over\nreference's")
    fall.axhline(0, color="#BBBBBB", linewidth=0.8)
    lowest = min(0.0, *(a.projections[n].cosine for one in found.values() for _, a in one.alignments for n in names))
    for panel, projection in zip(each, names):
        panel.set(ylim=(lowest - 0.05, 1.05), ylabel=f"cosine\n{projection}")
        panel.axhline(0, color="#BBBBBB", linewidth=0.8)
    panels[-1].set_xlabel(f"training steps (reference: {first.alignments[0][1].reference})")
    return figure
