"""Ternary threshold: output 1 above a threshold, -1 below its negative, 0 between, without a state.

    z(t) = H(I(t) - A) - H(-I(t) - A)
    dz/dI = psi(I - A) + psi(-I - A)        dz/dA = psi(-I - A) - psi(I - A)

It makes events of two signs from graded inputs. The threshold of Yin et al. 2021 (Google Speech Commands) is one number
for all units, trained from 0.05 at a hundredth of the others' learning rate.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..parameter import Value, parameter
from .base import Neuron
from .surrogates import Surrogate, Triangular, as_surrogate


class Ternary(Neuron):
    """Unit that sends an event of its current's sign where the current exceeds a threshold. Errors pass through it.

    Args:
        size: number of units.
        threshold: smallest size of a current that is an event (itself excluded), > 0; fixed or `trainable`.
        surrogate: pseudo-derivative psi at either threshold; default `Triangular(0.3)`, as wide as the threshold.

    State: none. Each input line reaches its own unit through `Masked(..., mask="identity", init="identity",
    trainable=False)`.

    Source: Yin et al. 2021.
    """

    threshold: Value = parameter("threshold", 0.05, minimum=0, exclusive=True)
    surrogate: Surrogate = eqx.field(default=Triangular(), converter=as_surrogate)

    signed: ClassVar[bool] = True

    def init_state(self) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        threshold = jnp.broadcast_to(self.threshold, current.shape)
        up, down = (self.surrogate(x - threshold, threshold) for x in (current, -current))
        return state, up - down
