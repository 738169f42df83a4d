"""A candidate: a framework in which the workloads are written as its users would write them. One file each."""

import dataclasses
from importlib.util import find_spec
from typing import ClassVar, NamedTuple

import numpy as np

from .workload import Arrays, Workload


class Variant(NamedTuple):
    """What of a candidate is timed: rule, evaluation and path ("-" where there is one only).

    Engrax's paths: "dense", all by XLA; "events", native loops; "listed", these with inputs as `ex.Events`.
    """

    rule: str = "bptt"
    evaluation: str = "-"
    path: str = "-"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one training step saw, before it moved the weights.

    loss. spikes: (time, batch, hidden) of 0 and 1. gradients: of the weights, by the names of `Arrays`, (post, pre).
    """

    loss: float
    spikes: np.ndarray
    gradients: dict[str, np.ndarray]


class Trainer:
    """One workload in one framework, ready to be trained."""

    def step(self) -> float:
        """One training step: loss, gradient, Adam. Returns the loss when all of it is done."""
        raise NotImplementedError

    def look(self) -> Seen:
        """The same loss and gradient at the first weights, with the spikes. Called once, before `step`."""
        raise NotImplementedError


class Candidate:
    """Base class. A subclass in a file of `candidates` is found by itself.

    name: how tables call it. package: what pip installs. modules: what must be importable.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]

    @classmethod
    def installed(cls) -> bool:
        """Whether it can be run here."""
        return all(find_spec(name) is not None for name in cls.modules)

    def variants(self) -> list[Variant]:
        """What it offers."""
        return [Variant()]

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        """A trainer; in double precision where the arrays are."""
        raise NotImplementedError
