"""Bellec et al. 2020, Figs. 4 and 5 in the small: an actor and a critic that share a recurrent network learn by e-prop.

Beside it: the same network, inputs and readouts with gradients by BPTT, with recurrent and input weights as they were
drawn, and with reward-modulated STDP. All see as many actions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .bellec2020 import PAPER, SOURCE
from .experiment import Experiment, Found
from .runs import frozen, run_once

SEEDS = 5
# By recipe: the figure, and what an agent of the claim reaches.
BARS = {"catch": ("return", 0.9), "cartpole": ("return", 475.0), "reward_evidence": ("accuracy", 0.9)}
AGENTS = ("eprop", "bptt", "frozen", "rewardstdp")


def returns(
    recipe: str, agent: str, folder: Path, say: Callable[[str], None], seeds: int = SEEDS, steps: int | None = None
) -> tuple[list[float], list[dict[str, Any]]]:
    """An agent's figure on test episodes, one a seed, and the runs."""
    changes = [] if steps is None else [f"training.steps={steps}"]
    changes += frozen(recipe) if agent == "frozen" else ()
    rule = agent if agent in ("bptt", "rewardstdp") else None
    runs = [run_once(recipe, changes, seed, folder / "reward-runs", say, rule=rule) for seed in range(seeds)]
    figure = BARS[recipe][0]
    return [run[f"test_{figure}"] for run in runs], runs


class Bellec2020Reward(Experiment):
    """Catch, cart-pole and evidence for a reward."""

    paper, name, source = PAPER, "reward", f"{SOURCE}, Figs. 4 and 5, Methods; tasks and settings ours"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent
        if quick:
            found, runs = returns("catch", "eprop", there, say, 1, 200)
            medians = {"catch": {"eprop": found[0]}}
            return Found(medians, "untested", "200 of 1500 updates, one of three tasks", seconds=runs[0]["seconds"])
        seconds, good = 0.0, []
        columns: dict[str, dict[str, list[float]]] = {}
        for recipe, (_, bar) in BARS.items():
            columns[recipe] = {}
            for agent in AGENTS:
                columns[recipe][agent], runs = returns(recipe, agent, there, say)
                seconds += sum(run["seconds"] for run in runs)
            mine, theirs = (float(np.median(columns[recipe][agent])) for agent in ("eprop", "bptt"))
            if mine >= bar or mine >= 0.9 * theirs > 0:
                good.append(recipe)
        medians = {r: {a: float(np.median(x)) for a, x in c.items()} for r, c in columns.items()}
        ranges = {r: {a: [min(x), max(x)] for a, x in c.items()} for r, c in columns.items()}
        verdict = "holds" if len(good) == len(BARS) else "partly" if good else "fails"
        bars = ", ".join(f"{r} {bar:g}" for r, (_, bar) in BARS.items())
        why = f"medians at the bar ({bars}) or at 90 % of the BPTT agent's on {', '.join(good) or 'none'}"
        return Found(medians, verdict, why, interval=ranges, seeds=SEEDS, seconds=seconds)
