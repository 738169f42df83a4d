"""Environments that live outside JAX, in Python: compiled code calls out to them once an action, in order.

A batch of n episodes is n Python environments. Each is begun by a seed drawn from its episode's key, and its episode
is therefore the same in whatever company, with however many workers, and after a resume.
"""

import abc
from functools import partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, Shaped

from ..tasks.settings import integer
from .crew import at_work, crew, dismiss
from .environment import Environment
from .surface import forget, keep, settled, surfaced
from .worlds.share import Source


class HostState(NamedTuple):
    """What compiled code knows of a batch of worlds outside it.

    Attributes:
        ticket: which beginning of episodes this is.
        over: whether an episode has ended; its world is not stepped any more.
        cut: whether it was cut off, rather than come to its end.
        total: rewards so far, as the world gave them.
    """

    ticket: Int[Array, ""]
    over: Bool[Array, " batch"]
    cut: Bool[Array, " batch"]
    total: Float[Array, " batch"]


class HostEnvironment(Environment):
    """Base class of environments outside JAX. A subclass defines `source`, and the fields and settings of any
    environment but `reset` and `step`.

    Worlds are made when first needed, and kept for later batches: beginning an episode with a seed must make all that
    comes the same, whatever was played before. Ended episodes are not stepped; their last observation stays.

    Settings:
        workers: processes that step a share of the batch each; 0: the training's own process does.

    A world of one's own is a class that needs no base, in a file of its own (`worlds/share.py` says what it has):

        class MyWorld(HostEnvironment):
            actions, hold, length, dt, input_size = Discrete(2), 10, 100, 1.0, 3

            @property
            def source(self):
                return Source("/home/me/world.py", "World", (("speed", 2.0),), "my world", (3,), "float64")

    Raises:
        WorldError: when played by `fit`, `evaluate`, `play` or a rule: a world raised, or its process died. The worlds
            are then made anew when next needed. In a function that the user compiles around these it is JAX's
            JaxRuntimeError, with the same text, unless that is called within `surface.surfaced()`.
    """

    outside: ClassVar[bool] = True

    workers: int = eqx.field(static=True, default=2, converter=integer("workers", 0, 256), kw_only=True)

    @property
    @abc.abstractmethod
    def source(self) -> Source:
        """Where the Python environments come from, and what their observations are. Hashable; it is sent to workers.

        Its file is run by itself in each worker, which starts the sooner the less that file imports.
        """

    def rewarded(self, reward: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """What the agent is told of the worlds' rewards. Default: all."""
        return reward

    def begin(self, keys: Key[Array, " batch"]) -> tuple[HostState, Shaped[Array, "batch ..."]]:
        """Begin a batch of episodes, by seeds drawn from their keys."""
        count = keys.shape[0]
        words = jax.vmap(lambda k: jax.random.bits(k, (2,), jnp.uint32))(keys)
        shapes = jax.ShapeDtypeStruct((), jnp.int32), self._observations(count)
        call = partial(_begin, self.source, self.workers, shapes[1].dtype)
        with surfaced():
            ticket, observation = settled(io_callback(call, shapes, words, ordered=True))
        none = jnp.zeros(count, bool)
        return HostState(ticket, none, none, jnp.zeros(count)), observation

    def advance(
        self, states: HostState, actions: Shaped[Array, "batch ..."], keys: Key[Array, " batch"]
    ) -> tuple[HostState, Shaped[Array, "batch ..."], Float[Array, " batch"], Bool[Array, " batch"]]:
        """Step the worlds whose episodes are going on. Their randomness is their own: `keys` are not used."""
        count = states.over.shape[0]
        number, flag = (jax.ShapeDtypeStruct((count,), kind) for kind in (jnp.result_type(float), bool))
        shapes = self._observations(count), number, flag, flag
        call = partial(_advance, self.source, self.workers, shapes)
        with surfaced():
            told = settled(io_callback(call, shapes, states.ticket, actions, ~states.over, ordered=True))
        observation, reward, over, cut = told
        new = HostState(states.ticket, over, cut, states.total + reward)
        return new, observation, self.rewarded(reward), over

    def asking(self, states: HostState, batch: int) -> Bool[Array, " batch"]:
        """Every action counts."""
        return jnp.ones(batch, bool)

    def reset(self, key: PRNGKeyArray) -> tuple[HostState, Shaped[Array, "..."]]:
        """Begin one episode: a batch of one."""
        states, observation = self.begin(key[None])
        return states, observation[0]

    def step(
        self, state: HostState, action: Array, key: PRNGKeyArray
    ) -> tuple[HostState, Shaped[Array, "..."], Float[Array, ""], Bool[Array, ""]]:
        """Step one episode: a batch of one."""
        states, observation, reward, over = self.advance(state, action[None], key[None])
        return states, observation[0], reward[0], over[0]

    def cut(self, states: HostState) -> Bool[Array, " batch"]:
        """Which episodes their worlds have cut off."""
        return states.cut

    def _observations(self, count: int) -> jax.ShapeDtypeStruct:
        """Of a batch: real numbers in the precision that JAX is in, others as they are."""
        kind = self.source.dtype
        dtype = jnp.result_type(float) if np.issubdtype(np.dtype(kind), np.floating) else np.dtype(kind)
        return jax.ShapeDtypeStruct((count, *self.source.shape), dtype)


def _begin(source: Source, workers: int, dtype: Any, words: Any) -> tuple[Any, Any]:
    """The callback that begins episodes."""
    forget()
    try:
        with at_work:
            ticket, seen = crew(source, workers).begin(np.asarray(words))
        return np.int32(ticket), seen.astype(dtype)
    except BaseException as error:
        # Answers of workers may still be on their way: these worlds cannot be used again.
        dismiss(source, workers)
        keep(error)


def _advance(source: Source, workers: int, shapes: Any, ticket: Any, actions: Any, going: Any) -> tuple[Any, ...]:
    """The callback that steps worlds."""
    try:
        with at_work:
            found = crew(source, workers).advance(int(ticket), np.asarray(actions), np.asarray(going))
        return tuple(x.astype(shape.dtype) for x, shape in zip(found, shapes))
    except BaseException as error:
        dismiss(source, workers)
        keep(error)
