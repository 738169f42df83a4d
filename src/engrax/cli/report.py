"""`engrax report`: a stored run as one page."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from .app import app, failing
from .evaluate import Folder, Json


@app.command(epilog="Example: engrax report runs/digits --to digits.html")
def report(
    run: Folder,
    to: Annotated[
        Path | None, typer.Option(help="Where to write it. Left out: report.html in the run's folder.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it at an address of this machine until Ctrl-C, for a browser.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="For --serve; 0 takes any that is free.")] = 8000,
    as_json: Json = False,
) -> None:
    """Write a stored RUN's report: one HTML file with curves, a trial, traces, weights, confusion and energy."""
    with failing():
        from ..reporting import report as write
        from ..training.store import dumps

        path = write(run, to)
        typer.echo(dumps({"run": run, "report": path}) if as_json else str(path))
        if serve:
            _serve(path, port)


def _serve(page: Path, port: int) -> None:
    """Answer every request on this machine with the page, and nothing else of its folder."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/"
            body = page.read_bytes() if known else b"there is one page here: /"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8" if known else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise ArgumentError(f"--port: {port} cannot be used ({error.strerror}); choose another, or 0.") from error
    with server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ until Ctrl-C", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
