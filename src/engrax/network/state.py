"""What a network carries from step to step, what a run gives, and weights that carry errors back."""

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from ..errors import unknown


class Feedback(eqx.Module):
    """Weights that carry an error from a readout back to a population: (post, pre) = (population, readout)."""

    weight: Float[Array, "post pre"]
    trainable: bool = eqx.field(static=True, default=False)


class NetworkState(eqx.Module):
    """What a network carries from step to step: each population's state, and past outputs that delays still need.

    `neurons[name]` has (batch, size) leaves; `history[name]` is (delay, batch, size), oldest first.
    """

    neurons: dict[str, PyTree]
    history: dict[str, Array]


class Record(eqx.Module):
    """What a run gives: `outputs`, the final `state`, and what was recorded, as `record["hidden.voltage"]`."""

    outputs: PyTree[Float[Array, "time batch _"]]
    state: NetworkState
    recorded: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.recorded:
            raise unknown("recorded variable", name, self.recorded)
        return self.recorded[name]
