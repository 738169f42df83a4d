"""The contract of an environment: a world that answers actions with observations and rewards.

An environment is a task whose trials are played instead of drawn: `ex.fit`, `ex.evaluate`, recipes and reports take it
as they take any other. It is written for one episode; batches are made of it.
"""

import abc
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..network import Network, Record
from ..tasks.settings import boolean, check_batch, check_split, integer
from ..tasks.task import SPLITS, Split, Task
from ..trial import Episodes, Trial
from .actions import Actions


class Environment(Task):
    """Base class of environments. A subclass defines the fields below, `reset` and `step`; all functions are pure.

    Fields:
        input_size: numbers that the network is given at each of its steps.
        actions: `Discrete` or `Continuous`.
        hold: the network's steps between one action and the next.
        length: the most actions in an episode; one that is not over then is cut off.
        dt: step of the network, ms.

    Settings:
        episodes, validation_episodes: episodes in a pass of `batches`, over "train" or "test" and over "validation".
        greedy: whether passes take the most probable action instead of drawing one.
        seed: fixes the episodes of passes.
    """

    metric: ClassVar[Literal["accuracy", "loss", "return"]] = "return"

    actions: eqx.AbstractVar[Actions]
    hold: eqx.AbstractVar[int]
    length: eqx.AbstractVar[int]

    episodes: int = eqx.field(static=True, default=200, converter=integer("episodes", 1), kw_only=True)
    validation_episodes: int = eqx.field(
        static=True, default=100, converter=integer("validation_episodes", 1), kw_only=True
    )
    greedy: bool = eqx.field(static=True, default=True, converter=boolean("greedy"), kw_only=True)
    seed: int = eqx.field(static=True, default=0, converter=integer("seed", 0), kw_only=True)

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> tuple[PyTree, Array]:
        """The beginning of an episode: the world's state, and the first observation."""

    @abc.abstractmethod
    def step(
        self, state: PyTree, action: Array, key: PRNGKeyArray
    ) -> tuple[PyTree, Array, Float[Array, ""], Bool[Array, ""]]:
        """What an action leads to: state, observation, reward, and whether the episode is over."""

    def asks(self, state: PyTree) -> Bool[Array, ""]:
        """Whether the action to come counts. Default: every one does."""
        return jnp.asarray(True)

    def encode(self, observation: Array, key: PRNGKeyArray) -> Float[Array, "hold inputs"]:
        """What the network is given until its next action. Default: the observation, all the time."""
        flat = observation.reshape(-1)
        return jnp.broadcast_to(flat, (self.hold, flat.shape[0]))

    def draw(self, axis: Any, state: PyTree, observation: Any) -> None:
        """Draw the world into a Matplotlib axis, for `engrax play`. Default: the observation, as picture or as bars."""
        if observation.ndim == 2:
            axis.imshow(observation, cmap="gray", interpolation="nearest")
        else:
            axis.bar(range(observation.size), observation.reshape(-1), color="#0072B2")
        axis.set(xticks=[], yticks=[])

    @property
    def output_size(self) -> int:
        """Numbers of the policy."""
        return self.actions.outputs

    def begin(self, keys: Array) -> tuple[PyTree, Array]:
        """`reset` of a batch."""
        return jax.vmap(self.reset)(keys)

    def advance(self, states: PyTree, actions: Array, keys: Array) -> tuple[PyTree, Array, Array, Array]:
        """`step` of a batch."""
        return jax.vmap(self.step)(states, actions, keys)

    def asking(self, states: PyTree, batch: int) -> Bool[Array, " batch"]:
        """`asks` of a batch."""
        return jax.vmap(self.asks, axis_size=batch)(states)

    def cut(self, states: PyTree) -> Bool[Array, "*batch"]:
        """Which episodes of a batch are over for having been cut off by the world itself, so that more was to come.

        Default: none. Those that are still going on after `length` actions count as cut off anyway.
        """
        return jnp.zeros((), bool)

    def figures(self, states: PyTree) -> dict[str, Float[Array, " batch"]]:
        """What else there is to tell of each episode when it is over, by name. Default: nothing."""
        return {}

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Episodes:
        """`batch` new episodes, to be played."""
        key = jax.random.fold_in(key, SPLITS.index(check_split(split)))
        return Episodes(self, jax.random.split(key, check_batch(batch)))

    def batches(self, split: Split, batch: int) -> Iterator[Episodes]:
        """The fixed episodes of `split`; episode i begins in the same way whatever the size of the batch."""
        batch = check_batch(batch)
        count = self.validation_episodes if check_split(split) == "validation" else self.episodes
        key = jax.random.fold_in(jax.random.key(self.seed), SPLITS.index(split))
        one = jax.vmap(lambda i: jax.random.fold_in(key, i))
        starts = range(0, count, batch)
        return (Episodes(self, one(jnp.arange(s, min(s + batch, count)))) for s in starts)

    def perform(self, net: Network, trial: Any, record: tuple[str, ...] = ()) -> tuple[Trial, Record]:
        """Play episodes: what the network saw and did, and its run."""
        from .play import play

        return play(net, trial, greedy=self.greedy, record=record)

    def score(self, outputs: Any, trial: Any) -> Float[Array, ""]:
        """The mean return: rewards summed over an episode."""
        return jnp.mean(jnp.sum(trial.rewards, axis=0))

    def metrics(self, outputs: Any, trial: Any) -> dict[str, Array | tuple[Array, Array]]:
        """ "actions": how many were taken in an episode; and the environment's own `figures`."""
        own = {name: jnp.mean(values) for name, values in trial.figures.items()}
        return {"actions": jnp.mean(jnp.sum(trial.alive, axis=0)), **own}

    def decisions(self, outputs: Any, trial: Any) -> None:
        """None: there is no right answer."""
        return None
