"""Energy as a term of the loss: what a trial's spikes cost in the synapses that they go out through."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError, RuleError, unknown
from ..meter import PRICES
from .regularizers import Regularizer, names_of

if TYPE_CHECKING:
    from ..network import Network


class Energy(Regularizer):
    """E = c sum_j n_j k_j e, in nanojoules: n_j spikes of unit j in a mean trial, k_j connections that each goes out
    through, e the price of an accumulate.

    It is the part of the energy bill that learning can lower: the accumulates of spikes. Events of the inputs, and
    units' updates, cost what they cost whatever the weights are. Connections count, whatever their weight.

    Args:
        coefficient: c, loss per nanojoule and trial.
        prices: name of a set of prices (`meter.PRICES`); fetching a weight is part of it where the set says so.
        populations: names; None: all spiking populations from which a projection leaves.
        running: act at each step, where a stream has no end; the gradient is the same.

    The gradient reaches each spike as c k_j e / trials; a rule multiplies it by the *unfiltered* eligibility trace.

    Source: operations and prices as `meter.bill` has them (Yin, Corradi & Bohte 2021; Horowitz 2014).
    """

    coefficient: float = eqx.field(static=True)
    prices: str = eqx.field(static=True)
    connections: Float[Array, " units"] | None = None

    def __init__(
        self, coefficient: float, prices: str = "float32", populations: Any = None, running: bool = False
    ) -> None:
        self.coefficient = float(finite("Energy: coefficient", coefficient, 0))
        if not isinstance(prices, str) or prices not in PRICES:
            raise unknown("set of prices in Energy:", prices, PRICES)
        if not isinstance(running, bool):
            raise ArgumentError(f"Energy: running must be True or False, got {running!r}.")
        self.prices, self.running = prices, running
        self.populations, self.connections = names_of("Energy", populations), None

    def on(self, net: "Network") -> tuple[str, ...]:
        names = super().on(net)
        for name in names:
            if not net.populations[name].spiking:
                raise RuleError(
                    f"Energy: population {name!r} does not spike, so that its outputs cost the same whatever they are: "
                    "leave it out of its populations."
                )
        return names

    def chosen(self, net: "Network") -> tuple[str, ...]:
        heard = {p.pre for p in net.projections.values()}
        return tuple(n for n, p in net.populations.items() if p.spiking and n in heard)

    def at(self, net: "Network", name: str) -> "Energy":
        leaving = [p.connections() for p in net.projections.values() if p.pre == name]
        zeros = jnp.zeros(net.populations[name].size, net.dtype)
        links = sum((jax.lax.stop_gradient(x).astype(net.dtype) for x in leaving), zeros)
        return eqx.tree_at(lambda r: r.connections, self, links, is_leaf=lambda x: x is None)

    def worth(self, trials: int) -> Float[Array, " units"]:
        """dE/dz of one spike of each unit, in a batch of so many trials."""
        if self.connections is None:
            raise RuleError("Energy knows no connections yet: use what at(net, population) returns.")
        nanojoules = 1e9 * PRICES[self.prices].joules(ac=1)
        return self.coefficient * nanojoules / trials * self.connections

    def value(self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float) -> Float[Array, ""]:
        return jnp.sum(counts, axis=0) @ self.worth(counts.shape[0])

    def cotangent(
        self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float
    ) -> Float[Array, "#batch units"]:
        return self.worth(counts.shape[0])[None]

    def so_far(
        self,
        counts: Float[Array, "time batch units"],
        steps: Float[Array, "time batch"],
        whole: Float[Array, " batch"],
        dt: float,
    ) -> Float[Array, "#time #batch units"]:
        return self.worth(counts.shape[1])[None, None]
