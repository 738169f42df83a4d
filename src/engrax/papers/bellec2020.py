"""Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein, Maass 2020: a solution to the learning dilemma for recurrent
networks of spiking neurons (Nature Communications 11:3625).
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .experiment import Experiment, Found, interval
from .runs import run_once

PAPER = "bellec2020"
SOURCE = "Bellec et al. 2020, Nat. Commun. 11:3625"


class Bellec2020Online(Experiment):
    """Online, chunked and offline e-prop are the same number, for every neuron model."""

    paper, name, source = PAPER, "online", f"{SOURCE}, Eqs. 1, 13-14"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        from ..rules.eprop import EProp
        from ..testing.rules import default_neurons, example

        worst: dict[str, float] = {}
        with jax.enable_x64(True):
            for model in default_neurons():
                net, trial = example(model)
                rules = [EProp(evaluation="offline"), EProp(evaluation="online"), EProp(evaluation="chunked", chunk=7)]
                offline, *others = (rule.value_and_grad(net, trial)[1] for rule in rules)
                worst[type(model).__name__] = max(_difference(offline, other) for other in others)
                say(f"{type(model).__name__}: {worst[type(model).__name__]:.1e}")
        largest = max(worst.values())
        verdict = "holds" if largest <= 1e-10 else "fails"
        return Found(worst, verdict, f"largest relative difference {largest:.1e}; the bar is 1e-10")


def _difference(a: PyTree, b: PyTree) -> float:
    """Largest relative difference of two gradients, in the norm of each array."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.linalg.norm(x - y) / jnp.linalg.norm(x)) for x, y in pairs)


class Bellec2020Reference(Experiment):
    """The loss sequences of the authors' programs and of NEST."""

    paper, name, source = PAPER, "reference", f"{SOURCE}, authors' code; NEST 3.7 eprop tests"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        from . import eprop_reference as reference

        worst: dict[str, dict[str, float]] = {}
        with jax.enable_x64(True):
            for name, losses in (("pattern", reference.pattern_losses), ("evidence", reference.evidence_losses)):
                mine, rows = losses()[0], reference.published()[name]
                worst[name] = {
                    other: float(np.max(np.abs(mine / np.asarray(rows[other]) - 1))) for other in ("nest", "tensorflow")
                }
                say(f"{name}: {worst[name]}")
        bars = {"nest": 1e-9, "tensorflow": 1e-6}
        missed = [f"{n}/{o}" for n, row in worst.items() for o, value in row.items() if value > bars[o]]
        why = (
            f"above the bar: {', '.join(missed)}" if missed else "all below the bars, 1e-9 (NEST) and 1e-6 (TensorFlow)"
        )
        return Found(worst, "partly" if 0 < len(missed) < 4 else "fails" if missed else "holds", why)


class Bellec2020Pattern(Experiment):
    """A LIF network learns a pattern of one second by random e-prop."""

    paper, name, source = PAPER, "pattern", f"{SOURCE}, Supplementary Fig. 7"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        steps, seeds = (100, 1) if quick else (1000, 5)
        changes = [f"training.steps={steps}"]
        runs = [run_once("pattern", changes, seed, folder, say, untrained=True) for seed in range(seeds)]
        ratios = [run["final_validation_loss"] / run["untrained_loss"] for run in runs]
        seconds = sum(run["seconds"] for run in runs)
        if quick:
            return Found(ratios[0], "untested", "100 of 1000 iterations, one of five seeds", seconds=seconds)
        low, high = interval(ratios)
        verdict = "unresolved" if high - low > 0.10 else "holds" if np.mean(ratios) <= 0.10 else "fails"
        why = f"loss after 1000 iterations over that at the start; single seeds {min(ratios):.3f} to {max(ratios):.3f}"
        return Found(float(np.mean(ratios)), verdict, why, float(np.std(ratios, ddof=1)), [low, high], seeds, seconds)
