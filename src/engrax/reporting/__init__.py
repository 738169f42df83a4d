"""Report pages: one self-contained HTML file that shows what a run did."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..training import Run
    from .content import Content

__all__ = ["report", "write_report"]


def report(run: Any, path: str | os.PathLike[str] | None = None) -> Path:
    """Write a run's report page.

    Args:
        run: what `ex.fit` returned, or the folder of a finished run of `engrax train`.
        path: where to write it; None: `report.html` in the run's folder.

    Returns:
        The path of the page.

    Raises:
        ArgumentError: `run` is neither, or it has no folder and `path` is not given.
        DataError: the folder holds no finished run.
    """
    from ..training import Run
    from ..training.store import read_lines
    from ..training.stored import load_run
    from .content import from_stored

    if isinstance(run, Run):
        if path is None and run.out is None:
            raise ArgumentError("path: this run has no folder; say where the page should go, such as 'report.html'.")
        return write_report(run, _target(path, run.out))
    if not isinstance(run, str | os.PathLike):
        raise ArgumentError(f"run must be what ex.fit returned, or the folder of a run, got {run!r}.")
    stored = load_run(run)
    content = from_stored(stored, read_lines(stored.folder / "metrics.jsonl"))
    return _write(content, _target(path, stored.folder))


def write_report(run: "Run", path: Path, title: str | None = None, recipe: dict[str, Any] | None = None) -> Path:
    """Write the page of a run that is in memory, with the title and the recipe that a command knows."""
    from .content import from_run

    return _write(from_run(run, recipe, title), path)


def _target(path: str | os.PathLike[str] | None, folder: Path | None) -> Path:
    target = Path(path).expanduser() if path is not None else Path(folder or ".") / "report.html"
    if target.is_dir():
        raise ArgumentError(f"path: {target} is a folder; give a file's name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"path: the folder {target.parent} cannot be made ({error.strerror}).") from error
    return target


def _write(content: "Content", path: Path) -> Path:
    from .._files import write
    from .page import page

    write(path, page(content).encode())
    return path
