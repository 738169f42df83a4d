"""Optimisers: what Optax lacks, and every Optax optimiser by name, as recipes ask for them.

All are ordinary `optax.GradientTransformation`s over a network's tree, None where nothing trains.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .errors import ArgumentError, unknown

__all__ = ["NAMES", "adam_tensorflow", "get", "kolen_pollack", "multiply", "schedule"]


class AdamState(NamedTuple):
    """Steps taken, and the running means of the gradient and of its square."""

    steps: Array
    mean: PyTree
    square: PyTree


def adam_tensorflow(
    learning_rate: float | optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam as TensorFlow and NEST compute it: step t is -lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).

    `optax.adam` adds eps to the corrected root instead, which is another number as long as gradients are small. The
    published loss sequences of e-prop need this one.

    Args:
        learning_rate: a number, or an Optax schedule of the steps taken so far.
        b1, b2: decay of the running means of the gradient and of its square, in [0, 1).
        eps: > 0.

    Raises:
        ArgumentError: a value is impossible.

    Source: Kingma & Ba 2015, the form below Algorithm 1 (end of Section 2).
    """
    rate = learning_rate if callable(learning_rate) else schedule(learning_rate)
    for name, value in (("b1", b1), ("b2", b2)):
        if not _is_number(value) or not 0 <= value < 1:
            raise ArgumentError(f"adam_tensorflow: {name} must lie in [0, 1), got {value!r}.")
    if not _is_number(eps) or not eps > 0:
        raise ArgumentError(f"adam_tensorflow: eps must be a number > 0, got {eps!r}.")

    def init(params: PyTree) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: PyTree, state: AdamState, params: PyTree | None = None) -> tuple[PyTree, AdamState]:
        del params
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.square, updates)
        count = optax.safe_increment(state.steps)

        def step(m: Array, v: Array) -> Array:
            t = count.astype(m.dtype)
            size = jnp.asarray(rate(state.steps), m.dtype) * jnp.sqrt(1 - b2**t) / (1 - b1**t)
            return -size * m / (jnp.sqrt(v) + eps)

        return jax.tree.map(step, mean, square), AdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


def kolen_pollack(decay: float) -> optax.GradientTransformation:
    """Weight decay that lets adaptive feedback find the readout: after the step both are multiplied by 1 - decay.

    Put it last in a chain: it turns the step u of a weight w into (1 - decay) u - decay w. It acts on every trained
    feedback weight "readout->population" and on the projection "population->readout", and on nothing else. As both
    get the same gradient, transposed, their difference then dies out by that factor a step.

    Args:
        decay: in [0, 1). 1e-2 for framewise TIMIT in Bellec et al. 2020.

    Raises:
        ArgumentError: the decay is impossible; at `init`, the network has no trained feedback weights.

    Source: Kolen & Pollack 1994; Bellec et al. 2020, Suppl. Note 2.
    """
    if not _is_number(decay) or not 0 <= decay < 1:
        raise ArgumentError(f"kolen_pollack: decay must lie in [0, 1), got {decay!r}.")

    def init(params: PyTree) -> optax.EmptyState:
        if not _mirrors(params):
            raise ArgumentError(
                "kolen_pollack found no trained feedback weights whose forward projection trains too: bind a rule with "
                'feedback="adaptive" first (net = rule.bind(net, key)).'
            )
        return optax.EmptyState()

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.EmptyState]:
        if params is None:
            raise ArgumentError("kolen_pollack needs the weights: optimizer.update(grads, state, params).")
        pairs = _mirrors(params)

        def where(tree: PyTree) -> list[Any]:
            weights = [(tree.feedback[back].weight, tree.projections[forth].weight) for back, forth in pairs]
            return [weight for pair in weights for weight in pair]

        decayed = [(1 - decay) * u - decay * w for u, w in zip(where(updates), where(params))]
        return eqx.tree_at(where, updates, decayed), state

    return optax.GradientTransformation(init, update)


_kolen_pollack = kolen_pollack  # `get` has an argument of that name


def _mirrors(params: PyTree) -> list[tuple[str, str]]:
    """Keys of trained feedback weights, each with the key of the projection that it mirrors."""
    found = []
    for key, feedback in (getattr(params, "feedback", None) or {}).items():
        readout, _, population = key.partition("->")
        for name, projection in params.projections.items():
            mirrored = projection.pre == population and projection.post == readout and projection.matrix
            if mirrored and feedback.weight is not None and projection.weight is not None:
                found.append((key, name))
                break  # a rule takes the first such projection too
    return found


