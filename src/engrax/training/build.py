"""From a recipe to the things it names: task, network, rule, optimiser. Errors carry the path of the key at fault."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax

from .. import losses, optim, rl, synapses, tasks
from ..errors import ArgumentError, DataError, RecipeError, nearest
from ..network import Network, trainable_leaves
from ..neurons import MODELS, Neuron, surrogates
from ..parameter import trainable
from ..rules import RULES, Rule
from .fit import fit
from .recipe import PopulationSection, Recipe, TrainingSection, no_such
from .run import Run

PROJECTIONS: dict[str, type[synapses.Projection]] = {
    "dense": synapses.Dense,
    "masked": synapses.Masked,
    "signed": synapses.Signed,
    "rewired": synapses.Rewired,
    "quantised": synapses.Quantised,
    "quantised_masked": synapses.QuantisedMasked,
    "quantised_signed": synapses.QuantisedSigned,
    "quantised_rewired": synapses.QuantisedRewired,
    "straight_through": synapses.StraightThrough,
    "convolution": synapses.Convolution,
    "average_pool": synapses.AveragePool,
    "delayed": synapses.Delayed,
    "axon_delayed": synapses.AxonDelayed,
}
REGULARIZERS = {"firing_rate": losses.FiringRate, "energy": losses.Energy}


class Built(NamedTuple):
    """The parts of a recipe."""

    net: Network
    task: tasks.Task
    rule: Rule
    optimizer: optax.GradientTransformation
    training: TrainingSection

    def fit(self, **options: Any) -> Run:
        """Train as the recipe says. `options` are those of `engrax.fit`, and go before the recipe's."""
        section = self.training
        settings = {
            "batch": section.batch,
            "seeds": section.seeds,
            "key": jax.random.key(section.seed),
            "update_every": section.update_every,
            "validate_every": section.validate_every,
            "until": section.until,
        }
        return fit(self.net, self.task, self.rule, self.optimizer, section.steps, **{**settings, **options})


def build(recipe: Recipe) -> Built:
    """Make what a recipe describes. Weights are drawn with the recipe's `training.seed`.

    Raises:
        RecipeError: an unknown name or option, or an impossible value; the message starts with its dotted path.
        DataError: a data file is missing or damaged.
    """
    task = _task(recipe)
    net = _network(recipe, task)
    rule = _agent(recipe, task, _rule(recipe))
    settings = recipe.optimizer
    options = {"name": settings.name, "learning_rate": settings.learning_rate, "steps": recipe.training.steps}
    optimizer = construct("optimizer", optim.get, {**options, **settings.options}, open_ended=True)
    _try_out(rule, net, optimizer)
    return Built(net, task, rule, optimizer, recipe.training)


