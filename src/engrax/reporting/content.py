"""What a report shows, from a run in memory or on disk; the same for both."""

import dataclasses
from typing import Any

import numpy as np

from ..meter import Bill
from ..network import Network
from ..tasks import Task
from ..training import Run
from ..training.evaluate import meter
from ..training.stored import Stored, versions


@dataclasses.dataclass(frozen=True)
class Content:
    """A run as a reader sees it.

    title: what it is.
    facts: headline figures, name and text.
    metric: "accuracy", "loss" or "return".
    steps: steps at which it was validated.
    validation: the metric then, (validations, seeds).
    loss: mean training loss since the validation before, (validations,).
    network: the best network; task: what it was trained on.
    energy: the bill of a mean test trial.
    recipe: the resolved recipe, or None for a run made in Python.
    versions: of what computed it.
    """

    title: str
    facts: list[tuple[str, str]]
    metric: str
    steps: list[int]
    validation: np.ndarray
    loss: np.ndarray
    network: Network
    task: Task
    energy: Bill
    recipe: dict[str, Any] | None
    versions: dict[str, str]


def from_run(run: Run, recipe: dict[str, Any] | None = None, title: str | None = None) -> Content:
    """The content of a run that is still in memory."""
    return _content(
        title or type(run.task).__name__, run.network, run.task, run.energy, run.history, run.summary(), recipe
    )


def from_stored(stored: Stored, history: list[dict[str, Any]]) -> Content:
    """The content of a run's folder; its test trials are measured again for the bill."""
    many = stored.networks is not None
    nets = stored.networks if stored.networks is not None else stored.network
    _, bill = meter(nets, stored.built.task, "test", stored.built.training.batch, many, stored.built.rule)
    recipe = stored.recipe.model_dump(exclude_none=True)
    title = f"{stored.recipe.task.name} by {stored.recipe.rule.name}"
    return _content(title, stored.network, stored.built.task, bill, history, stored.result, recipe)


def _content(
    title: str,
    network: Network,
    task: Task,
    energy: Bill,
    history: list[dict[str, Any]],
    figures: dict[str, Any],
    recipe: dict[str, Any] | None,
) -> Content:
    metric = task.metric
    name = f"validation_{metric}"
    validation = [entry.get(f"{name}_per_seed", [entry[name]]) for entry in history]
    return Content(
        title=title,
        facts=_facts(figures, metric, energy),
        metric=metric,
        steps=[entry["step"] for entry in history],
        validation=np.array(validation, float).reshape(len(history), -1),
        loss=np.array([entry["loss"] for entry in history], float),
        network=network,
        task=task,
        energy=energy,
        recipe=recipe,
        versions=versions(),
    )


def _facts(figures: dict[str, Any], metric: str, energy: Bill) -> list[tuple[str, str]]:
    from .text import joules, spread

    per_seed = figures[f"test_{metric}_per_seed"]
    facts = [(f"test {metric}", spread(per_seed, metric)), ("seeds", str(len(per_seed)))]
    if figures.get("firing_rate_hz") is not None:
        facts.append(("firing rate", f"{figures['firing_rate_hz']:.1f} Hz"))
    facts.append(("energy a trial", joules(energy.joules())))
    facts.append(("equally wide LSTM", f"{energy.ratio():.3g} ×"))
    facts.append(("steps", f"{figures['steps']:,}" + (" (interrupted)" if figures.get("interrupted") else "")))
    facts.append(("time", f"{figures['seconds']:.0f} s"))
    return facts
