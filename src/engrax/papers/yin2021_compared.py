"""Yin et al. 2021, the table of results: is an adaptive spiking network ahead of classical recurrent ones, and near the
best networks that do not spike? At equal parameters, on five tasks whose data can be had.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .experiment import Experiment, Found, interval
from .yin2021 import SOURCE
from .yin2021_series import SERIES, cell, paired


class _Compared(Experiment):
    """The spiking network beside others, task by task."""

    paper, source = "yin2021", f"{SOURCE}, table of results; tasks and sizes ours"
    others: Sequence[str]

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent / "series-runs"
        if quick:
            kinds = {kind: cell("vowels", kind, there, say, [0]) for kind in ("srnn", self.others[0])}
            measured = {kind: found["mean"] for kind, found in kinds.items()}
            return Found(measured, "untested", "one of five tasks, one of three seeds, one other network")
        cells = {task: {k: cell(task, k, there, say) for k in ("srnn", *self.others)} for task in SERIES}
        seconds = sum(found["seconds"] for row in cells.values() for found in row.values())
        ahead: dict[str, dict[str, float]] = {}
        ranges: dict[str, dict[str, Any]] = {}
        for task, row in cells.items():
            columns = {k: paired(task, row["srnn"]["test_accuracy"], row[k]["test_accuracy"]) for k in self.others}
            ahead[task] = {kind: round(float(np.mean(column)), 4) for kind, column in columns.items()}
            ranges[task] = {kind: [round(x, 4) for x in interval(column)] for kind, column in columns.items()}
        verdict, why = self.judge(ahead, ranges)
        return Found(ahead, verdict, why, interval=ranges, seeds=3, seconds=seconds)

    def judge(self, ahead: dict[str, dict[str, float]], ranges: dict[str, dict[str, Any]]) -> tuple[str, str]:
        """The verdict, and why, from differences and their intervals by task and network."""
        raise TypeError(f"{type(self).__name__} must define judge(ahead, ranges).")


def _which(ahead: dict[str, dict[str, float]], kind: str) -> list[str]:
    return [task for task, row in ahead.items() if row[kind] > 0]


class Yin2021BeatsRNN(_Compared):
    """Ahead of the plain recurrent network on all five, of the LSTM on three."""

    name = "beats_rnn"
    others = ("rnn", "lstm")

    def judge(self, ahead: dict[str, dict[str, float]], ranges: dict[str, dict[str, Any]]) -> tuple[str, str]:
        plain, gated = _which(ahead, "rnn"), _which(ahead, "lstm")
        holds = len(plain) == len(SERIES) and len(gated) >= 3
        sure = [f"{kind} on {task}" for task, row in ranges.items() for kind, ends in row.items() if ends[0] > 0]
        why = (
            f"mean accuracy ahead of the plain network on {', '.join(plain) or 'none'}, of the LSTM on "
            f"{', '.join(gated) or 'none'}; with the interval above 0: {', '.join(sure) or 'nowhere'}"
        )
        return ("holds" if holds else "partly" if plain or gated else "fails"), why


class Yin2021NearANN(_Compared):
    """Within two points of the best of convolution, GRU and state-space model on four of five."""

    name = "near_ann"
    others = ("tcn", "gru", "ssm")

    def judge(self, ahead: dict[str, dict[str, float]], ranges: dict[str, dict[str, Any]]) -> tuple[str, str]:
        near = [task for task, row in ahead.items() if min(row.values()) >= -0.02]
        worst = {task: min(row, key=lambda kind: row[kind]) for task, row in ahead.items()}
        why = f"within 2 points of the best of the three on {', '.join(near) or 'none'}; the best: " + ", ".join(
            f"{kind} on {task}" for task, kind in worst.items()
        )
        return ("holds" if len(near) >= 4 else "partly" if near else "fails"), why
