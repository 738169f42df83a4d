"""Any environment that Gymnasium knows."""

import functools
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ...encoders import PopulationCode
from ...errors import DataError, TaskError
from ...tasks.data import package
from ...tasks.settings import integer, number
from ..actions import Actions, Continuous, Discrete
from ..host import HostEnvironment
from ..worlds import file
from ..worlds.share import Source

# Older environments write the largest numbers of single precision where they mean that there is no bound.
ENDLESS = 1e30


class Spaces(NamedTuple):
    """What an environment says of itself.

    Attributes:
        kind: "number" for one-hot observations, "picture" for pixels, "vector" for a population code.
        shape, dtype: of an observation. low, high: of its numbers, if it is a vector.
        different: how many observations there are, from `low` on, if they are numbers.
        actions: how many there are, or lowest and highest values of each of their numbers.
        length: the most actions in an episode, if it says so.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    different: int
    actions: int | tuple[tuple[float, ...], tuple[float, ...]]
    length: int | None


def _name(x: Any) -> str:
    if not isinstance(x, str) or not x:
        raise TaskError(f"env must be the name of a Gymnasium environment, such as 'CartPole-v1', got {x!r}.")
    return x


def _options(x: Any) -> tuple[tuple[str, Any], ...]:
    """A mapping, as pairs: a setting must be hashable."""
    pairs = tuple(x.items()) if isinstance(x, Mapping) else x
    try:
        hash(pairs)
        return tuple(sorted((str(name), value) for name, value in pairs))
    except (TypeError, ValueError) as error:
        raise TaskError(f"options must be a mapping of names to numbers and words, got {x!r}.") from error


def _bound(name: str) -> Any:
    """A number, or one for each number of the observation, or None."""

    def convert(x: Any) -> float | tuple[float, ...] | None:
        values = list(x) if isinstance(x, list | tuple | np.ndarray) else [x]
        fine = all(isinstance(v, Real) and not isinstance(v, bool) and math.isfinite(float(v)) for v in values)
        if x is not None and not (fine and values):
            raise TaskError(f"{name} must be a finite number, or one for each number of the observation, got {x!r}.")
        return None if x is None else float(x) if isinstance(x, Real) else tuple(float(v) for v in values)

    return convert


class Gym(HostEnvironment):
    """An environment of Gymnasium: `Gym(env="CartPole-v1", low=[-2.4, -3, -0.21, -3], high=[2.4, 3, 0.21, 3])`.

    Observations: those of a Discrete space are one-hot; pictures (a Box of bytes from 0 to 255 with two or three axes)
    are given pixel by pixel, as 0 to 1; all other Boxes number by number in a Gaussian population code over `low` to
    `high`. Actions: Discrete, or Box, whose numbers are clipped to its bounds when they are handed over. An episode
    that is terminated is over; one that is truncated, by the environment or by `length`, is cut off, and the value of
    where it was then counts.

    Settings:
        env: the environment's name, or "module:Name" of one that a module registers.
        options: what `gymnasium.make` is given beside it.
        length: the most actions; None: the environment's own limit (`max_episode_steps`).
        hold: the network's steps of 1 ms an action.
        units: input units for each number of a vector.
        intensity: the current that the best-placed unit, the one that is hot, or a white pixel causes through a weight
            of 1.
        low, high: ends of the population code: one number for each of the observation, or one for all those for which
            the environment gives no bound; None: the environment's bounds.
        spread: standard deviation of the noise of continuous actions, in the environment's units.
        workers: processes that step the environments (see `HostEnvironment`).

    Raises:
        DataError: Gymnasium is not installed, or something the environment needs; pip install "engrax[rl]".
        TaskError: no such environment, or spaces other than those above; no bounds, no length, where some are needed.
        WorldError: when played: the environment raised, or its process died.

    Source: Towers et al. 2024, Gymnasium: a standard interface for reinforcement learning environments.
    """

    name: ClassVar[str] = "gym"

    env: str = eqx.field(static=True, converter=_name)
    length: int = eqx.field(static=True, default=None, converter=integer("length", 1))  # type: ignore[assignment]
    hold: int = eqx.field(static=True, default=10, converter=integer("hold", 1))
    units: int = eqx.field(static=True, default=15, converter=integer("units", 2))
    intensity: float = eqx.field(static=True, default=1.0, converter=number("intensity", 0.0, exclusive=True))
    low: float | tuple[float, ...] | None = eqx.field(static=True, default=None, converter=_bound("low"))
    high: float | tuple[float, ...] | None = eqx.field(static=True, default=None, converter=_bound("high"))
    spread: float = eqx.field(static=True, default=0.3, converter=number("spread", 0.0, exclusive=True))
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True, default=(), converter=_options)

    def __post_init__(self) -> None:
        # Converters of fields come after this.
        if self.length is None:
            limit = _spaces(_name(self.env), _options(self.options)).length
            if limit is None:
                raise TaskError(
                    f"length is missing: {self.env} does not limit its episodes. Give the most actions of one."
                )
            self.length = limit

    def __check_init__(self) -> None:
        if self.spaces.kind == "vector":
            _ = self.code

    @property
    def spaces(self) -> Spaces:
        """What the environment says of itself; it is made once to ask."""
        return _spaces(self.env, self.options)

    @property
    def code(self) -> PopulationCode:
        """Of a vector's numbers.

        Raises:
            TaskError: there are numbers without bounds, or bounds that are none.
        """
        found = self.spaces
        low = _ends("low", self.low, found.low, self.env)
        high = _ends("high", self.high, found.high, self.env)
        wrong = [i for i, (a, b) in enumerate(zip(low, high)) if not a < b]
        if wrong:
            raise TaskError(f"low must lie below high, but number {wrong[0]} has {low[wrong[0]]} and {high[wrong[0]]}.")
        return PopulationCode(low, high, self.units)

    @property
    def dt(self) -> float:
        """1 ms."""
        return 1.0

    @property
    def input_size(self) -> int:
        """Different observations, pixels, or all numbers' units."""
        found = self.spaces
        if found.kind == "number":
            return found.different
        return math.prod(found.shape) * (self.units if found.kind == "vector" else 1)

    @property
    def actions(self) -> Actions:
        """As the environment has them."""
        found = self.spaces.actions
        if isinstance(found, int):
            return Discrete(found)
        low, high = found
        return Continuous(len(low), self.spread, low, high)

    @property
    def source(self) -> Source:
        """Gymnasium, in a file that imports nothing else."""
        settings = (("env", self.env), ("options", self.options))
        return Source(file("gym"), "GymWorld", settings, self.env, self.spaces.shape, self.spaces.dtype)

    def encode(self, observation: Shaped[Array, "..."], key: PRNGKeyArray) -> Float[Array, "hold inputs"]:
        """One-hot, pixels or a population code, all the time."""
        real = jnp.result_type(float)
        if self.spaces.kind == "number":
            place = observation - jnp.asarray(int(self.spaces.low[0]), observation.dtype)
            seen = jax.nn.one_hot(place, self.spaces.different, dtype=real)
        elif self.spaces.kind == "picture":
            seen = observation.reshape(-1).astype(real) / 255
        else:
            seen = self.code(observation.reshape(-1).astype(real))
        return jnp.broadcast_to(self.intensity * seen, (self.hold, self.input_size))


