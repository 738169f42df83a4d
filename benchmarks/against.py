"""A training step of this tree against the same step of an earlier commit, in turn, in one run.

    python benchmarks/against.py HEAD~1 W1:eprop:chunked W2:eprop:online --out results/traces.json

A case is workload, rule and evaluation ("-" where a rule has one). The workloads are those of `engrax bench`. Nothing
else should run meanwhile.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from records import ROOT, origin, save
from turns import compare

from engrax.bench.candidate import Variant


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
        settings = {name: {"PYTHONPATH": str(source)} for name, source in sources.items()}
        found = {}
        for case in options.cases:
            workload, rule, evaluation = case.split(":")
            found[case] = compare(workload, Variant(rule, evaluation), settings, options.repeats)
            print(case, found[case], flush=True)
    if options.out:
        command = f"python benchmarks/against.py {commit} {' '.join(options.cases)}"
        save(options.out, {**origin(f"training steps against those of commit {commit}", command), "cases": found})


if __name__ == "__main__":
    main()
