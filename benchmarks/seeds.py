"""Many seeds as one program against as many runs: the time of each, and whether every seed's results are the same.

    python benchmarks/seeds.py                    # about ten minutes; nothing else should run meanwhile

The digits recipe at a part of its steps. Runs one by one share the compiled program, as in one Python session; started
as commands, each would compile anew.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from records import ROOT, origin, save

from engrax.training.build import build
from engrax.training.recipe import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "seeds.json")
    options = parser.parse_args()
    built = build(load("digits", [f"training.steps={options.steps}"]))

    def fit(seeds: int | list[int]) -> tuple[float, np.ndarray, np.ndarray]:
        started = time.perf_counter()
        run = built.fit(seeds=seeds, validate_every=options.steps, progress=False)
        return time.perf_counter() - started, np.asarray(run.losses), np.asarray(run.test["accuracy"])

    together, losses, accuracy = fit(options.seeds)
    first = fit([0])[0]
    alone = [fit([seed]) for seed in range(options.seeds)]
    warm, _, _ = fit(options.seeds)
    one_by_one = sum(seconds for seconds, _, _ in alone)
    save(
        options.out,
        {
            **origin(f"{options.seeds} seeds of digits as one program and one by one", "python benchmarks/seeds.py"),
            "steps": options.steps,
            "seconds_together": round(warm, 2),
            "seconds_together_with_compilation": round(together, 2),
            "seconds_one_by_one": round(one_by_one, 2),
            "seconds_of_the_first_with_compilation": round(first, 2),
            "ratio": round(one_by_one / warm, 3),
            "largest_difference_of_test_accuracy": float(
                max(abs(accuracy[seed] - found[0]) for seed, (_, _, found) in enumerate(alone))
            ),
            "largest_relative_difference_of_loss": float(
                max(np.max(np.abs(losses[seed] / mine[0] - 1)) for seed, (_, mine, _) in enumerate(alone))
            ),
        },
    )
    print(options.out.read_text())


if __name__ == "__main__":
    main()
