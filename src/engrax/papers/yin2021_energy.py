"""Yin et al. 2021, the abstract's claim about energy: one to three orders of magnitude less than classical recurrent
networks.

Beside an LSTM network of as many units, as the paper counts, and beside the smallest LSTM network that is as accurate:
one that was trained, with a share of the units with which it has as many parameters.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..meter import PRICES
from .experiment import Experiment, Found
from .yin2021 import SOURCE
from .yin2021_series import SERIES, cell

SHARES = (0.125, 0.25, 0.5, 1.0)
BAR = 10.0


def joules(operations: Mapping[str, float], prices: str) -> float:
    """Energy of a mean trial."""
    return PRICES[prices].joules(**operations)


def as_accurate(ours: Mapping[str, Any], others: Mapping[float, Mapping[str, Any]]) -> float | None:
    """The smallest share of which the mean accuracy is not less than ours; None: there is none."""
    enough = [share for share, found in others.items() if found["mean"] >= ours["mean"]]
    return min(enough) if enough else None


class Yin2021Energy(Experiment):
    """Energy of LSTM networks over that of the adaptive spiking network, at four sets of prices."""

    paper, name, source = "yin2021", "energy", f"{SOURCE}, abstract; prices from Horowitz 2014"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent / "series-runs"
        if quick:
            found = cell("vowels", "srnn", there, say, [0])["operations"]
            ratios = {name: joules(found["lstm"], name) / joules(found["network"], name) for name in PRICES}
            return Found(ratios, "untested", "one of five tasks, one of three seeds, at equal size alone")
        measured: dict[str, dict[str, Any]] = {}
        seconds = 0.0
        for task in SERIES:
            ours = cell(task, "srnn", there, say)
            others = {share: cell(task, "lstm", there, say, share=share) for share in SHARES}
            seconds += ours["seconds"] + sum(found["seconds"] for found in others.values())
            share = as_accurate(ours, others)
            spent = ours["operations"]
            measured[task] = {
                "accuracy": round(ours["mean"], 4),
                "LSTM units": {found["units"]: round(found["mean"], 4) for found in others.values()},
                "at equal size": {p: round(joules(spent["lstm"], p) / joules(spent["network"], p), 2) for p in PRICES},
                "at equal accuracy": None
                if share is None
                else {
                    p: round(joules(others[share]["operations"]["network"], p) / joules(spent["network"], p), 2)
                    for p in PRICES
                },
            }
        return Found(measured, *verdict(measured), seeds=3, seconds=seconds)


def verdict(measured: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """The verdict, and why: at equal accuracy, or where no LSTM network was as accurate, at equal size."""
    cheaper = {prices: [] for prices in PRICES}  # type: dict[str, list[str]]
    for task, row in measured.items():
        ratios = row["at equal accuracy"] or row["at equal size"]
        for prices in PRICES:
            if ratios[prices] >= BAR:
                cheaper[prices].append(task)
    asked = [len(cheaper[prices]) for prices in ("int32", "float32")]
    holds = "holds" if min(asked) == len(measured) else "partly" if max(asked) else "fails"
    none = [task for task, row in measured.items() if row["at equal accuracy"] is None]
    which = "; ".join(f"{prices}: {', '.join(tasks) or 'none'}" for prices, tasks in cheaper.items())
    why = f"{BAR:g} times as cheap as an LSTM network of equal accuracy by {which}"
    return holds, why + (f" (at equal size, where no LSTM network was as accurate: {', '.join(none)})" if none else "")
