"""Keep finished trainings of long experiments under version control, so that any machine can go on with the rest.

    python benchmarks/finished.py        # both ways: what lies in runs/papers or results/finished lies in both

An experiment of the papers registry writes what it learnt of each training to runs/papers/PAPER/NAME-runs/RUN.json.
Here they are lines of results/finished/PAPER-NAME.jsonl, by the name of the run, which holds a hash of its recipe and
seed: a changed recipe finds nothing.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from records import ROOT

RUNS, KEPT = ROOT / "runs" / "papers", ROOT / "results" / "finished"


def main() -> None:
    for folder in sorted({*RUNS.glob("*/*-runs"), *map(folder_of, KEPT.glob("*.jsonl"))}):
        file = KEPT / f"{folder.parent.name}-{folder.name.removesuffix('-runs')}.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        kept = {entry["run"]: entry["found"] for entry in map(json.loads, lines)}
        there = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
        for run in kept.keys() - there.keys():
            write(folder / f"{run}.json", json.dumps(kept[run]))
        every = {**kept, **there}
        if every != kept:
            write(file, "".join(json.dumps({"run": run, "found": every[run]}) + "\n" for run in sorted(every)))
        print(f"{file.name}: {len(every)} runs, {len(every) - len(kept)} new, {len(every) - len(there)} laid out")


def folder_of(file: Path) -> Path:
    """Where an experiment looks for the runs of a file."""
    paper, _, name = file.stem.partition("-")
    return RUNS / paper / f"{name}-runs"


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
