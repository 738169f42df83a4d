"""What a training leaves: networks, figures, and how it went."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ..meter import PRICES, Bill
from ..network import Network
from ..rules import Rule
from ..tasks import Task
from ..tasks.task import direction
from .block import one_of


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished (or interrupted) training, as `fit` returns it.

    Attributes:
        network: the network that was best on validation trials, over its training and over seeds.
        networks: every seed's best network, arrays stacked along a leading axis; None without seeds.
        task: the task it was trained on.
        rule: the rule it was trained by.
        history: one dict a validation: step, seconds, loss (mean since the last one), validation figures.
        losses: the training loss of every step, regularisers included, (steps,) or (seeds, steps).
        test: test figures, (seeds,) arrays by name: the metric, the task's further ones, "firing_rate_hz",
            "energy_joules".
        energy: the bill of a mean test trial, mean over seeds.
        validation: the metric on validation trials at each seed's best, (seeds,).
        steps: optimiser steps made.
        seconds: duration, compilation included.
        interrupted: whether Ctrl-C ended it.
        out: folder of its files, or None.
    """

    network: Network
    networks: Network | None
    task: Task
    rule: Rule
    history: list[dict[str, Any]]
    losses: np.ndarray
    test: dict[str, np.ndarray]
    energy: Bill
    validation: np.ndarray
    steps: int
    seconds: float
    interrupted: bool = False
    out: Path | None = None

    @property
    def metric(self) -> str:
        """ "accuracy" or "return" (higher is better), or "loss"."""
        return self.task.metric

    @property
    def test_accuracy(self) -> float | None:
        """Mean over seeds; None where the task's metric is another."""
        return float(np.mean(self.test["accuracy"])) if self.metric == "accuracy" else None

    @property
    def test_accuracy_per_seed(self) -> list[float] | None:
        """One figure a seed; None where the task's metric is another."""
        return self.test["accuracy"].tolist() if self.metric == "accuracy" else None

    @property
    def test_loss(self) -> float | None:
        """Mean over seeds; None where the task's metric is another."""
        return float(np.mean(self.test["loss"])) if self.metric == "loss" else None

    @property
    def test_return(self) -> float | None:
        """Mean over seeds; None where the task is no environment."""
        return float(np.mean(self.test["return"])) if self.metric == "return" else None

    @property
    def final_loss(self) -> float | None:
        """Training loss of the last step, mean over seeds; None before the first step."""
        return float(np.mean(self.losses[..., -1])) if self.losses.size else None

    @property
    def firing_rate_hz(self) -> float | None:
        """Mean rate of spiking units on test trials, mean over seeds; None where no unit spikes."""
        rate = self.test.get("firing_rate_hz")
        return None if rate is None else float(np.mean(rate))

    def summary(self) -> dict[str, Any]:
        """The figures as plain numbers, as `engrax train --json` prints them."""
        metric = self.metric
        named = (metric, "firing_rate_hz", "energy_joules")
        further = {name: float(np.mean(v)) for name, v in self.test.items() if name not in named}
        return {
            f"test_{metric}": float(np.mean(self.test[metric])),
            f"test_{metric}_per_seed": self.test[metric].tolist(),
            f"validation_{metric}": float(np.mean(self.validation)),
            "final_loss": self.final_loss,
            "firing_rate_hz": self.firing_rate_hz,
            "energy_joules": self.energy.joules(),
            "energy_joules_int32": self.energy.joules("int32"),
            "lstm_energy_joules": self.energy.lstm.joules(PRICES["float32"]),
            **{f"test_{name}": value for name, value in further.items()},
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
            "interrupted": self.interrupted,
            "run": None if self.out is None else str(self.out),
        }


def finished(*, nets: Network, task: Task, validation: np.ndarray, many: bool, **rest: Any) -> Run:
    """The run, its best network picked on validation trials."""
    # Where nothing was validated every seed is as good.
    pick = int(np.argmax(direction(task.metric) * validation))
    network = one_of(nets, pick, many)
    return Run(network=network, networks=nets if many else None, task=task, validation=validation, **rest)
