"""Relay: output = current, z(t) = I(t), without a state: what stands between a pooling projection and a dense one."""

from jaxtyping import Array

from .base import Neuron


class Relay(Neuron):
    """Unit that hands its current on within the step. Errors pass through it under every rule: it has no state to cut.

    Args:
        size: number of units.

    State: none.
    """

    def init_state(self) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        return state, current
