"""The ECG network for a chip: what its integers name rightly, beside the same network in floating point.

    engrax train ecg-chip --out runs/ecg-chip         # five networks, ten minutes on one core
    python benchmarks/ecg_chip.py runs/ecg-chip

Test figures are the run's own, of the float networks. Integers are measured on the held-out training segments.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from records import ROOT, add

import engrax as ex
from engrax.training.block import one_of
from engrax.training.store import read_lines
from engrax.training.stored import load_run

FORMATS = {
    "24 bits, fraction 6, nearest": ex.chip.Format(),
    "24 bits, fraction 6, floor": ex.chip.Format(rounding="floor"),
    "21 bits, fraction 3, nearest": ex.chip.Format(state=21, fraction=3),
    "18 bits, fraction 0, nearest": ex.chip.Format(state=18, fraction=0),
}


def compare(net: ex.Network, task: ex.tasks.Task, form: ex.chip.Format) -> dict[str, float]:
    """One network on the held-out segments, in floating point and in integers."""
    (trial,) = task.batches("validation", 64)
    record, ran = net.run(trial.inputs, record=("hidden",)), ex.chip.emulate(net, trial.inputs, form)
    named = [np.argmax(np.asarray(x), axis=-1) for x in (record.outputs, ran.outputs)]
    return {
        "validation_accuracy_float": float(task.score(record.outputs, trial)),
        "validation_accuracy_integers": float(task.score(jnp.asarray(ran.outputs, jnp.float32), trial)),
        "share_of_differing_spikes": float(np.mean(np.asarray(record["hidden"]) != ran["hidden"])),
        "share_of_steps_named_otherwise": float(np.mean(named[0] != named[1])),
        "largest_current": int(np.abs(ran["hidden.current"]).max()),
        "largest_voltage": int(np.abs(ran["hidden.voltage"]).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of the recipe ecg-chip")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "ecg_chip.json")
    options = parser.parse_args()
    stored = load_run(options.run)
    seeds = stored.recipe.training.seeds
    assert stored.networks is not None and seeds is not None
    section = stored.recipe.training
    settings = {"recipe": "ecg-chip", "steps": section.steps, "batch": section.batch, "seed": section.seed}
    said = "the ecg-chip recipe, each network chosen on held-out training segments, in floating point and in integers"
    command = "engrax train ecg-chip --out RUN; python benchmarks/ecg_chip.py RUN"
    history = read_lines(options.run / "metrics.jsonl")
    for seed in range(seeds):
        found = {
            "test_accuracy": stored.result["test_accuracy_per_seed"][seed],
            "validation_accuracy": max(entry["validation_accuracy_per_seed"][seed] for entry in history),
        }
        add(options.out, settings, said, command, "float", str(seed), found)
        for name, form in FORMATS.items():
            both = compare(one_of(stored.networks, seed, True), stored.built.task, form)
            add(options.out, settings, said, command, name, str(seed), both)
            print(f"seed {seed}, {name}: {both}", file=sys.stderr)


if __name__ == "__main__":
    main()