def _ends(name: str, given: float | tuple[float, ...] | None, own: tuple[float, ...], env: str) -> tuple[float, ...]:
    """The ends of a population code on one side."""
    if isinstance(given, tuple):
        if len(given) != len(own):
            raise TaskError(f"{name} must have {len(own)} numbers, as an observation of {env} has, got {len(given)}.")
        return given
    endless = [i for i, x in enumerate(own) if not abs(x) < ENDLESS]
    if endless and given is None:
        bounds = ", ".join("none" if i in endless else f"{x:g}" for i, x in enumerate(own))
        raise TaskError(
            f"{name} is missing: {env} does not bound all numbers of its observations ({name}: {bounds}). "
            f"Give {name}=[...] with a number for each of the {len(own)}, or {name}=NUMBER for those without a bound."
        )
    return tuple(given if i in endless and given is not None else x for i, x in enumerate(own))


@functools.lru_cache(maxsize=64)
def _spaces(env: str, options: tuple[tuple[str, Any], ...]) -> Spaces:
    """Ask an environment, once."""
    gymnasium = package("gymnasium", "a Gymnasium environment", "rl")
    try:
        made = gymnasium.make(env, **dict(options))
    except gymnasium.error.DependencyNotInstalled as error:
        raise DataError(f"env: {env} needs a package that is missing: {error}") from error
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise TaskError(f"env: Gymnasium cannot make {env!r} ({type(error).__name__}: {error}).") from error
    try:
        limit = None if made.spec is None else made.spec.max_episode_steps
        return _described(gymnasium.spaces, env, made.observation_space, made.action_space, limit)
    finally:
        made.close()


def _described(spaces: Any, env: str, seen: Any, done: Any, limit: int | None) -> Spaces:
    actions: Any = None
    if isinstance(done, spaces.Discrete):
        actions = int(done.n)
    elif isinstance(done, spaces.Box) and np.issubdtype(done.dtype, np.floating):
        actions = tuple(tuple(x.ravel().astype(float).tolist()) for x in (done.low, done.high))
    if actions is None or actions == 1:
        raise TaskError(f"env: actions of {env} are {done}; Engrax acts in Discrete spaces and in Boxes of numbers.")
    if isinstance(seen, spaces.Discrete):
        return Spaces("number", (), "int32", (float(seen.start),), (), int(seen.n), actions, limit)
    if not isinstance(seen, spaces.Box):
        raise TaskError(
            f"env: observations of {env} are {seen}; Engrax sees Discrete spaces and Boxes. Register the environment "
            "with gymnasium.wrappers.FlattenObservation around it."
        )
    if seen.dtype == np.uint8 and len(seen.shape) in (2, 3) and seen.low.min() == 0 and seen.high.max() == 255:
        return Spaces("picture", seen.shape, "uint8", (), (), 0, actions, limit)
    low, high = (tuple(x.ravel().astype(float).tolist()) for x in (seen.low, seen.high))
    dtype = "float64" if seen.dtype == np.float64 else "float32"
    return Spaces("vector", seen.shape, dtype, low, high, 0, actions, limit)
