"""What `engrax plan` foretells against what happens: memory of a gradient and its time, rule by rule.

    python benchmarks/plan.py                    # a few minutes; nothing else should run meanwhile

Memory as the system counts it: how far one gradient lifts the high-water mark of a process that has compiled already.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
from records import ROOT, origin, save

from engrax.bench.worker import _step_memory
from engrax.training.build import build
from engrax.training.plan import compiled, plan
from engrax.training.recipe import load

RULES = ("bptt", "bptt:checkpoint=true", "eprop", "eprop:evaluation=chunked", "eprop:evaluation=online", "fptt", "rflo")
# Networks wide enough that their gradients stand out from what a process takes anyway.
CHANGES = ("training.batch=1024", "task.hold=10", "network.populations.hidden.size=256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--set", action="append", dest="changes", help="in place of a larger batch, layer and trial")
    parser.add_argument("--one", help="measure this rule here, and print what was found")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "plan.json")
    options = parser.parse_args()
    changes = list(CHANGES) if options.changes is None else options.changes
    if options.one:
        print(json.dumps(measured(options.recipe, options.one, changes)))
        return
    found = {}
    for rule in options.rules.split(","):
        same = ["--recipe", options.recipe, *(f"--set={change}" for change in changes)]
        command = [sys.executable, __file__, "--one", rule, *same]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        found[rule] = json.loads(said)
        print(rule, said)
    save(
        options.out,
        {
            "recipe": options.recipe,
            "changes": changes,
            "rules": found,
            **origin("what engrax plan foretells, and what happens", "python benchmarks/plan.py"),
        },
    )


def measured(recipe: str, label: str, changes: list[str]) -> dict[str, float]:
    """Foretold and found: bytes beyond the arguments, and seconds."""
    name, *given = label.split(":")
    built = build(load(recipe, [*changes, *(f"rule.{option}" for option in given)], name))
    trial = built.task.sample(jax.random.key(0), built.training.batch)
    told = plan(built.net, built.rule, trial)
    key = jax.random.key(0)
    program, arrays = compiled(built.rule.bind(built.net, key), built.rule, trial, key)
    arguments = program.memory_analysis().argument_size_in_bytes

    def step() -> None:
        jax.block_until_ready(program(arrays))

    step()
    rise = _step_memory(step)
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    return {
        "foretold_mb": round((told.memory - arguments) / 2**20, 1),
        "measured_mb": rise if rise is not None else float("nan"),
        "foretold_seconds": told.seconds,
        "measured_seconds": seconds,
        "steps": told.steps,
    }


if __name__ == "__main__":
    main()
