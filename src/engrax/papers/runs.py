"""One network of a recipe, trained once and remembered, so that an interrupted experiment goes on with the next."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from ..meter import Bill
from ..network import Network
from ..training import evaluate
from ..training.block import begin, one_of
from ..training.build import build
from ..training.recipe import Recipe, load
from ..training.store import dumps, read_json, write_json
from ..training.stored import write_recipe


def frozen(recipe: str) -> tuple[str, ...]:
    """What keeps all projections of a recipe but those onto its readouts as they were drawn."""
    section = load(recipe).network
    outputs = set(section.outputs.values()) if isinstance(section.outputs, dict) else {section.outputs}
    kept = [p for p in section.projections if p.post not in outputs]
    return tuple(f"network.projections.{p.pre}->{p.post}.trainable=false" for p in kept)


def run_once(
    recipe: str | Recipe,
    changes: Sequence[str],
    seed: int,
    folder: Path,
    say: Callable[[str], None],
    untrained: bool = False,
    rule: str | None = None,
    look: Callable[[Network], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The figures of one training: those of `Run.summary`, `final_validation_...`, "curve": steps and validation, and
    "operations" of a mean test trial, of the network and of an equally wide LSTM ("ac", "mac", "update").

    Args:
        recipe, changes, rule: what to train; see `recipe.load`. A `Recipe` is trained as it is.
        seed: draws weights, feedback and trials, with the recipe's own seed.
        folder: where finished trainings are remembered, and unfinished ones go on, in folders that `load_run` reads.
        say: told what is done.
        untrained: also measure the network before training, as `untrained_loss` or `untrained_accuracy`.
        look: told the trained network, it names further figures.
    """
    chosen = load(recipe, changes, rule) if isinstance(recipe, str) else recipe
    label = recipe.rpartition("/")[2] if isinstance(recipe, str) else recipe.task.name
    settings = chosen.model_dump(exclude_none=True, exclude={"description", "expect"})
    name = hashlib.sha256(dumps([settings, seed, untrained]).encode()).hexdigest()[:12]
    path = folder / f"{label}-{seed}-{name}.json"
    if path.is_file():
        known: dict[str, Any] = read_json(path)
        say(f"{path.stem}: already there")
        return known
    (folder / path.stem).mkdir(parents=True, exist_ok=True)
    built = build(chosen)
    key = jax.random.fold_in(jax.random.key(built.training.seed), seed)
    metric = built.task.metric
    before = {}
    if untrained:
        nets, _ = begin(built.net, jax.random.split(key, 1), built.rule, built.optimizer, True)
        before = {f"untrained_{metric}": evaluate(one_of(nets, 0, True), built.task)[metric]}
    write_recipe(folder / path.stem, chosen, resume=True)
    run = built.fit(seeds=1, key=key, out=folder / path.stem, resume=True)
    if run.interrupted:
        raise KeyboardInterrupt
    last = {f"final_{name}": value for name, value in run.history[-1].items() if name.startswith("validation_")}
    curve = [[entry["step"], entry[f"validation_{metric}"]] for entry in run.history]
    more = {} if look is None else look(run.network)
    more |= {"curve": curve, "seed": seed, "recipe": settings, "operations": _operations(run.energy)}
    found = json.loads(dumps({**run.summary(), **before, **last, **more}))
    write_json(path, found)
    say(f"{path.stem}: test {metric} {found[f'test_{metric}']:.4f}, {found['seconds']:.0f} s")
    return found


def _operations(energy: Bill) -> dict[str, dict[str, float]]:
    return {
        name: {"ac": item.ac, "mac": item.mac, "update": item.update}
        for name, item in (("network", energy.total), ("lstm", energy.lstm))
    }
