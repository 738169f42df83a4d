"""A training step of this tree against the same step of an earlier commit, in turn, in one run.

    python benchmarks/against.py HEAD~1 W1:eprop:chunked W2:eprop:online --out results/traces.json

A case is workload, rule and evaluation ("-" where a rule has one). The workloads are those of `engrax bench`. Nothing
else should run meanwhile.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from records import ROOT, origin, save

from engrax.bench.candidate import Variant
from engrax.bench.race import Worker


def worker(source: Path, case: str) -> Worker:
    """A process that takes steps by the library in `source`."""
    workload, rule, evaluation = case.split(":")
    os.environ["PYTHONPATH"] = str(source)
    return Worker("engrax", Variant(rule, evaluation), workload, threads=len(os.sched_getaffinity(0)))


def compare(case: str, sources: dict[str, Path], repeats: int) -> dict:
    """Medians of both, compilation apart, and how many times as fast this tree is."""
    workers = {name: worker(source, case) for name, source in sources.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    losses = {name: w.ask("step")["loss"] for name, w in workers.items()}
    for _ in range(repeats):
        for name, w in workers.items():
            times[name].append(w.ask("step")["seconds"])
    peaks = {name: w.ask("memory")["peak_mb"] for name, w in workers.items()}
    for w in workers.values():
        w.close()
    before, now = (statistics.median(times[name]) for name in ("before", "now"))
    return {
        "ratio": round(before / now, 2),
        "seconds": {"before": round(before, 3), "now": round(now, 3)},
        "fastest": {name: round(min(x), 3) for name, x in times.items()},
        "peak_mb": peaks,
        "first_loss": losses,
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument(
        "cases", nargs="+", metavar="WORKLOAD:RULE:EVALUATION", help='evaluation "-" where there is one'
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", options.commit], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        sources = {"before": Path(folder) / "src", "now": ROOT / "src"}
        found = {}
        for case in options.cases:
            found[case] = compare(case, sources, options.repeats)
            print(case, found[case], flush=True)
    if options.out:
        command = f"python benchmarks/against.py {commit} {' '.join(options.cases)}"
        save(options.out, {**origin(f"training steps against those of commit {commit}", command), "cases": found})


if __name__ == "__main__":
    main()
