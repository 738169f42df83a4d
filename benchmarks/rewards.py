"""Learning from rewards: returns of agents by e-prop, BPTT, frozen recurrence and reward-modulated STDP, with curves.

    python benchmarks/rewards.py                     # hours; resumes run by run
    python benchmarks/rewards.py --tasks catch       # minutes
    python benchmarks/rewards.py --picture-only      # from results/rewards.json

Recipes are `catch`, `cartpole` and `reward_evidence`; only the rule, or what learns, differs. Curves are of validation
episodes with the most probable actions; the network with the best of them is tested on 200 others. Runs are those of
`engrax reproduce bellec2020/reward`, in runs/papers/bellec2020/reward-runs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from records import ROOT, origin, save

from engrax.papers.bellec2020_reward import AGENTS, BARS, SEEDS, returns

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours: told apart by colour-blind readers too.
LINES = {
    "eprop": ("e-prop, random feedback", "#D55E00"),
    "bptt": ("BPTT", "#000000"),
    "rewardstdp": ("reward-modulated STDP", "#0072B2"),
    "frozen": ("readouts alone learn", "#999999"),
}
TITLES = {"catch": "Catch", "cartpole": "Cart-pole", "reward_evidence": "Evidence, for a reward"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(BARS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "papers" / "bellec2020")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "rewards.json")
    parser.add_argument("--picture-only", action="store_true")
    options = parser.parse_args()
    if not options.picture_only:
        table(options.tasks.split(","), options.seeds, options.runs, options.out)
    draw(json.loads(options.out.read_text()), ROOT / "docs" / "images" / "rewards.png")


def table(tasks: list[str], seeds: int, runs: Path, out: Path) -> None:
    """Fill the table, agent by agent."""
    known = json.loads(out.read_text()) if out.exists() else {}
    cells: dict[str, Any] = known["table"] if known.get("seeds") == seeds else {}
    for task in tasks:
        for agent in AGENTS:
            figures, made = returns(task, agent, runs, lambda text: print(text, file=sys.stderr), seeds)
            cells.setdefault(task, {})[agent] = {
                BARS[task][0]: figures,
                "median": float(np.median(figures)),
                "firing_rate_hz": [round(run["firing_rate_hz"], 2) for run in made],
                "seconds": round(sum(run["seconds"] for run in made)),
                "batch": made[0]["recipe"]["training"]["batch"],
                "steps": [step for step, _ in made[0]["curve"]],
                "validation_returns": [[round(y, 4) for _, y in run["curve"]] for run in made],
            }
            report = {**origin("returns on test episodes", "python benchmarks/rewards.py"), "seeds": seeds}
            save(out, {**report, "table": cells})


def draw(report: dict[str, Any], path: Path) -> None:
    """A panel for each task: medians over seeds, and their range, against episodes."""
    tasks = [task for task in BARS if task in report["table"]]
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(3.6 * len(tasks), 3.3), constrained_layout=True, squeeze=False
    )
    for axes, task in zip(panels[0], tasks, strict=True):
        for agent, (label, colour) in LINES.items():
            cell = report["table"][task].get(agent)
            if cell is None:
                continue
            episodes = cell["batch"] * np.asarray(cell["steps"])
            found = np.asarray(cell["validation_returns"])
            axes.plot(episodes, np.median(found, axis=0), color=colour, lw=1.6, label=label)
            axes.fill_between(episodes, found.min(0), found.max(0), color=colour, alpha=0.15, lw=0)
        axes.set(title=TITLES[task], xlabel="episodes", ylabel="return on validation episodes")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower center", ncols=4
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
