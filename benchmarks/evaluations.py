"""What the evaluations of e-prop cost: peak memory against the number of steps, and time beside BPTT.

    python benchmarks/evaluations.py              # a few minutes; nothing else should run meanwhile

Memory: each figure is the peak of a fresh process less that of one that only made the inputs, for 20 recurrent ALIF
units and a batch of 4. Time: a gradient of evidence accumulation (batch 64, 2250 steps, 40-100-2), candidates in
turn in one process, median of several, compilation apart.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
from records import ROOT, origin, save

import engrax as ex
from engrax.training.build import build
from engrax.training.recipe import load

RULES = {
    "bptt": ex.rules.BPTT(),
    "offline": ex.rules.EProp(feedback="random"),
    "chunked": ex.rules.EProp(feedback="random", evaluation="chunked", chunk=150),
    "online": ex.rules.EProp(feedback="random", evaluation="online"),
}


def peak(rule: str, steps: int) -> float:
    """Peak memory in MB of this process after one gradient ("inputs": after making the trial)."""
    net = ex.Network(
        {"hidden": ex.neurons.ALIF(20, threshold=0.5, beta=0.3), "out": ex.neurons.LI(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "out")],
        inputs={"input": 4},
        outputs="out",
        key=jax.random.key(0),
    )
    trial = ex.Trial(jax.random.normal(jax.random.key(1), (steps, 4, 4)), jax.numpy.zeros((steps, 4, 2)))
    if rule != "inputs":
        jax.block_until_ready(RULES[rule].value_and_grad(net, trial))
    # Not getrusage: its high-water mark begins at what the parent process held.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory() -> list[dict]:
    """Peak memory of every evaluation at 1e3, 1e4 and 1e5 steps."""
    rows = []
    for steps in (1000, 10_000, 100_000):
        row: dict = {"steps": steps}
        for rule in ("inputs", *RULES):
            command = [sys.executable, __file__, "--peak", rule, "--steps", str(steps)]
            row[rule] = round(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout), 1)
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def seconds(repeats: int) -> dict:
    """Median seconds of a gradient on evidence accumulation, with the rates regularised."""
    built = build(load("evidence"))
    net, task = built.net, built.task
    trial = task.sample(jax.random.key(0), 64)
    rates = ex.losses.FiringRate(2.0, 10.0)
    rules = {
        "bptt": ex.rules.BPTT(regularizers=rates),
        "offline": ex.rules.EProp(feedback="random", regularizers=rates),
        **{
            f"chunked {chunk}": ex.rules.EProp(feedback="random", evaluation="chunked", chunk=chunk, regularizers=rates)
            for chunk in (50, 150, 450)
        },
        "online": ex.rules.EProp(feedback="random", evaluation="online", regularizers=rates),
    }
    times: dict[str, list[float]] = {name: [] for name in rules}
    for turn in range(repeats + 1):
        for name, rule in rules.items():
            start = time.perf_counter()
            jax.block_until_ready(rule.value_and_grad(net, trial))
            if turn:
                times[name].append(time.perf_counter() - start)
    found = {name: round(statistics.median(values), 4) for name, values in times.items()}
    print(found, file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", choices=("inputs", *RULES), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "evaluations.json")
    options = parser.parse_args()
    if options.peak:
        print(peak(options.peak, options.steps))
        return
    report = {
        **origin(
            "e-prop's evaluations: peak memory (MB, whole process) against steps, and seconds of a gradient",
            "python benchmarks/evaluations.py",
        ),
        "seed": 0,
        "seconds_evidence_batch_64": seconds(options.repeats),
        "peak_memory_mb": memory(),
    }
    save(options.out, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
