"""Draw docs/images/sparsity.png from results/sparsity.json.

python benchmarks/sparsity_picture.py
"""

import json
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from records import ROOT

# Okabe and Ito's colours, told apart by all eyes; markers say the same.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def main() -> None:
    report = json.loads((ROOT / "results" / "sparsity.json").read_text())
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    _density(first, report["density"]["inputs"], "inputs", "share of inputs that send, %")
    _density(second, report["density"]["units"], "spiking", "share of units that spike, %")
    _peers(third, report["rates"])
    _growth(fourth, report["growth"])
    path = ROOT / "docs" / "images" / "sparsity.png"
    figure.savefig(path, dpi=150)
    print(path)


def _density(axis: Any, rows: dict[str, Any], share: str, label: str) -> None:
    x = [100 * row[share] for row in rows.values()]
    for name, colour, marker in (("dense", GREY, "s"), ("native", BLUE, "o")):
        axis.plot(x, [1000 * row[name] for row in rows.values()], color=colour, marker=marker, label=name)
    axis.set(xscale="log", xlabel=label, ylabel="ms a step, W1, BPTT", ylim=(0, None))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend(frameon=False)


def _peers(axis: Any, cases: dict[str, Any]) -> None:
    labels = [name for name in cases if "drawn" not in name]
    for offset, form, colour in ((-0.2, "bptt", BLUE), (0.2, "eprop", ORANGE)):
        values = [cases[name]["steps"][form].get("faster_than_peers", 0) for name in labels]
        label = {"bptt": "BPTT", "eprop": "e-prop"}[form]
        bars = axis.bar([i + offset for i in range(len(labels))], values, 0.38, color=colour, label=label)
        axis.bar_label(bars, fmt="%.1f", fontsize=7)
    axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axis.set_xticks(range(len(labels)), [name.replace(", ", ",\n") for name in labels], fontsize=7, rotation=45)
    axis.set(ylabel="times as fast as the fastest peer", xlabel="workload, share of units that spike")
    axis.legend(frameon=False)


def _growth(axis: Any, cases: dict[str, Any]) -> None:
    for kind, colour, marker in (("steps", BLUE, "o"), ("trials", ORANGE, "s"), ("rate", GREEN, "^")):
        mine = {float(name.split()[1]): row for name, row in cases.items() if name.startswith(kind)}
        base = min(mine)
        x = [value / base for value in mine]
        axis.plot(
            x,
            [row["seconds"] / mine[base]["seconds"] for row in mine.values()],
            color=colour,
            marker=marker,
            label=kind,
        )
    axis.plot([1, 8], [1, 8], color="black", linewidth=0.8, linestyle=":", label="in proportion")
    axis.set(xscale="log", yscale="log", xlabel="times as many", ylabel="times as long, W1, BPTT")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(FixedLocator([1, 2, 5, 10, 20]))
        ticks.set_minor_locator(NullLocator())
        ticks.set_major_formatter("{x:g}")
    axis.legend(frameon=False)


if __name__ == "__main__":
    main()
