"""`engrax bench`: what a training step costs on this machine, beside the peers that are installed."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app, failing
from .evaluate import Json


@app.command(epilog="Example: engrax bench W1 --candidates engrax,pytorch")
def bench(
    workload: Annotated[str | None, typer.Argument(help="W1, W2 or W3. Left out: all.")] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Only these frameworks, with commas between. Left out: all that are installed.")
    ] = None,
    rules: Annotated[str | None, typer.Option(help="Only these rules, with commas between. Left out: all.")] = None,
    evaluations: Annotated[
        str | None, typer.Option(help="Only these of a rule's evaluations, with commas between. Left out: all.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps of each.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use. Left out: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures to this JSON file.")] = None,
    as_json: Json = False,
) -> None:
    """Time a training step of the WORKLOADs in Engrax and in every peer that is installed, in turn, in one run.

    Each computes the same spikes, which is checked first. Let nothing else run meanwhile.
    """
    with failing():
        from ..bench.race import entrants, race
        from ..bench.workload import WORKLOADS
        from ..training.store import dumps, write_json

        cores = _cores()
        wanted = [_known("workload", workload.upper(), WORKLOADS)] if workload else list(WORKLOADS)
        chosen, missing = entrants(
            _candidates(candidates), _variants("rule", rules, 0), _variants("evaluation", evaluations, 1)
        )
        if missing:
            typer.echo(f"not installed, so left out: {', '.join(missing)} (pip install them beside Engrax)", err=True)
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        if busy > 0.5:
            typer.echo(f"the machine is at work (load {busy:.1f}): the figures will be too high", err=True)
        rows: list[dict[str, Any]] = []
        for name in wanted:
            found, failures = race(name, chosen, lambda text: typer.echo(text, err=True), repeats, threads or cores)
            rows += found
            for failure in failures:
                typer.echo(f"failed: {failure}", err=True)
            if out is not None:
                write_json(out, {**_origin(chosen), "rows": rows})
            if not as_json:
                _print(str(WORKLOADS[name]), found)
        if as_json:
            typer.echo(dumps(rows))
        if not rows:
            raise typer.Exit(1)


def _known(what: str, name: str, known: Any) -> str:
    from ..errors import unknown

    if name not in known:
        raise unknown(what, name, known)
    return name


def _candidates(text: str | None) -> list[str] | None:
    from ..bench.candidates import CANDIDATES

    return None if text is None else [_known("candidate", name.strip(), CANDIDATES) for name in text.split(",")]


def _variants(what: str, text: str | None, place: int) -> list[str] | None:
    """Words for one field of a variant, each of which some candidate must offer."""
    from ..bench.candidates import CANDIDATES

    known = sorted({variant[place] for candidate in CANDIDATES.values() for variant in candidate().variants()})
    return None if text is None else [_known(what, name.strip(), known) for name in text.split(",")]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _origin(chosen: list[Any]) -> dict[str, Any]:
    """What the file says of itself: command, date, machine, versions."""
    import datetime
    import platform
    from importlib.metadata import version

    from .. import __version__
    from ..bench.candidates import CANDIDATES

    packages = sorted({"jax", *(CANDIDATES[name].package for name, _ in chosen)} - {"engrax"})
    return {
        "what": "seconds and memory of a training step; ratios hold, seconds drift between machines",
        "command": f"engrax {' '.join(sys.argv[1:])}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{_cores()} cores, {platform.machine()}",
        "versions": {
            "engrax": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    from .tables import show, table

    peers = [row["seconds"] for row in rows if row["candidate"] != "engrax"]
    made = table(title, "candidate", "rule", "seconds a step", "to fastest peer", "compiling", "memory")
    for row in rows:
        rule = " ".join(x for x in (row["rule"], row["evaluation"], row["path"]) if x != "-")
        ratio = f"{row['seconds'] / min(peers):.2f}" if peers else "-"
        memory = "-" if row["step_mb"] is None else f"{row['step_mb']:.0f} MB"
        compiling = "-" if row["compile_seconds"] is None else f"{row['compile_seconds']:.1f} s"
        made.add_row(row["candidate"], rule, f"{row['seconds']:.3f}", ratio, compiling, memory)
    show(made)
