"""Recipes: a whole training in one TOML file. Read here, overridden by dotted path, checked; `build` makes its parts.

What a section may hold is written down as a model below; options of neurons, projections, rules and tasks are those
of their own constructors, and are checked against them when they are built.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import RecipeError, nearest, unknown

Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Open(_Section):
    """A section that takes further options: those of what it names."""

    model_config = ConfigDict(strict=True, extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class TaskSection(_Open):
    """[task]: a task's name and its settings."""

    name: str


class PopulationSection(_Open):
    """[network.populations.NAME]: a neuron model, its size (a number, or "output" for the task's), its parameters."""

    model: str
    size: Count | Literal["output"]


class ProjectionSection(_Open):
    """[[network.projections]]: ends, kind, and the options of that kind."""

    pre: str
    post: str
    kind: Literal[
        "dense",
        "masked",
        "signed",
        "rewired",
        "quantised",
        "quantised_masked",
        "quantised_signed",
        "quantised_rewired",
        "straight_through",
        "convolution",
        "average_pool",
        "delayed",
        "axon_delayed",
    ] = "dense"


class NetworkSection(_Section):
    """[network]: populations, projections and outputs. inputs and dt are the task's unless given."""

    populations: dict[str, PopulationSection]
    projections: list[ProjectionSection]
    outputs: str | dict[str, str]
    inputs: dict[str, Count] | None = None
    dt: Annotated[float, Field(gt=0)] | None = None


class RuleSection(_Open):
    """[rule]: a rule's name and options."""

    name: str


class AgentSection(_Open):
    """[agent]: arguments of `engrax.rl.ActorCritic`, for recipes whose task is an environment."""


class OptimizerSection(_Open):
    """[optimizer]: arguments of `engrax.optim.get`."""

    name: str
    learning_rate: Annotated[float, Field(gt=0)]


class TrainingSection(_Section):
    """[training]: arguments of `engrax.fit`; `seed` makes its key."""

    steps: Count
    batch: Count = 64
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    seeds: Count | None = None
    update_every: Count | None = None
    validate_every: Count | None = None
    until: float | None = None


class Recipe(_Section):
    """A recipe, read and checked. `expect` says in words what it should reach, and how long it takes."""

    description: str
    expect: str = ""
    task: TaskSection
    network: NetworkSection
    rule: RuleSection
    agent: AgentSection | None = None
    optimizer: OptimizerSection
    training: TrainingSection


_CLOSED: dict[str, type[BaseModel]] = {"": Recipe, "network": NetworkSection, "training": TrainingSection}
FOLDER = resources.files("engrax") / "recipes"


def names() -> tuple[str, ...]:
    """The recipes that come with Engrax; those of one paper in a folder, as "yin2021/ecg"."""
    return tuple(sorted(_within(FOLDER, "")))


def _within(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _within(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".toml"):
            yield prefix + entry.name.removesuffix(".toml")


def load(recipe: str, overrides: Iterable[str] = (), rule: str | None = None) -> Recipe:
    """Read a recipe.

    Args:
        recipe: the name of one that comes with Engrax, without its folder where no other has it; or the path of a
            .toml file.
        overrides: "dotted.path=VALUE"; the value is read as TOML, or else as plain text.
        rule: replaces the recipe's rule; options that the new one does not have are dropped.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key (with its path and the nearest one), a wrong value.
    """
    content = _read(recipe)
    if rule is not None:
        _replace_rule(content, rule)
    for override in overrides:
        _override(content, override)
    return parse(content)


def parse(content: Mapping[str, Any]) -> Recipe:
    """A recipe from nested dicts.

    Raises:
        RecipeError: as for `load`.
    """
    try:
        return Recipe.model_validate(dict(content))
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(e) for e in error.errors())) from None


def _read(recipe: str) -> dict[str, Any]:
    path = Path(recipe).expanduser()
    if path.suffix == ".toml":
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {path}.")
        source: Any = path
    else:
        known = names()
        fitting = [name for name in known if name == recipe] or [n for n in known if n.rpartition("/")[2] == recipe]
        if len(fitting) != 1:
            raise unknown("recipe", recipe, (*(fitting or known), "a path that ends in .toml"), RecipeError)
        source = FOLDER / f"{fitting[0]}.toml"
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{source} cannot be read as TOML: {error}.") from error


def _replace_rule(content: dict[str, Any], rule: str) -> None:
    from .build import parameters, rule_class

    known = parameters(rule_class(rule, "--rule"))
    old = content.get("rule", {})
    kept = {k: v for k, v in old.items() if k in known} if isinstance(old, dict) else {}
    content["rule"] = {**kept, "name": rule}


def _override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not path:
        raise RecipeError(f"--set {override!r}: write it as --set dotted.path=VALUE, such as --set training.steps=500.")
    *sections, last = path.split(".")
    place: Any = content
    for i, section in enumerate(sections):
        where = ".".join(sections[: i + 1])
        place = _enter(place, section, where, override)
    if isinstance(place, list):
        place[_index(place, last, path)] = value_of(text)
    else:
        place[last] = value_of(text)


def _enter(place: Any, section: str, where: str, override: str) -> Any:
    if isinstance(place, list):
        place = place[_index(place, section, where)]
    else:
        place = place.setdefault(section, {})
    if not isinstance(place, dict | list):
        raise RecipeError(f"--set {override!r}: {where} is {place!r}, not a table with keys of its own.")
    return place


def _index(items: list[Any], word: str, where: str) -> int:
    """A place in a list of tables: its number, or for a projection "pre->post"."""
    labels = [f"{i.get('pre')}->{i.get('post')}" if isinstance(i, dict) and "pre" in i else "" for i in items]
    if word in labels:
        return labels.index(word)
    if word.isdigit() and int(word) < len(items):
        return int(word)
    raise no_such(where, "entry", word, [label or str(i) for i, label in enumerate(labels)])


def value_of(text: str) -> Any:
    """What a `--set` value means: TOML where it is TOML, else the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    return parsed["value"] if len(parsed) == 1 else text.strip()


def no_such(path: str, what: str, name: object, known: Iterable[str]) -> RecipeError:
    """The error for a name that does not exist, with its path in the recipe and the nearest that does."""
    return RecipeError(f"{path}: unknown {what} {name!r}.{nearest(name, known)}")


def _explain(error: Any) -> str:
    *parents, key = [str(part) for part in error["loc"]]
    section = ".".join(parents)
    path = ".".join((*parents, key))
    if error["type"] == "extra_forbidden" and section in _CLOSED:
        return f"{path}: unknown key.{nearest(key, _CLOSED[section].model_fields)}"
    if error["type"] == "missing":
        return f"{path}: is missing; write it in the recipe, or --set {path}=VALUE."
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}."
