"""Bellec et al. 2020, Fig. 2: how near e-prop comes to BPTT on speech, for spiking and for LSTM networks.

TIMIT is licensed; the speech here is the Free Spoken Digit Dataset: digits named at every frame, and strings of three
digits by CTC. Two speakers are held out in turn, each network's seed with its pair, so that columns are paired.

What counts is the share of a gap that e-prop closes: from a readout that learns alone, recurrent and input weights as
drawn, to BPTT.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .bellec2020 import PAPER, SOURCE
from .bellec2020_evidence import BUDGETS, Column
from .bellec2020_evidence import column as evidence_column
from .experiment import Experiment, Found, interval
from .runs import frozen, run_once

SEEDS = 5
HELD_OUT = (("george", "jackson"), ("lucas", "nicolas"), ("theo", "yweweler"))
ALONE = "readout only"
VARIANTS: dict[str, tuple[str, ...]] = {
    ALONE: (),  # all other projections as they were drawn: `runs.frozen`
    "random": (),
    "adaptive": ("rule.feedback=adaptive", "optimizer.kolen_pollack=1e-4"),
    "bptt": (),
}
# Recipes by task and network, and what they change.
NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "frames, LSNN": ("fsdd", ()),
    "strings, LSNN": ("fsdd_strings", ()),
    "frames, bidirectional LSNN": ("fsdd_bidirectional", ()),
    "frames, LSTM": ("fsdd_lstm", ()),
    "strings, LSTM": (
        "fsdd_lstm",
        (
            "task.name=fsdd_strings",
            "network.populations.readout.tau=1.0",
            "rule.loss=ctc",
            "rule.scale=0.03",
            "training.steps=4000",
            "training.batch=8",
        ),
    ),
}


def column(
    network: str, variant: str, folder: Path, say: Callable[[str], None], seeds: Iterable[int] = range(SEEDS)
) -> Column:
    """Train and test networks by a variant: errors (wrong frames, or edits a label) on speakers never heard."""
    recipe, changes = NETWORKS[network]
    runs = []
    for seed in seeds:
        pair = ", ".join(f'"{name}"' for name in HELD_OUT[seed % len(HELD_OUT)])
        settings = [*changes, f"task.test=[{pair}]", *VARIANTS[variant], *(frozen(recipe) if variant == ALONE else ())]
        rule = variant if variant == "bptt" else None
        runs.append(run_once(recipe, settings, seed, folder / "speech-runs", say, rule=rule))
    return Column([round(1 - run["test_accuracy"], 6) for run in runs], runs)


class Gap(NamedTuple):
    """The columns between which e-prop lies: a readout that learns alone, and BPTT."""

    alone: Column
    found: Column
    bptt: Column

    @property
    def closed(self) -> float:
        """Share of the gap that is closed, by mean errors."""
        alone, found, bptt = (float(np.mean(c.errors)) for c in self)
        return (alone - found) / (alone - bptt)

    @property
    def open(self) -> bool:
        """Whether BPTT is better than the readout alone, so that there is a gap to close."""
        low, _ = interval(np.subtract(self.alone.errors, self.bptt.errors))
        return low > 0

    def __str__(self) -> str:
        errors = (f"{np.mean(c.errors):.1%}" for c in self)
        return "{}, {} and {}".format(*errors)


def gap(network: str, folder: Path, say: Callable[[str], None], seeds: int) -> Gap:
    """What random e-prop closes on a network."""
    return Gap(*(column(network, name, folder, say, range(seeds)) for name in (ALONE, "random", "bptt")))


def _found(gaps: dict[str, Gap], seeds: int, verdict: str, why: str) -> Found:
    errors = "; ".join(f"{name}: {g}" for name, g in gaps.items())
    seconds = sum(c.seconds for g in gaps.values() for c in g)
    why = f"{why}. Mean errors of the readout alone, e-prop and BPTT: {errors}"
    return Found({name: g.closed for name, g in gaps.items()}, verdict, why, seeds=seeds, seconds=seconds)


class Bellec2020ApproachesBPTT(Experiment):
    """Random e-prop learns nearly what BPTT learns."""

    paper, name, source = PAPER, "approaches_bptt", f"{SOURCE}, Figs. 2 and 3"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent
        if quick:
            one = {"frames, LSNN": gap("frames, LSNN", there, say, 1)}
            return _found(one, 1, "untested", "one of three tasks, one of five seeds")
        names = ("readout only", "random", "bptt")
        gaps = {"evidence": Gap(*(evidence_column(name, BUDGETS[-1], there, say) for name in names))}
        gaps |= {name: gap(name, there, say, SEEDS) for name in ("frames, LSNN", "strings, LSNN")}
        good = sum(g.open and g.closed >= 0.8 for g in gaps.values())
        verdict = "holds" if good >= 2 else "partly" if good else "fails"
        return _found(gaps, SEEDS, verdict, f"at least 80 % on {good} of 3; the bar is two")


class Bellec2020LSTM(Experiment):
    """e-prop applies to LSTM units."""

    paper, name, source = PAPER, "lstm", f"{SOURCE}, Fig. 2 and Supplementary Note 4"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        from .lstm_reference import worst_difference

        difference, seeds = worst_difference(), 1 if quick else 3
        say(f"gradients by the hand formulas differ by {difference:.1e}")
        names = ("frames, LSTM",) if quick else ("frames, LSTM", "strings, LSTM")
        gaps = {name: gap(name, folder.parent, say, seeds) for name in names}
        if quick:
            return _found(gaps, seeds, "untested", "one of two tasks, one of three seeds")
        good = sum(g.open and g.closed >= 0.8 for g in gaps.values())
        verdict = "fails" if difference > 1e-10 or not good else "holds" if good == len(gaps) else "partly"
        why = (
            f"hand formulas differ by {difference:.1e}, the bar is 1e-10; at least 80 % on {good} of {len(gaps)} tasks"
        )
        return _found(gaps, seeds, verdict, why)