def construct(path: str, factory: Callable[..., Any], options: Mapping[str, Any], open_ended: bool = False) -> Any:
    """Call `factory`, with errors that name the key.

    Args:
        path: where the options stand in the recipe.
        factory: a class or function.
        options: its keyword arguments.
        open_ended: leave unknown options to the factory.
    """
    known = parameters(factory)
    for option in options:
        if option not in known and not open_ended:
            raise RecipeError(f"{path}.{option}: unknown key.{nearest(option, known)}")
    for option, parameter in known.items():
        if option not in options and parameter.default is parameter.empty:
            raise RecipeError(f"{path}.{option}: is missing; write it in the recipe, or --set {path}.{option}=VALUE.")
    try:
        return factory(**options)
    except DataError:
        raise
    except (ArgumentError, TypeError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error


def parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a class or function can be given by name, base classes' arguments that it passes on included."""
    known: dict[str, inspect.Parameter] = {}
    for owner in factory.__mro__ if inspect.isclass(factory) else (factory,):
        own = inspect.signature(owner).parameters
        named = {n: p for n, p in own.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        known |= {n: p for n, p in named.items() if n not in known}
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    return known


def rule_class(name: str, path: str) -> type[Rule]:
    """The rule called `name`, in any case.

    Raises:
        RecipeError: there is none.
    """
    known: dict[str, type[Rule]] = {n.lower(): c for n, c in (RULES | rl.RULES).items()}
    if name.lower() not in known:
        raise no_such(path, "rule", name, known)
    return known[name.lower()]


def _task(recipe: Recipe) -> tasks.Task:
    name, known = recipe.task.name, tasks.TASKS | rl.ENVIRONMENTS
    if name not in known:
        raise no_such("task.name", "task", name, sorted(known))
    # Built by the class, so that a missing or unknown setting is named by its path.
    return construct("task", tasks.factory(known[name]), recipe.task.options)


def _network(recipe: Recipe, task: tasks.Task) -> Network:
    section = recipe.network
    populations = {name: _population(name, p, task) for name, p in section.populations.items()}
    projections = []
    for i, projection in enumerate(section.projections):
        options = {"pre": projection.pre, "post": projection.post, **projection.options}
        projections.append(construct(f"network.projections.{i}", PROJECTIONS[projection.kind], options))
    options = {
        "populations": populations,
        "projections": projections,
        "inputs": section.inputs or {"input": task.input_size},
        "outputs": section.outputs,
        "dt": float(section.dt or task.dt),
        "key": jax.random.key(recipe.training.seed),
    }
    return construct("network", Network, options)


def _population(name: str, section: PopulationSection, task: tasks.Task) -> Neuron:
    path = f"network.populations.{name}"
    models = {n.lower(): c for n, c in MODELS.items()}
    if section.model.lower() not in models:
        raise no_such(f"{path}.model", "neuron model", section.model, MODELS)
    model = models[section.model.lower()]
    size = task.output_size if section.size == "output" else section.size
    options: dict[str, Any] = {}
    for option, value in section.options.items():
        at = f"{path}.{option}"
        options[option] = _surrogate(at, value) if option == "surrogate" else _parameter(at, value, size)
    known = parameters(model)
    for option in options:
        if option not in known or option == "dt":
            raise RecipeError(f"{path}.{option}: unknown key.{nearest(option, [k for k in known if k != 'dt'])}")
    return construct(path, model, {"size": size, **options})


def _parameter(path: str, value: Any, size: int) -> Any:
    """A number, list or word as it is; a table as what it means: `value` or `groups`, and `trainable`'s arguments."""
    if not isinstance(value, Mapping):
        return value
    options = ("positive", "bounds", "spread")
    known = ("value", "groups", "trainable", *options)
    for key in value:
        if key not in known:
            raise RecipeError(f"{path}.{key}: unknown key.{nearest(key, known)}")
    if ("value" in value and "groups" in value) or not {"value", "groups", "bounds"} & set(value):
        raise RecipeError(f"{path}: give either value = NUMBER or groups = [[UNITS, NUMBER], ...].")
    number = _groups(f"{path}.groups", value["groups"], size) if "groups" in value else value.get("value")
    learns = value.get("trainable", False)
    if not isinstance(learns, bool):
        raise RecipeError(f"{path}.trainable: must be true or false, got {learns!r}.")
    given = {option: value[option] for option in options if option in value}
    if given and not learns:
        raise RecipeError(f"{path}.{next(iter(given))}: has a meaning only with trainable = true.")
    return construct(path, trainable, {"x": number, **given}) if learns else number


def _groups(path: str, groups: Any, size: int) -> list[float]:
    """[[50, 0.0], [50, 0.0174]]: 50 units with 0.0, then 50 with 0.0174."""

    def pair(group: Any) -> bool:
        numbers = isinstance(group, list) and len(group) == 2 and not any(isinstance(x, bool) for x in group)
        return numbers and isinstance(group[0], int) and group[0] >= 0 and isinstance(group[1], int | float)

    if not isinstance(groups, list) or not all(pair(group) for group in groups):
        raise RecipeError(f"{path}: must be [[UNITS, NUMBER], ...], got {groups!r}.")
    units = sum(group[0] for group in groups)
    if units != size:
        raise RecipeError(f"{path}: the groups have {units} units together, the population has {size}.")
    return np.repeat([float(g[1]) for g in groups], [g[0] for g in groups]).tolist()


def _surrogate(path: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return construct(path, surrogates.as_surrogate, {"x": value})
    kind, options = _named(path, value, surrogates.NAMED, "surrogate")
    return construct(path, kind, options)


def _rule(recipe: Recipe) -> Rule:
    options = recipe.rule.options
    if "regularizers" in options:
        terms = options["regularizers"]
        if not isinstance(terms, list):
            raise RecipeError(f"rule.regularizers: must be a list of tables, got {terms!r}.")
        options["regularizers"] = tuple(_regularizer(f"rule.regularizers.{i}", term) for i, term in enumerate(terms))
    return construct("rule", rule_class(recipe.rule.name, "rule.name"), options)


def _agent(recipe: Recipe, task: tasks.Task, rule: Rule) -> Rule:
    """What learns: the rule, or in an environment actor and critic by it."""
    if isinstance(task, rl.Environment):
        return construct("agent", rl.ActorCritic, {"rule": rule, **(recipe.agent.options if recipe.agent else {})})
    if recipe.agent is not None:
        raise RecipeError(f"agent: has a meaning in environments alone, and the task {recipe.task.name!r} is none.")
    return rule


def _regularizer(path: str, term: Any) -> Any:
    if not isinstance(term, Mapping):
        raise RecipeError(f"{path}: must be a table such as {{name = 'firing_rate', coefficient = 1.0}}, got {term!r}.")
    kind, options = _named(path, term, REGULARIZERS, "regulariser")
    return construct(path, kind, options)


def _named(path: str, table: Mapping[str, Any], known: Mapping[str, Any], what: str) -> tuple[Any, dict[str, Any]]:
    options = dict(table)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise no_such(f"{path}.name", what, name, known)
    return known[name], options


def _try_out(rule: Rule, net: Network, optimizer: optax.GradientTransformation) -> None:
    """Let rule and optimiser look at the network before anything is compiled: a wrong recipe fails at once."""
    try:
        bound = eqx.filter_eval_shape(rule.bind, net, jax.random.key(0))
    except ArgumentError as error:
        raise RecipeError(f"rule: {error}") from error
    try:
        eqx.filter_eval_shape(lambda n: optimizer.init(eqx.filter(n, trainable_leaves(n))), bound)
    except ArgumentError as error:
        raise RecipeError(f"optimizer: {error}") from error
