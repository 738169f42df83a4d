"""Electrocardiogram: the published 36-unit network by BPTT and by e-prop, chosen on validation and on test data.

    python benchmarks/ecg.py                      # five seeds each: about 100 minutes on one core; resumes run by run
    python benchmarks/ecg.py --rules bptt --seeds 1

The recipe `ecg`, one seed at a time, three times over: by BPTT and by e-prop with contiguous blocks of the training
file held out, and by BPTT with random segments held out. Each run's network is chosen on the held-out segments and
measured once on the test file. Beside it, labelled as such, stands what choosing on the test file itself would have
given: the published figures were chosen so.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from records import ROOT, add, load

import engrax as ex
from engrax.tasks.ecg import ECG, ECGTrial
from engrax.training import recipe as recipes
from engrax.training.build import build

RUNS = {
    "bptt": ("bptt", "blocks"),
    "eprop": ("eprop", "blocks"),
    "bptt, random split": ("bptt", "random"),
}


class WatchedTrial(ECGTrial):
    """Held-out segments followed by those of the test file."""

    @property
    def held(self) -> int:
        return self.batch - 141


class Watched(ECG):
    """ECG with the test file's accuracy beside every validation. It must not decide anything."""

    def batches(self, split: ex.tasks.Split, batch: int) -> Iterator[ex.Trial]:
        if split != "validation":
            yield from super().batches(split, batch)
            return
        rows = jax.tree.map(lambda a, b: jax.numpy.concatenate([a, b]), self.rows["validation"], self.rows["test"])
        trial = self.present(rows)
        yield WatchedTrial(trial.inputs, trial.targets, mask=trial.mask, labelled=trial.labelled)

    def score(self, outputs: jax.Array, trial: ex.Trial) -> jax.Array:
        if isinstance(trial, WatchedTrial):
            trial, outputs = (
                ex.Trial(trial.inputs[:, : trial.held], trial.targets[:, : trial.held]),
                outputs[:, : trial.held],
            )
        return super().score(outputs, trial)

    def metrics(self, outputs: jax.Array, trial: ex.Trial) -> dict:
        if isinstance(trial, WatchedTrial):
            held = trial.held
            return {
                "test_accuracy": super().score(
                    outputs[:, held:], ex.Trial(trial.inputs[:, held:], trial.targets[:, held:])
                )
            }
        return super().metrics(outputs, trial)


def run(rule: str, split: str, seed: int, steps: int) -> dict:
    """Train the recipe's network once and measure it."""
    recipe = recipes.load("ecg", [f"training.steps={steps}"], rule)
    built = build(recipe)
    key = jax.random.fold_in(jax.random.key(recipe.training.seed), seed)
    result = built._replace(task=Watched(validation=split)).fit(seeds=1, key=key)
    validation = [entry["validation_accuracy"] for entry in result.history]
    watched = [entry["validation_test_accuracy"] for entry in result.history]
    return {
        "test_accuracy": float(result.test["accuracy"][0]),
        "test_accuracy_after_skip": float(result.test["accuracy_after_skip"][0]),
        "test_accuracy_labelled": float(result.test["accuracy_labelled"][0]),
        "test_accuracy_if_chosen_on_test": max(watched),
        "test_accuracy_at_the_end": watched[-1],
        "validation_accuracy": max(validation),
        "chosen_at_step": result.history[int(np.argmax(validation))]["step"],
        "firing_rate_per_step": float(result.test["firing_rate_hz.hidden"][0]) / 1000,
        "seconds": round(result.seconds, 1),
        "steps_validated": [entry["step"] for entry in result.history],
        "validation_curve": [round(v, 4) for v in validation],
        "test_curve": [round(v, 4) for v in watched],
    }


def main() -> None:
    section = recipes.load("ecg").training
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=";".join(RUNS), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=section.seeds)
    parser.add_argument("--steps", type=int, default=section.steps)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "ecg.json")
    options = parser.parse_args()
    settings = {"recipe": "ecg", "steps": options.steps, "batch": section.batch, "seed": section.seed}
    what = "the ecg recipe on the test file (141 segments), each run's network chosen on held-out training segments"
    for name in options.rules.split(";"):
        for seed in range(options.seeds):
            if str(seed) in load(options.out, settings)["runs"].get(name, {}):
                continue
            found = run(*RUNS[name], seed, options.steps)
            add(options.out, settings, what, "python benchmarks/ecg.py", name, str(seed), found)
            print(f"{name}, seed {seed}: test accuracy {found['test_accuracy']:.2%}", file=sys.stderr)


if __name__ == "__main__":
    main()
