"""What the meter reads off a run: how often each unit and each input line was active."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..events import Events
from ..network import Network, Record
from ..network.event_driven import EventRecord
from ..trial import Trial

Counts = Float[Array, " units"] | np.ndarray


class Activity(NamedTuple):
    """Counts over some trials, padding left out. Sums of activities are activities.

    trials, steps: how many trials, and how many time steps in all of them together.
    spikes: for each population that sends events, how many every unit sent, (units,).
    events: for each input, steps in which each line was not zero, (units,).
    graded: for each input, how many of its values were none of -1, 0 and 1: if any, its lines carry numbers, no events.
    """

    trials: Array | np.ndarray
    steps: Array | np.ndarray
    spikes: dict[str, Counts]
    events: dict[str, Counts]
    graded: dict[str, Array | np.ndarray]


def observe(net: Network, trial: Trial, record: Record | EventRecord) -> Activity:
    """The activity in one batch. Pure; `record` must hold the output of every population that sends events.

    Args:
        net: the network.
        trial: what it was shown.
        record: what `net.run` or `net.run_events` gave.
    """
    valid = trial.valid()[..., None]

    def counted(x: Array) -> Array:
        return jnp.sum(jnp.where(valid > 0, x, jnp.zeros_like(x)), axis=(0, 1))

    def ones(x: Array) -> Array:
        return counted(x.astype(net.dtype))

    def of_inputs(which: Callable[[Array], Array]) -> dict[str, Counts]:
        """How many of each input's numbers are such, by unit."""

        def step(total: Array, xs: tuple[Events, Array]) -> tuple[Array, None]:
            sent = jnp.where(xs[1] > 0, which(xs[0].dense(net.dtype)), False)
            return total + jnp.sum(sent.astype(net.dtype), axis=0), None

        found: dict[str, Counts] = {}
        for name, x in net.check_inputs(trial.inputs).items():
            events = isinstance(x, Events)
            nothing = jnp.zeros(x.shape[-1], net.dtype)
            found[name] = jax.lax.scan(step, nothing, (x, valid))[0] if events else ones(which(x))
        return found

    graded = of_inputs(lambda x: x != jnp.round(jnp.clip(x, -1, 1)))
    return Activity(
        trials=jnp.asarray(trial.batch, net.dtype),
        steps=jnp.sum(valid).astype(net.dtype),
        spikes={name: counted(jnp.abs(record[name])) for name, p in net.populations.items() if p.sends_events},
        events=of_inputs(lambda x: x != 0),
        graded={name: jnp.sum(x) for name, x in graded.items()},
    )
