"""What the meter reads off a run: how often each unit and each input line was active."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..network import Network, Record
from ..trial import Trial

Counts = Float[Array, " units"] | np.ndarray


class Activity(NamedTuple):
    """Counts over some trials, padding left out. Sums of activities are activities.

    trials, steps: how many trials, and how many time steps in all of them together.
    spikes: for each spiking population, spikes of every unit, (units,).
    events: for each input, steps in which each line was not zero, (units,).
    graded: for each input, how many of its values were none of -1, 0 and 1: if any, its lines carry numbers, no events.
    """

    trials: Array | np.ndarray
    steps: Array | np.ndarray
    spikes: dict[str, Counts]
    events: dict[str, Counts]
    graded: dict[str, Array | np.ndarray]


def observe(net: Network, trial: Trial, record: Record) -> Activity:
    """The activity in one batch. Pure; `record` must hold the output of every spiking population.

    Args:
        net: the network.
        trial: what it was shown.
        record: what `net.run(trial.inputs, record=...)` gave.
    """
    valid = trial.valid()[..., None]

    def counted(x: Array) -> Array:
        return jnp.sum(jnp.where(valid > 0, x, jnp.zeros_like(x)), axis=(0, 1))

    def ones(x: Array) -> Array:
        return counted(x.astype(net.dtype))

    inputs = net.check_inputs(trial.inputs)
    return Activity(
        trials=jnp.asarray(trial.batch, net.dtype),
        steps=jnp.sum(valid).astype(net.dtype),
        spikes={name: counted(record[name]) for name, p in net.populations.items() if p.spiking},
        events={name: counted((x != 0).astype(net.dtype)) for name, x in inputs.items()},
        graded={
            name: jnp.sum(counted((x != jnp.round(jnp.clip(x, -1, 1))).astype(net.dtype))) for name, x in inputs.items()
        },
    )
