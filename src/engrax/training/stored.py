"""A run's folder as it lies on disk: the recipe it was made by, and the network it left."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import ArgumentError, DataError
from ..network import Network
from .build import Built, build
from .recipe import Recipe, parse
from .store import read_arrays, read_json, write_json

FILE = "recipe.json"


class Stored(NamedTuple):
    """A run read back.

    recipe, built: its recipe, and the parts that the recipe makes.
    network: its best network.
    networks: every seed's, arrays stacked along a leading axis; None without seeds.
    result: its figures, as `Run.summary` gives them.
    """

    folder: Path
    recipe: Recipe
    built: Built
    network: Network
    networks: Network | None
    result: dict[str, Any]


# What a recipe says of itself, which may be corrected while a run of it goes on.
WORDS = {"description", "expect"}


def write_recipe(folder: Path, recipe: Recipe, resume: bool = False) -> None:
    """Write the resolved recipe, and the versions of what runs it, into a run's folder.

    Raises:
        ArgumentError: with `resume`, the folder holds another recipe; the message names the first key that differs.
    """
    ours = recipe.model_dump(exclude_none=True)
    path = folder / FILE
    if resume and path.exists():
        theirs, told = (x.model_dump(exclude_none=True, exclude=WORDS) for x in (read_recipe(folder), recipe))
        for key, (old, new) in _differences(theirs, told):
            raise ArgumentError(
                f"{key}: the run in {folder} was made with {old!r}, and cannot go on with {new!r}. "
                "Give the same recipe and settings, or another folder."
            )
    write_json(path, {"recipe": ours, "versions": versions()})


def versions() -> dict[str, str]:
    """Versions of Engrax and of what it computes with."""
    from .. import __version__

    used = {name: version(name) for name in ("jax", "jaxlib", "equinox", "optax", "numpy")}
    return {"engrax": __version__, **used, "python": platform.python_version()}


def read_recipe(folder: Path) -> Recipe:
    """The recipe in a run's folder.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    if not (folder / FILE).is_file():
        raise DataError(
            f"{folder} holds no run of `engrax train` ({FILE} is missing). Give the folder that --out named."
        )
    content = read_json(folder / FILE)
    if not isinstance(content, dict) or not isinstance(content.get("recipe"), dict):
        raise DataError(f"{folder / FILE} holds no recipe.")
    try:
        return parse(content["recipe"])
    except ArgumentError as error:
        raise DataError(f"{folder / FILE} holds no recipe that this version can read: {error}") from error


def load_run(run: str | os.PathLike[str]) -> Stored:
    """Read a run's folder back.

    Raises:
        DataError: it holds no finished run, or one of its files cannot be read.
        RecipeError: its recipe names something that this version does not have.
    """
    folder = Path(run).expanduser()
    recipe = read_recipe(folder)
    if not (folder / "network.safetensors").is_file():
        raise DataError(f"the run in {folder} has no network yet: let it finish (`engrax train ... --resume`).")
    built = build(recipe)
    bound = built.rule.bind(built.net, jax.random.key(0))
    network, _ = read_arrays(folder / "network.safetensors", bound)
    networks = None
    if (count := recipe.training.seeds) is not None:
        many = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)) if eqx.is_array(x) else x, bound)
        networks, _ = read_arrays(folder / "networks.safetensors", many)
    result = read_json(folder / "result.json")
    if not isinstance(result, dict):
        raise DataError(f"{folder / 'result.json'} holds no figures.")
    return Stored(folder, recipe, built, network, networks, result)


def _differences(old: Any, new: Any, path: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    """Where two trees of plain values differ, by dotted path."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in {**old, **new}:
            at = f"{path}.{key}" if path else key
            found += _differences(old.get(key), new.get(key), at)
        return found
    return [] if old == new else [(path, (old, new))]
