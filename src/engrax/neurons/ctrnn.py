"""Continuous-time rate unit of Pearlmutter 1989: tau dy/dt = -y + sigma(x) + I, output y.

    y(k+1) = y(k) + dt / tau (-y(k) + sigma(x(k)) + I(k))        Euler's method, dt the network's

Two currents: `net` x, inside the squashing, and `drive` I, outside of it; a projection says which it reaches. The
network's own outputs are there before the first step: y(0) acts on it.
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..parameter import Value, choice, parameter
from .activations import Activation, as_activation
from .base import Neuron


class CTRNNState(NamedTuple):
    """Rate."""

    rate: Float[Array, "..."]


class CTRNN(Neuron):
    """Continuous-time rate unit. Currents: (2, size), `net` and `drive`; projections name one, as in "input->x.drive".

    `net.run` makes Euler steps, so that rules give the exact gradient of what runs; `net.solve` integrates.

    Args:
        size: number of units.
        tau: time constant, in the unit of `dt`; more than dt / 2 for a stable step, dt for a monotone decay. To train
            it, `trainable(1.0, "log")` keeps it positive.
        activation: sigma: "sigmoid", "tanh", "relu", "identity", "gelu", or an elementwise function.
        initial: y(0), which may train.

    State: rate.

    Source: Pearlmutter 1989; 1995, Eqs. of the network and its first-order discretisation.
    """

    tau: Value = parameter("tau", 1.0, minimum=0, exclusive=True)
    activation: Activation = eqx.field(static=True, default="sigmoid", converter=as_activation)
    initial: Value = parameter("initial", 0.5)

    ports: ClassVar[tuple[str, ...]] = ("net", "drive")

    def init_state(self) -> CTRNNState:
        return CTRNNState(self.init_output())

    def init_output(self) -> Array:
        return jnp.broadcast_to(self.initial, self.size)

    def derivative(self, state: CTRNNState, current: Array) -> CTRNNState:
        net, drive = current[..., 0, :], current[..., 1, :]
        return CTRNNState((self.activation(net) + drive - state.rate) / self.tau)

    def output(self, state: CTRNNState) -> Array:
        return state.rate

    def step(self, state: CTRNNState, current: Array) -> tuple[CTRNNState, Array]:
        rate = state.rate + self.dt * self.derivative(state, current).rate
        return CTRNNState(rate), rate


class ForcedState(NamedTuple):
    """The rate that goes on, and what it was before the teacher's hand."""

    rate: Float[Array, "..."]
    free: Float[Array, "..."]


class ForcedCTRNN(CTRNN):
    """`CTRNN` whose rate a teacher moves while it learns. Currents: (3, size), `net`, `drive` and `teacher`.

    The teacher's port takes the wanted output itself: a `Masked` projection with the mask "identity" and weight one.
    Learn on the state variable `free`, what the unit would have been by itself: as an error of the rate would be that
    of the teacher. Afterwards run the same weights with `forcing=0`.

    Args:
        forcing: how much of the way the teacher moves it; 1 puts it there and lets no error through, 0 does nothing.
        kind: "clamp": rate + forcing (target - rate) goes on. "nudge": forcing sign(e) |e|^power, with e = target -
            rate, is added to the drive.
        power: of a nudge.
        size, tau, activation, initial: as of `CTRNN`.

    State: rate, free.

    Source: teacher forcing, Williams & Zipser 1989 ("clamp"); Toomarian & Barhen 1992 ("nudge").
    """

    forcing: Value = parameter("forcing", 1.0, minimum=0)
    kind: str = choice("kind", "clamp", ("clamp", "nudge"))
    power: float = eqx.field(static=True, default=1.0)

    ports: ClassVar[tuple[str, ...]] = ("net", "drive", "teacher")

    def init_state(self) -> ForcedState:  # type: ignore[override]
        return ForcedState(self.init_output(), self.init_output())

    def derivative(self, state: ForcedState, current: Array) -> ForcedState:  # type: ignore[override]
        if self.kind == "clamp":
            raise TypeError("ForcedCTRNN clamps at the steps of a grid: net.solve takes kind='nudge'.")
        return ForcedState(*2 * [self._slope(state.rate, current)])

    def _slope(self, rate: Array, current: Array) -> Array:
        moved = super().derivative(CTRNNState(rate), current).rate
        if self.kind == "clamp":
            return moved
        away = current[..., 2, :] - rate
        # A root's slope at zero is infinite: no pull there, and no derivative.
        pull = jnp.sign(away) * jnp.where(away == 0, 1, jnp.abs(away)) ** self.power
        return moved + jnp.where(away == 0, 0, self.forcing * pull) / self.tau

    def step(self, state: ForcedState, current: Array) -> tuple[ForcedState, Array]:  # type: ignore[override]
        free = state.rate + self.dt * self._slope(state.rate, current)
        rate = free
        if self.kind == "clamp":
            rate = free + self.forcing * (current[..., 2, :] - free)
        return ForcedState(rate, free), rate
