"""Atari 2600 games: Pong and Fishing Derby, from pixels."""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from ...errors import TaskError
from ...tasks.data import package
from ...tasks.settings import integer, number
from ..actions import Discrete
from ..host import HostEnvironment, HostState
from ..worlds import file
from ..worlds.share import Source

SIDE = 84


class Atari(HostEnvironment):
    """Base class of games in the Arcade Learning Environment (ale-py, which brings their ROMs).

    Observation: 84 x 84 bytes, grey, averages over areas of the 210 x 160 screen; the network is given them row by row
    as 0 to 1. An action is repeated for 4 frames (60 a second), and what is seen is the brighter of the last two, pixel
    by pixel. Actions are never repeated by chance (`repeat_action_probability` is 0): a game is the same whenever the
    same is done. Rewards are clipped to -1 .. 1; the score that the game gave is the metric "score".

    What the network was given is kept until the gradient is made: 28 kB a step of each episode. 32 episodes of 200
    actions, 5 steps each, are 0.9 GB; a gradient by e-prop or BPTT with 100 units then comes to 1.4 GB.

    Settings:
        length: the most actions; an episode that is not over then is cut off.
        jitter: an episode is cut off up to so many actions earlier; how many, is drawn for each.
        noops: an episode begins after 0 to so many frames in which nothing is done; how many, is drawn for each.
        hold: the network's steps of 1 ms an action.
        intensity: the current that a white pixel causes through a weight of 1.
        workers: processes that step the games (see `HostEnvironment`).

    Raises:
        DataError: ale-py is not installed; pip install "engrax[rl]".
        TaskError: jitter leaves no action.
        WorldError: when played: a game's process died.

    Source: Bellemare et al. 2013; frames, repeats and clipping, Mnih et al. 2015, Methods; actions of Pong and 5 ms an
    action, the Atari program of Bellec et al. 2020.
    """

    length: int = eqx.field(static=True, default=200, converter=integer("length", 1))
    jitter: int = eqx.field(static=True, default=0, converter=integer("jitter", 0))
    noops: int = eqx.field(static=True, default=30, converter=integer("noops", 0))
    hold: int = eqx.field(static=True, default=5, converter=integer("hold", 1))
    intensity: float = eqx.field(static=True, default=1.0, converter=number("intensity", 0.0, exclusive=True))
    episodes: int = eqx.field(static=True, default=32, converter=integer("episodes", 1), kw_only=True)
    validation_episodes: int = eqx.field(
        static=True, default=32, converter=integer("validation_episodes", 1), kw_only=True
    )

    def __check_init__(self) -> None:
        if self.jitter >= self.length:
            raise TaskError(f"jitter must be less than length, {self.length}, got {self.jitter}.")
        package("ale_py", "an Atari game", "rl")

    @property
    @abc.abstractmethod
    def rom(self) -> str:
        """The game's name in ale-py."""

    @property
    @abc.abstractmethod
    def codes(self) -> tuple[int, ...]:
        """What the agent's actions are on the machine, as numbers of `ale_py.Action`."""

    @property
    def dt(self) -> float:
        """1 ms."""
        return 1.0

    @property
    def input_size(self) -> int:
        """Pixels."""
        return SIDE * SIDE

    @property
    def actions(self) -> Discrete:
        """As many as `codes`."""
        return Discrete(len(self.codes))

    @property
    def source(self) -> Source:
        """The game, in a file that imports NumPy and ale-py."""
        settings = (
            ("game", self.rom),
            ("actions", self.codes),
            ("noops", self.noops),
            ("length", self.length),
            ("jitter", self.jitter),
        )
        return Source(file("atari"), "AtariWorld", settings, type(self).__name__, (SIDE, SIDE), "uint8")

    def rewarded(self, reward: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Clipped to -1 .. 1."""
        return jnp.clip(reward, -1, 1)

    def figures(self, states: HostState) -> dict[str, Float[Array, " batch"]]:
        """ "score": what the game itself gave, summed over the episode."""
        return {"score": states.total}

    def encode(self, observation: UInt8[Array, "84 84"], key: PRNGKeyArray) -> Float[Array, "hold inputs"]:
        """The picture, all the time."""
        seen = observation.reshape(-1).astype(jnp.result_type(float)) * (self.intensity / 255)
        return jnp.broadcast_to(seen, (self.hold, self.input_size))


class Pong(Atari):
    """Pong: 1 for a ball that the other misses, -1 for one that the agent misses; over at 21.

    Actions: nothing, up, down (codes 0, 3 and 4 of the machine: its joystick is turned right and left).

    Settings, errors and sources are those of `Atari`.
    """

    name: ClassVar[str] = "pong"

    @property
    def rom(self) -> str:
        """Pong."""
        return "pong"

    @property
    def codes(self) -> tuple[int, ...]:
        """Nothing, right (up), left (down)."""
        return 0, 3, 4


class FishingDerby(Atari):
    """Fishing Derby: points for fish landed, minus those of the other angler; over when one has 99.

    Actions: all 18 of the machine, which are the game's minimal set: nothing or fire, with the joystick in any of its
    nine positions.

    Settings, errors and sources are those of `Atari`.
    """

    name: ClassVar[str] = "fishing_derby"

    @property
    def rom(self) -> str:
        """Fishing Derby."""
        return "fishing_derby"

    @property
    def codes(self) -> tuple[int, ...]:
        """All."""
        return tuple(range(18))
