"""A training step by products that skip zeros against the same step by plain products, in turn, in one run.

python benchmarks/events.py                   # three minutes; nothing else should run meanwhile
"""

import argparse
import os
import statistics
from pathlib import Path

from records import ROOT, origin, save

from engrax.bench.candidate import Variant
from engrax.bench.race import Worker
from engrax.bench.workload import WORKLOADS

MODES = {"dense": "off", "events": "auto"}


def compare(workload: str, variant: Variant, repeats: int) -> dict:
    """Medians of both, compilation apart."""
    workers = {}
    for name, mode in MODES.items():
        os.environ["ENGRAX_EVENTS"] = mode
        workers[name] = Worker("engrax", variant, workload, threads=len(os.sched_getaffinity(0)))
    losses = {name: w.ask("step")["loss"] for name, w in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(repeats):
        for name, w in workers.items():
            times[name].append(w.ask("step")["seconds"])
    peaks = {name: w.ask("memory")["peak_mb"] for name, w in workers.items()}
    for w in workers.values():
        w.close()
    medians = {name: statistics.median(x) for name, x in times.items()}
    return {
        "ratio": round(medians["dense"] / medians["events"], 2),
        "seconds": {name: round(x, 3) for name, x in medians.items()},
        "fastest": {name: round(min(x), 3) for name, x in times.items()},
        "peak_mb": peaks,
        "first_loss": losses,
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "events.json")
    options = parser.parse_args()
    found = {}
    for workload in WORKLOADS:
        for variant in (Variant("bptt"), Variant("eprop", "offline")):
            case = f"{workload} {variant.rule} {variant.evaluation}"
            found[case] = compare(workload, variant, options.repeats)
            print(case, found[case], flush=True)
    save(
        options.out,
        {**origin("training steps by products that skip zeros", "python benchmarks/events.py"), "cases": found},
    )


if __name__ == "__main__":
    main()
