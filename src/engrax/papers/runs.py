"""Networks of a recipe, trained once and remembered, so that an interrupted experiment goes on with the next.

`run_once` trains one, `run_seeds` several in one program, which costs little more than one where networks are small.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ..meter import Bill
from ..network import Network
from ..training import evaluate
from ..training.block import begin, one_of
from ..training.build import Built, build
from ..training.recipe import Recipe, load
from ..training.run import Run
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
    path = _remembered(chosen, recipe, [seed, untrained], str(seed), folder)
    if path.is_file():
        known: dict[str, Any] = read_json(path)
        say(f"{path.stem}: already there")
        return known
    built = build(chosen)
    key = jax.random.fold_in(jax.random.key(built.training.seed), seed)
    metric = built.task.metric
    before = {}
    if untrained:
        nets, _ = begin(built.net, jax.random.split(key, 1), built.rule, built.optimizer, True)
        before = {f"untrained_{metric}": evaluate(one_of(nets, 0, True), built.task)[metric]}
    run = _trained(built, chosen, folder / path.stem, seeds=1, key=key)
    last = {f"final_{name}": value for name, value in run.history[-1].items() if name.startswith("validation_")}
    curve = [[entry["step"], entry[f"validation_{metric}"]] for entry in run.history]
    more = {} if look is None else look(run.network)
    more |= {"curve": curve, "seed": seed, "recipe": _settings(chosen), "operations": _operations(run.energy)}
    found = json.loads(dumps({**run.summary(), **before, **last, **more}))
    write_json(path, found)
    say(f"{path.stem}: test {metric} {found[f'test_{metric}']:.4f}, {found['seconds']:.0f} s")
    return found


def run_seeds(recipe: Recipe, seeds: Sequence[int], folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Figures of a training of each seed: metric on test and (at its best) on validation trials, "firing_rate_hz",
    "curve", "seed", "recipe", and its share of the "seconds"; "operations", as of `run_once`, are the mean of all that
    were trained together. Those that `folder` does not remember are trained in one program.
    """
    paths = {seed: _remembered(recipe, recipe, [seed, "together"], str(seed), folder) for seed in seeds}
    if missing := [seed for seed, path in paths.items() if not path.is_file()]:
        name = "-".join(map(str, missing))
        run = _trained(
            build(recipe), recipe, _remembered(recipe, recipe, missing, name, folder).with_suffix(""), missing
        )
        test, validation, metric = run.test[run.metric], run.validation, run.metric
        rate, seconds = run.test.get("firing_rate_hz"), run.seconds / len(missing)
        per_seed = f"validation_{metric}_per_seed" if len(missing) > 1 else f"validation_{metric}"
        for i, seed in enumerate(missing):
            found = {
                f"test_{metric}": test[i],
                f"validation_{metric}": validation[i],
                "firing_rate_hz": None if rate is None else rate[i],
                "curve": [[entry["step"], np.atleast_1d(entry[per_seed])[i]] for entry in run.history],
                "seed": seed,
                "recipe": _settings(recipe),
                "operations": _operations(run.energy),
                "seconds": round(seconds, 2),
            }
            write_json(paths[seed], json.loads(dumps(found)))
            say(f"{paths[seed].stem}: test {metric} {float(test[i]):.4f}, {seconds:.0f} s")
    return [read_json(paths[seed]) for seed in seeds]


def _settings(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(exclude_none=True, exclude={"description", "expect"})


def _remembered(chosen: Recipe, recipe: str | Recipe, more: list[Any], seeds: str, folder: Path) -> Path:
    """Where a training's figures are, or will be."""
    label = recipe.rpartition("/")[2] if isinstance(recipe, str) else recipe.task.name
    name = hashlib.sha256(dumps([_settings(chosen), *more]).encode()).hexdigest()[:12]
    return folder / f"{label}-{seeds}-{name}.json"


def _trained(
    built: Built, recipe: Recipe, folder: Path, seeds: int | Sequence[int], key: PRNGKeyArray | None = None
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(folder, recipe, resume=True)
    key = jax.random.key(built.training.seed) if key is None else key
    run = built.fit(seeds=seeds, key=key, out=folder, resume=True)
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def _operations(energy: Bill) -> dict[str, dict[str, float]]:
    return {
        name: {"ac": item.ac, "mac": item.mac, "update": item.update}
        for name, item in (("network", energy.total), ("lstm", energy.lstm))
    }
