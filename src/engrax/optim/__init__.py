"""Optimisers: what Optax lacks, and every Optax optimiser by name, as recipes ask for them.

All are ordinary `optax.GradientTransformation`s over a network's tree, None where nothing trains.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import optax

from ..errors import ArgumentError, unknown
from .adam import adam_tensorflow
from .leaves import follow, multiply
from .mirrored import kolen_pollack
from .schedules import is_number, plateau, schedule

__all__ = ["NAMES", "adam_tensorflow", "follow", "get", "kolen_pollack", "multiply", "plateau", "schedule"]

_kolen_pollack = kolen_pollack  # `get` has an argument of that name

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
        schedule: arguments of `schedule`, such as `{"name": "step", "every": 900, "factor": 0.5}`, or of `plateau`,
            `{"name": "plateau", "every": 100, "patience": 5}`.
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
        if not isinstance(value, bool) and not is_number(value):
            raise ArgumentError(f"optimiser {name!r}: {option} must be a number, true or false, got {value!r}.")
    watched = None
    if isinstance(schedule, Mapping) and schedule.get("name") == "plateau":
        watched, schedule = _plateau(schedule), None
    if schedule is not None and name in _NUMBER_ONLY:
        raise ArgumentError(f"the optimiser {name!r} takes no schedule, its learning rate is a number.")
    if clip_norm is not None and (not is_number(clip_norm) or not clip_norm > 0):
        raise ArgumentError(f"clip_norm must be a number > 0, got {clip_norm!r}.")
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    parts.append(factory(_scheduled(learning_rate, schedule, steps), **options))
    parts += [] if multipliers is None else [multiply(multipliers)]
    parts += [] if watched is None else [watched]
    parts += [] if kolen_pollack is None else [_kolen_pollack(kolen_pollack)]
    return optax.chain(*parts)


def _plateau(settings: Mapping[str, Any]) -> optax.GradientTransformation:
    known = inspect.signature(plateau).parameters
    for option in settings:
        if option not in ("name", *known):
            raise unknown("option of the schedule 'plateau':", option, known)
    if "every" not in settings:
        raise ArgumentError("the schedule 'plateau' needs every=, the updates that a loss is averaged over.")
    return plateau(**{n: x for n, x in settings.items() if n != "name"})


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
