"""Bellec et al. 2018 and 2020: a symbol kept for seconds, by units that adapt and not by units that do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..network import Network
from ..tasks import get
from ..training import evaluate
from .bellec2020 import PAPER, SOURCE
from .experiment import Experiment, Found
from .runs import run_once

NETWORKS = {"alif": (), "lif": ("network.populations.hidden.beta=0.0",)}


class Bellec2020StoreRecall(Experiment):
    """Store-recall by random e-prop, with adaptive units and without."""

    paper, name, source = PAPER, "storerecall", f"{SOURCE}; task of Bellec et al. 2018, NeurIPS 31, Fig. 3"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        steps, seeds = (25, 1) if quick else (300, 5)
        names = ("alif",) if quick else tuple(NETWORKS)
        errors: dict[str, list[float]] = {}
        seconds = 0.0
        for name in names:
            changes = [f"training.steps={steps}", *NETWORKS[name]]
            runs = [run_once("store_recall", changes, seed, folder, say, look=_cut) for seed in range(seeds)]
            errors[f"{name}, cut"] = [round(1 - run["cut_accuracy"], 4) for run in runs]
            errors[name] = [round(1 - run["test_accuracy"], 4) for run in runs]
            seconds += sum(run["seconds"] for run in runs)
        medians = {name: float(np.median(values)) for name, values in errors.items()}
        if quick:
            return Found(medians, "untested", "25 of 300 iterations, one network of ten", seconds=seconds)
        parts = (medians["alif"] < 0.05) + (medians["lif"] > 0.20)
        spread = {name: float(np.std(values, ddof=1)) for name, values in errors.items()}
        ranges = {name: [min(values), max(values)] for name, values in errors.items()}
        why = (
            "median error of recalls; the bars are below 5 % with adaptation, above 20 % without; cut: recurrent "
            "weights of the trained networks set to zero"
        )
        return Found(medians, ("fails", "partly", "holds")[parts], why, spread, ranges, seeds, seconds)


def _cut(net: Network) -> dict[str, Any]:
    """What is left of a trained network's memory without its recurrent weights."""
    cut = eqx.tree_at(lambda n: n.projections["hidden->hidden"].weight, net, replace_fn=jnp.zeros_like)
    return {"cut_accuracy": evaluate(cut, get("store_recall"))["accuracy"]}
