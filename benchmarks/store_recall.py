"""Store-recall by random e-prop, with adaptive units and without: is a symbol kept that adaptation alone can keep?

    python benchmarks/store_recall.py             # the `store_recall` recipe, 5 seeds each; minutes, resumes run by run

Each seed's network is chosen on validation trials and tested on fresh ones with frozen weights.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from records import ROOT, origin, save

from engrax.papers.runs import run_once

NETWORKS = {"alif": (), "lif": ("network.populations.hidden.beta=0.0",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "store_recall")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "store_recall.json")
    options = parser.parse_args()
    say = lambda text: print(text, file=sys.stderr)
    found = {}
    for name, changes in NETWORKS.items():
        runs = [run_once("store_recall", changes, seed, options.runs, say) for seed in range(options.seeds)]
        errors = [round(1 - run["test_accuracy"], 4) for run in runs]
        found[name] = {
            "errors": errors,
            "median": float(np.median(errors)),
            "firing_rate_hz": [round(run["firing_rate_hz"], 2) for run in runs],
            "curves": [run["curve"] for run in runs],
        }
        print(f"{name}: errors {errors}")
    save(options.out, {**origin("store-recall: error of recalls", "python benchmarks/store_recall.py"), **found})


if __name__ == "__main__":
    main()
