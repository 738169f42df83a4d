"""`engrax report`: a stored run as one page."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, failing
from .evaluate import Folder, Json


@app.command(epilog="Example: engrax report runs/digits --to digits.html")
def report(
    run: Folder,
    to: Annotated[
        Path | None, typer.Option(help="Where to write it. Left out: report.html in the run's folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a stored RUN's report: one HTML file with curves, a trial, traces, weights, confusion and energy."""
    with failing():
        from ..reporting import report as write
        from ..training.store import dumps

        path = write(run, to)
        typer.echo(dumps({"run": run, "report": path}) if as_json else str(path))
