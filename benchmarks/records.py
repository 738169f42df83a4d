"""The small JSON files in `results/`: what was measured, by which command, with which versions and when.

Runs are added one at a time, so that an interrupted benchmark goes on where it was.
"""

import datetime
import json
import os
import platform
import re
import tempfile
from pathlib import Path
from typing import Any

import jax

import engrax as ex

ROOT = Path(__file__).resolve().parent.parent


def load(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The report in `path`, or an empty one where there is none or it was made with other settings."""
    report = json.loads(path.read_text()) if path.exists() else {}
    return report if report.get("settings") == settings else {"settings": settings, "runs": {}}


def add(path: Path, settings: dict[str, Any], what: str, command: str, group: str, name: str, found: Any) -> None:
    """Put one run into the report in `path`, which another process may have lengthened meanwhile."""
    report = load(path, settings)
    report["runs"].setdefault(group, {})[name] = found
    save(path, {**origin(what, command), **report, **origin(what, command)})


def origin(what: str, command: str) -> dict[str, Any]:
    """What a report says of itself."""
    return {
        "what": what,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "versions": {"engrax": ex.__version__, "jax": jax.__version__, "python": platform.python_version()},
    }


def save(path: Path, report: dict[str, Any]) -> None:
    """Write the report so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        # Curves on a line each.
        text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(report, indent=1))
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
