"""Checkpoints: where a training stands, in one file, so that it goes on to the same bits.

A training's further course depends on its arguments and on a `Position`, and on nothing else: trials, rules and
repairs take their random numbers from the run's key and the number of the step. Files are called by that number,
`checkpoints/step-00000450.safetensors`; the newest two are kept, so that there is one to fall back to.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..errors import ArgumentError, DataError
from ..network import Network
from .store import read_arrays, read_facts, write_arrays

KEPT = 2


class Position(NamedTuple):
    """Where a training stands.

    done: steps made.
    nets, states: networks and optimiser states, with a leading axis of seeds where there are seeds.
    best, top: the best network of each seed so far, and its validation score with larger as better, (seeds,).
    losses: training losses, (steps,) or (seeds, steps); those of the first `done` steps are there.
    history: a dict for each validation.
    seconds: spent so far, in all sittings.
    """

    done: int
    nets: Network
    states: PyTree
    best: Network
    top: np.ndarray
    losses: np.ndarray
    history: list[dict[str, Any]]
    seconds: float

    def arrays(self) -> dict[str, Any]:
        """What is stored as arrays; scores and losses as they are, in NumPy's own precision."""
        numbers = {"top": self.top, "losses": self.losses}
        # 64-bit numbers pass through JAX as pairs of 32 bits whatever its precision.
        bits = {n: jnp.asarray(np.ascontiguousarray(x, np.float64).view(np.uint32)) for n, x in numbers.items()}
        return {"nets": self.nets, "states": self.states, "best": self.best, **bits}


def folder_of(out: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return out / "checkpoints"


def save(out: Path, position: Position, settings: Mapping[str, Any]) -> Path:
    """Write a checkpoint and remove those that are no longer needed.

    Args:
        out: the run's folder.
        position: what to write.
        settings: the arguments that must be the same when the run goes on.
    """
    folder = folder_of(out)
    folder.mkdir(exist_ok=True)
    for half in folder.glob(".step-*"):  # of a process that was killed as it wrote
        half.unlink(missing_ok=True)
    path = folder / f"step-{position.done:08d}.safetensors"
    facts = {"done": position.done, "history": position.history, "seconds": position.seconds, "settings": settings}
    write_arrays(path, position.arrays(), facts)
    for old in files(out)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def files(out: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder_of(out).glob("step-*.safetensors"), reverse=True)


def load(out: Path, start: Position, settings: Mapping[str, Any], say: Callable[[str], None]) -> Position | None:
    """The newest position that can be read; None where there is no checkpoint.

    Args:
        out: the run's folder.
        start: the run's first position, whose arrays have the shapes to expect.
        settings: the arguments that must be those of the checkpoint.
        say: told why a file was passed over.

    Raises:
        ArgumentError: the checkpoint belongs to a run with other arguments; the message names the first.
        DataError: there are checkpoints, and none can be read.
    """
    found = files(out)
    for path in found:
        try:
            facts = read_facts(path)
        except DataError as error:
            say(f"{error} Trying the checkpoint before it.")
            continue
        _same(path, facts.get("settings"), settings)
        try:
            return _position(read_arrays(path, start.arrays())[0], facts)
        except (DataError, KeyError, TypeError, AttributeError) as error:
            say(f"{path} is not a checkpoint of this run ({error}). Trying the one before it.")
    if found:
        raise DataError(f"none of the {len(found)} checkpoints in {folder_of(out)} can be read; start anew elsewhere.")
    return None


def _same(path: Path, theirs: Any, ours: Mapping[str, Any]) -> None:
    theirs = theirs if isinstance(theirs, dict) else {}
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ArgumentError(
                f"{name}: the run in {path.parent.parent} was made with {theirs.get(name)}, and cannot go on with "
                f"{value}. Give the same arguments, or another folder."
            )


def _position(arrays: dict[str, Any], facts: Mapping[str, Any]) -> Position:
    numbers = {n: np.array(arrays[n]).view(np.float64) for n in ("top", "losses")}
    return Position(
        done=int(facts["done"]),
        nets=arrays["nets"],
        states=arrays["states"],
        best=arrays["best"],
        top=numbers["top"],
        losses=numbers["losses"],
        history=list(facts["history"]),
        seconds=float(facts["seconds"]),
    )
