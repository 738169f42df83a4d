"""A run as rules read it, and currents by population and port."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..events import Events, dense
from ..synapses import Projection
from ..synapses.delayed import windows
from .loops import Kept
from .network import Network


class Tape(NamedTuple):
    """A run as rules read it.

    outputs: of inputs (arrays or events) and populations, (time, batch, units).
    history: outputs before the run, (depth, batch, units), oldest first.
    states: each population's state before each step, leaves (time, batch, units).
    currents: (time, batch, units) or (time, batch, ports, units).
    kept: what native loops kept of the populations that they ran, instead of states and currents.
    """

    outputs: dict[str, Any]
    history: dict[str, Array]
    states: dict[str, PyTree]
    currents: dict[str, Array]
    kept: dict[str, Kept]

    def presynaptic(self, projection: Projection) -> Array:
        """What `projection` saw at each step, late or in reversed time: (time, batch, pre); where it sees several
        steps at once, these side by side, oldest first."""
        if projection.reverse:
            return self.outputs[projection.pre][::-1]
        seen = self.seen(projection)
        return windows(seen, projection.reach) if projection.reach else seen

    def seen(self, projection: Projection) -> Array:
        """The sequence that `projection` saw, late: (reach + time, batch, pre)."""
        sent, past = self.outputs[projection.pre], self.history[projection.pre]
        return delayed(dense(sent, past.dtype), past, projection.delay or 0, projection.reach)

    def gradient(self, projection: Projection, delta: Array) -> Any:
        """The gradient by `projection`'s effective weight, from what its target felt at each step."""
        sent, delay = self.outputs[projection.pre], projection.delay or 0
        if projection.reverse:
            return projection.gradient(delta, sent[::-1])
        if projection.reach or not isinstance(sent, Events):
            return projection.gradient(delta, self.seen(projection))
        steps, past = len(delta), self.history[projection.pre]
        made = projection.gradient(delta[delay:], sent[: max(steps - delay, 0)])
        if not delay:
            return made
        first = past.shape[0] - delay
        return made + projection.gradient(delta[:delay], past[first : first + min(delay, steps)])


def delayed(outputs: Array, history: Array, delay: int, reach: int = 0) -> Array:
    """A sequence (time, batch, units) as it was `delay` steps ago, what came before it taken from its history: after
    `reach` steps more, (reach + time, batch, units)."""
    if not delay + reach:
        return outputs
    steps, depth = outputs.shape[0], history.shape[0]
    past = history[depth - delay - reach : depth - delay + min(delay, steps)]
    return jnp.concatenate([past, outputs[: steps - delay]]) if delay < steps else past


def zero_current(net: Network, name: str, leading: tuple[int, ...]) -> Array:
    """A current of zeros for a population, with the given leading axes."""
    neuron = net.populations[name]
    ports = (len(neuron.ports),) if neuron.ports else ()
    return jnp.zeros((*leading, *ports, neuron.size), net.dtype)


def add_current(net: Network, projection: Projection, current: Array, added: Array) -> Array:
    """`current` plus what one projection contributes, at its port if it has one."""
    if projection.port is None:
        return current + added
    port = net.populations[projection.post].ports.index(projection.port)
    return current.at[..., port, :].add(added)


def port_delta(net: Network, projection: Projection, delta: Array) -> Array:
    """The part of a population's delta that belongs to one projection's port."""
    if projection.port is None:
        return delta
    return delta[..., net.populations[projection.post].ports.index(projection.port), :]
