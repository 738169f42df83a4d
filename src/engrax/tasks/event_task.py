"""Tasks on recorded events (who, when), one class for each recording. Events stay a list until a batch is binned."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt

from ..encoders import EventBins
from ..errors import DataError, TaskError
from ..trial import Trial
from .scoring import Decisions, trial_accuracy, trial_decisions
from .settings import held_out
from .stored import StoredTask
from .task import Split


class EventFile(NamedTuple):
    """Recordings: the bin and the unit of every event, one recording after another; events, class and who of each."""

    steps: np.ndarray
    units: np.ndarray
    counts: np.ndarray
    labels: np.ndarray
    who: np.ndarray


class EventTask(StoredTask):
    """Base class of tasks on recorded events. A subclass reads `EventFile`s, says which recordings are whose, and
    defines `output_size`.

    Fields:
        rows: for each split, the numbers of its recordings.
        at, units: (events,) bin and unit of each event of all recordings.
        start, events, labels: (recordings,) where a recording's events begin, how many there are, its class.
        bins: steps of a trial. channels: its units. longest: events of the richest recording.
        binary: whether several events of a unit in one bin count as one.
        dt: length of a bin, in the unit of the network's time constants.

    Raises:
        TaskError: more than 65536 bins or channels, which no event could name in two bytes.
        DataError: events outside them, counts that are not those of the events, or more events than 2^31.
    """

    rows: dict[str, PyTree[Array]]
    at: UInt[Array, " events"]
    units: UInt[Array, " events"]
    start: Int[Array, " recordings"]
    events: Int[Array, " recordings"]
    labels: Int[Array, " recordings"]
    bins: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)
    binary: bool = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(
        self,
        file: EventFile,
        members: dict[Split, np.ndarray],
        bins: int,
        channels: int,
        binary: bool,
        dt: float,
    ) -> None:
        _check(file, bins, channels)
        self.rows = {split: jnp.asarray(index, jnp.int32) for split, index in members.items()}
        # One place at least, so that recordings without an event have something to point at.
        at, units = (x if len(x) else np.zeros(1) for x in (file.steps, file.units))
        self.at, self.units = jnp.asarray(at, jnp.uint16), jnp.asarray(units, jnp.uint16)
        self.start = jnp.asarray(np.cumsum(file.counts) - file.counts, jnp.int32)
        self.events, self.labels = jnp.asarray(file.counts, jnp.int32), jnp.asarray(file.labels, jnp.int32)
        self.bins, self.channels, self.binary, self.dt = bins, channels, binary, dt
        self.longest = max(1, int(file.counts.max()))

    @property
    def input_size(self) -> int:
        return self.channels

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """Number of classes."""

    def present(self, rows: PyTree[Array]) -> Trial:
        number = jnp.arange(self.longest, dtype=jnp.int32)[:, None]
        there = number < self.events[rows][None]
        place = jnp.where(there, self.start[rows][None] + number, 0)
        when = jnp.where(there, self.at[place].astype(jnp.int32), self.bins)
        binned = EventBins(1.0, self.bins, self.channels, binary=self.binary)
        return Trial(binned(when, self.units[place].astype(jnp.int32)), self.labels[rows])

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of recordings named rightly by the mean of the outputs over time."""
        return trial_accuracy(outputs, trial.targets, trial.valid())

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One a recording."""
        return trial_decisions(outputs, trial.targets, trial.valid())


def _check(file: EventFile, bins: int, channels: int) -> None:
    if max(bins, channels) > 2**16:
        raise TaskError(f"events have at most {2**16} bins and channels, got {bins} and {channels}.")
    total = len(file.steps)
    if len(file.units) != total or file.counts.sum() != total or len(file.counts) != len(file.labels):
        raise DataError(f"{total} bins, {len(file.units)} units and counts of {file.counts.sum()} events do not agree.")
    if total and (file.steps.max() >= bins or file.units.max() >= channels or total >= 2**31):
        raise DataError(
            f"events must lie in {bins} bins and {channels} channels and be fewer than {2**31}; found bin "
            f"{file.steps.max()}, channel {file.units.max()}, {total} events."
        )


def joined(*files: EventFile) -> EventFile:
    """Recordings of several files, one file after another."""
    return EventFile(*(np.concatenate(parts) for parts in zip(*files, strict=True)))


def by_person(train: EventFile, test: EventFile, validation: Any, whom: str) -> dict[Split, np.ndarray]:
    """Which recordings of both files, joined, are whose, where people of the training file are held out."""
    out = np.isin(train.who, held_out(validation, train.who.tolist(), whom))
    tested = len(out) + np.arange(len(test.labels))
    return {"train": np.flatnonzero(~out), "validation": np.flatnonzero(out), "test": tested}