def multiply(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply the steps of some leaves, such as `{"hidden.tau": 3.0, "tau_adaptation": 2.0}`.

    A name is a part of a leaf's path, of whole words: "tau" is every population's tau, "hidden.tau" one population's,
    "input->hidden.weight" one projection's weight. Where several fit, the longest counts.

    Args:
        multipliers: factors >= 0 by name; 0 freezes.

    Raises:
        ArgumentError: a factor is impossible; at `init`, a name fits no trained leaf (the message lists them).
    """
    if not isinstance(multipliers, Mapping):
        raise ArgumentError(f"multipliers must be a dict of leaf names and factors, got {multipliers!r}.")
    for name, factor in multipliers.items():
        if not _is_number(factor) or factor < 0:
            raise ArgumentError(f"multipliers: the factor of {name!r} must be a number >= 0, got {factor!r}.")

    def init(params: PyTree) -> optax.EmptyState:
        paths = [_path(path) for path, _ in jax.tree.leaves_with_path(params)]
        for name in multipliers:
            if not any(_within(name, path) for path in paths):
                raise unknown("trained leaf in multipliers:", name, (p.removesuffix(".raw") for p in paths))
        return optax.EmptyState()

    def scaled(path: Any, update: Array) -> Array:
        fitting = [name for name in multipliers if _within(name, _path(path))]
        return multipliers[max(fitting, key=len)] * update if fitting else update

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.EmptyState]:
        del params
        return jax.tree.map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _within(name: str, path: str) -> bool:
    return f".{name}." in f".{path}."


SCHEDULES = ("constant", "step", "cosine", "linear")


def schedule(
    learning_rate: float,
    name: str = "constant",
    *,
    every: int | None = None,
    factor: float = 0.5,
    steps: int | None = None,
    end: float = 0.0,
) -> optax.Schedule:
    """A learning-rate schedule by name.

    Args:
        learning_rate: its value at the start, > 0.
        name: "constant"; "step", times `factor` every `every` steps; "cosine" or "linear", to `end` times the start
            over `steps` steps.
        every, factor, steps, end: as said.

    Raises:
        ArgumentError: an unknown name, or a value that is impossible or missing.
    """
    if not _is_number(learning_rate) or not learning_rate > 0:
        raise ArgumentError(f"learning_rate must be a number > 0, got {learning_rate!r}.")
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    for argument, value in (("factor", factor), ("end", end)):
        if not _is_number(value) or value < 0:
            raise ArgumentError(f"schedule: {argument} must be a number >= 0, got {value!r}.")
    if name == "step":
        return optax.exponential_decay(learning_rate, _count("every", every), factor, staircase=True)
    if name == "cosine":
        return optax.cosine_decay_schedule(learning_rate, _count("steps", steps), alpha=end)
    if name == "linear":
        return optax.linear_schedule(learning_rate, end * learning_rate, _count("steps", steps))
    return optax.constant_schedule(learning_rate)


# fmt: off
_OPTAX = (
    "adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad",
    "fromage", "lamb", "lars", "lion", "nadam", "nadamw", "novograd", "radam", "rmsprop", "rprop", "sgd",
    "sign_sgd", "sm3", "yogi",
)
# fmt: on

_NUMBER_ONLY = ("rprop", "sm3")

NAMES: tuple[str, ...] = ("adam_tensorflow", *(name for name in _OPTAX if hasattr(optax, name)))


def get(
    name: str,
    learning_rate: float,
    *,
    steps: int | None = None,
    schedule: Mapping[str, Any] | None = None,
    clip_norm: float | None = None,
    multipliers: Mapping[str, float] | None = None,
    kolen_pollack: float | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    """The optimiser called `name`: `adam_tensorflow`, or an optimiser of Optax by its name there.

    Args:
        name: one of `NAMES`.
        learning_rate: at the start, > 0.
        steps: length of the training, for schedules that need it.
        schedule: arguments of `schedule`, such as `{"name": "step", "every": 900, "factor": 0.5}`.
        clip_norm: largest global norm of the gradient; None: no limit.
        multipliers: see `multiply`.
        kolen_pollack: see `kolen_pollack`.
        options: the optimiser's own, such as `b1=0.9`: numbers or true and false.

    Raises:
        ArgumentError: an unknown name or option (the nearest is given), or an impossible value.
    """
    if name not in NAMES:
        raise unknown("optimiser", name, NAMES)
    factory = adam_tensorflow if name == "adam_tensorflow" else getattr(optax, name)
    known = [option for option in inspect.signature(factory).parameters if option != "learning_rate"]
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of the optimiser {name!r}:", option, known)
        if not isinstance(value, bool) and not _is_number(value):
            raise ArgumentError(f"optimiser {name!r}: {option} must be a number, true or false, got {value!r}.")
    if schedule is not None and name in _NUMBER_ONLY:
        raise ArgumentError(f"the optimiser {name!r} takes no schedule, its learning rate is a number.")
    if clip_norm is not None and (not _is_number(clip_norm) or not clip_norm > 0):
        raise ArgumentError(f"clip_norm must be a number > 0, got {clip_norm!r}.")
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    parts.append(factory(_scheduled(learning_rate, schedule, steps), **options))
    parts += [] if multipliers is None else [multiply(multipliers)]
    parts += [] if kolen_pollack is None else [_kolen_pollack(kolen_pollack)]
    return optax.chain(*parts)


def _scheduled(learning_rate: float, settings: Any, steps: int | None) -> float | optax.Schedule:
    if settings is None:
        schedule(learning_rate)  # checks it; some optimisers take nothing but a number
        return learning_rate
    if not isinstance(settings, Mapping):
        raise ArgumentError(f"schedule must be a table such as {{name = 'step', every = 100}}, got {settings!r}.")
    known = [option for option in inspect.signature(schedule).parameters if option != "learning_rate"]
    for option in settings:
        if option not in known:
            raise unknown("option of the schedule:", option, known)
    return schedule(learning_rate, **{"steps": steps, **settings})


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"schedule: {name} must be an integer of at least 1, got {value!r}.")
    return value


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
