"""Handwritten digits by e-prop and by BPTT: the figures and the picture of the README.

    python benchmarks/digits.py                   # the `digits` recipe, 5 seeds by each rule
    python benchmarks/digits.py --picture-only    # draw docs/images/digits.png from results/digits.json

Each seed's network is chosen on validation images; the test images are measured once, at the end.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from records import ROOT, origin, save

from engrax.training import recipe as recipes
from engrax.training.build import build

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = {"eprop": "#0072B2", "bptt": "#D55E00"}
NAMES = {"eprop": "e-prop (recurrent paths cut)", "bptt": "BPTT"}


def train(rule: str) -> dict:
    """The recipe by one rule: test figures and validation curves."""
    built = build(recipes.load("digits", rule=rule))
    result = built.fit()
    return {
        **result.summary(),
        "steps_validated": [entry["step"] for entry in result.history],
        "validation_accuracy_per_seed": [entry["validation_accuracy_per_seed"] for entry in result.history],
        "baseline": built.task.baseline(),
    }


def draw(report: dict, path: Path) -> None:
    """Validation accuracy against steps, mean and range over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=160)
    for rule, found in report["rules"].items():
        steps, curves = np.array(found["steps_validated"]), 100 * np.array(found["validation_accuracy_per_seed"])
        label = f"{NAMES[rule]}: {100 * found['test_accuracy']:.1f} % on test"
        axes.plot(steps, curves.mean(1), color=COLOURS[rule], label=label, linewidth=2)
        axes.fill_between(steps, curves.min(1), curves.max(1), color=COLOURS[rule], alpha=0.2, linewidth=0)
    baseline = 100 * report["rules"]["eprop"]["baseline"]["accuracy"]
    axes.axhline(
        baseline, color="#666666", linestyle=":", label=f"logistic regression, whole image: {baseline:.1f} % on test"
    )
    axes.set(xlabel="training steps (64 digits each)", ylabel="validation accuracy (%)", ylim=(60, 100))
    axes.set_title("Spiking network reading handwritten digits row by row; 5 seeds, mean and range", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture-only", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "digits.json")
    options = parser.parse_args()
    if options.picture_only:
        report = json.loads(options.out.read_text())
    else:
        report = {
            **origin(
                "the digits recipe by two rules: test accuracy of each seed's best validated network; the recipe's "
                "settings were tuned by hand with test figures in view",
                "python benchmarks/digits.py",
            ),
            "seed": recipes.load("digits").training.seed,
            "rules": {rule: train(rule) for rule in COLOURS},
        }
        save(options.out, report)
    for rule, found in report["rules"].items():
        print(f"{rule}: test accuracy {found['test_accuracy']:.2%}, {found['seconds']:.0f} s", file=sys.stderr)
    draw(report, ROOT / "docs" / "images" / "digits.png")


if __name__ == "__main__":
    main()
