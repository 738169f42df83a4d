"""`engrax papers` and `engrax reproduce`: what papers claim, what we measured, and the verdict."""

from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer

from ..errors import ArgumentError
from .app import app, failing
from .evaluate import Json


@app.command(epilog="Example: engrax papers bellec2020")
def papers(
    paper: Annotated[str | None, typer.Argument(help="Only this paper. Left out: all.")] = None,
    as_json: Json = False,
) -> None:
    """Each experiment of a PAPER: the claim, the measured value, the verdict. Shows results that come with Engrax."""
    with failing():
        from ..errors import unknown
        from ..papers import claims, committed
        from ..training.store import dumps

        if paper is not None and paper not in claims():
            raise unknown("paper", paper, claims())
        found = [result for name in ([paper] if paper else claims()) for result in committed(name)]
        if as_json:
            typer.echo(dumps(found))
            return
        _print(found)


@app.command(epilog="Example: engrax reproduce bellec2020/reference")
def reproduce(
    target: Annotated[str, typer.Argument(metavar="PAPER[/EXPERIMENT]", help="See engrax papers.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Under two minutes: a taste, with no verdict on less.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for results; an interrupted experiment goes on there.")] = Path(
        "runs/papers"
    ),
    as_json: Json = False,
) -> None:
    """Run the experiments of a PAPER anew, and write a result for each."""
    with failing():
        from ..papers import EXPERIMENTS, claim, claims
        from ..training.store import dumps, write_json

        paper, _, name = target.partition("/")
        if not name and paper not in claims():
            from ..errors import unknown

            raise unknown("paper", paper, claims())
        chosen = [key for key in EXPERIMENTS if key[0] == paper and name in ("", key[1])]
        if not chosen:
            if name:
                claim(paper, name)  # an unknown name is answered with the nearest
            raise ArgumentError(f"{target}: no experiment for this yet; engrax papers {paper} lists what there is.")
        results = []
        for key in chosen:
            typer.echo(f"{key[0]}/{key[1]}", err=True)
            folder = out / paper
            folder.mkdir(parents=True, exist_ok=True)
            result = EXPERIMENTS[key]().reproduce(quick, folder / key[1], lambda text: typer.echo(text, err=True))
            write_json(folder / f"{key[1]}{'-quick' if quick else ''}.json", result)
            results.append(result)
        if as_json:
            typer.echo(dumps(results))
            return
        _print(results)


def _print(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    for column in ("experiment", "claim", "holds if", "measured", "verdict"):
        table.add_column(column, overflow="fold")
    for result in results:
        about = [f"settings {result['settings']}"]
        if result["seeds"]:
            about.append(f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''}")
        if result["seconds"] is not None:
            about.append(f"{result['seconds']:.0f} s, {result['date']}")
        ours = "reconstructed" in result["settings"] and result["verdict"] != "untested"
        verdict = result["verdict"] + (" in our reading" if ours else "")
        measured = f"{_text(result['measured'])}{_within(result['interval'])}"
        names = f"{result['paper']}/\n{result['experiment']}"
        bar = f"{result['measure']}: {result['holds']}"
        table.add_row(names, result["claim"], bar, measured, f"{verdict}\n{result['why']}\n{'; '.join(about)}")
    Console(width=None if Console().is_terminal else 120).print(table)


def _text(x: Any) -> str:
    if isinstance(x, dict):
        return "\n".join(_under(name, value, _text(value)) for name, value in x.items())
    return "-" if x is None else f"{x:.3g}" if isinstance(x, float) else str(x)


def _within(interval: Any) -> str:
    return "" if interval is None else f"\n{_ends(interval)}"


def _ends(interval: Any) -> str:
    if isinstance(interval, dict):
        return "\n".join(_under(name, value, _ends(value)) for name, value in interval.items())
    return f"in {_text(float(interval[0]))} to {_text(float(interval[1]))}"


def _under(name: str, value: Any, text: str) -> str:
    return f"{name}:\n{indent(text, '  ')}" if isinstance(value, dict) else f"{name} {text}"
