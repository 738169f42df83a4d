"""The commands put together, and the one way in which all of them fail.

Exit codes: 0 it worked, 1 it failed, 2 it was asked for wrongly. An error is one message on standard error.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from .. import __version__
from ..errors import ArgumentError, EngraxError

app = typer.Typer(
    name="engrax",
    help="Learning in recurrent networks: any rule, on any network, on any task.",
    epilog="Example: engrax train digits --rule bptt",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool | None) -> None:
    if asked:
        typer.echo(f"engrax {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = None,
) -> None:
    pass


@contextmanager
def failing(wrong: tuple[type[Exception], ...] = (ArgumentError,)) -> Iterator[None]:
    """Turn errors into one message and an exit code: 2 for those in `wrong`, 1 for all others.

    ENGRAX_TRACEBACK=1 in the environment lets them through, for whoever looks for a bug.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if os.environ.get("ENGRAX_TRACEBACK") == "1":
            raise
        expected = isinstance(error, EngraxError)
        message = str(error) if expected else f"{type(error).__name__}: {error} (ENGRAX_TRACEBACK=1 shows where)"
        typer.echo(f"engrax: error: {message}", err=True)
        raise typer.Exit(2 if isinstance(error, wrong) else 1) from None


def main() -> None:
    """The console entry point."""
    app()


from . import (  # noqa: E402  (they register themselves)
    bench,  # noqa: F401
    catalogue,  # noqa: F401
    compare,  # noqa: F401
    doctor,  # noqa: F401
    energy,  # noqa: F401
    evaluate,  # noqa: F401
    papers,  # noqa: F401
    plan,  # noqa: F401
    play,  # noqa: F401
    report,  # noqa: F401
    train,  # noqa: F401
)
