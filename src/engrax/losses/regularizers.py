"""Regularisers: losses on recorded activity. Off unless given to a rule."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError, RuleError, unknown

if TYPE_CHECKING:
    from ..network import Network


class Regularizer(eqx.Module):
    """Base of regularisers: a function of spike counts, with what it says of each spike.

    A spike of a unit has the same worth at every step of its trial, so counts are all that a rule has to keep.

    Fields:
        populations: names of those it acts on; None: its own choice of a network's.
        running: act at each step on what has happened until then, and not at the trial's end.
    """

    populations: tuple[str, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    running: bool = eqx.field(static=True, default=False, kw_only=True)

    @property
    def pooled(self) -> bool:
        """Whether a spike is worth the same in every trial of a batch. Default: it is."""
        return True

    def on(self, net: "Network") -> tuple[str, ...]:
        """Names of the populations of a network that it acts on.

        Raises:
            RuleError: a name does not exist, or there is nothing for it to act on.
        """
        for name in self.populations or ():
            if name not in net.populations:
                raise unknown(f"population in {type(self).__name__}", name, net.populations, RuleError)
        names = self.chosen(net) if self.populations is None else self.populations
        if not names:
            raise RuleError(
                f"{type(self).__name__} found no spiking population to act on besides the readouts: name those that it "
                "is for, populations=[...]."
            )
        return names

    def chosen(self, net: "Network") -> tuple[str, ...]:
        """Those that it acts on where none is named. Default: all spiking ones that no output is read from."""
        ends = {o.population for o in net.output_specs}
        return tuple(n for n, p in net.populations.items() if p.spiking and n not in ends)

    def at(self, net: "Network", name: str) -> "Regularizer":
        """Itself with all that it has to know of a population of a network. Default: nothing."""
        return self

    def value(self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float) -> Float[Array, ""]:
        """The penalty, from spike counts and numbers of valid steps."""
        raise TypeError(f"{type(self).__name__} must define value(counts, steps, dt).")

    def cotangent(
        self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float
    ) -> Float[Array, "#batch units"]:
        """dE/dz of one spike: the same at every valid step of a trial."""
        raise TypeError(f"{type(self).__name__} must define cotangent(counts, steps, dt).")

    def so_far(
        self,
        counts: Float[Array, "time batch units"],
        steps: Float[Array, "time batch"],
        whole: Float[Array, " batch"],
        dt: float,
    ) -> Float[Array, "#time #batch units"]:
        """dE/dz of a spike at each step, by what was counted until then; `whole` trials have so many valid steps."""
        raise TypeError(f"{type(self).__name__} must define so_far(counts, steps, whole, dt) to be running.")


def names_of(who: str, populations: Any) -> tuple[str, ...] | None:
    """Names of populations as a regulariser keeps them.

    Raises:
        ArgumentError: they are neither names nor None.
    """
    names = (populations,) if isinstance(populations, str) else populations
    if names is None:
        return None
    named = () if isinstance(names, dict) or not isinstance(names, Iterable) else tuple(names)
    if not named or not all(isinstance(n, str) and n for n in named):
        raise ArgumentError(f"{who}: populations must be names or None, got {populations!r}.")
    return named


class FiringRate(Regularizer):
    """E = c/2 sum_j (f_j - f*)^2, f_j the rate of unit j in spikes per millisecond. Bellec et al. 2020, Suppl. Note 2.

    Three conventions are in use; they differ in what f_j averages over:

    * average="batch" (default; the authors' TensorFlow code): over all valid steps of all trials.
    * average="sample" (NEST): over each trial by itself; E is then the mean over trials.
    * running=True (the authors' "online" option; needed where a stream has no end): over the steps so far.

    Their code often omits the factor 1/2: a coefficient c there is 2c here. NEST's C_reg with averaged gradients is
    divided by the length of the learning window.

    Args:
        coefficient: c, per (spikes/ms)^2.
        target: f*, Hz.
        populations: names; None: all spiking populations that no output is read from.
        average: "batch" or "sample".
        running: use the running average.

    A rate gradient reaches each spike as c (f_j - f*) / (trials * steps * dt); a rule multiplies it by the *unfiltered*
    eligibility trace.
    """

    coefficient: float = eqx.field(static=True)
    target: float = eqx.field(static=True, default=10.0)
    average: str = eqx.field(static=True, default="batch")

    def __init__(
        self,
        coefficient: float,
        target: float = 10.0,
        populations: Any = None,
        average: str = "batch",
        running: bool = False,
    ) -> None:
        for name, value in (("coefficient", coefficient), ("target", target)):
            finite(f"FiringRate: {name}", value, 0)
        if not isinstance(average, str) or average not in ("batch", "sample"):
            raise ArgumentError(f"FiringRate: average must be 'batch' or 'sample', got {average!r}.")
        if not isinstance(running, bool):
            raise ArgumentError(f"FiringRate: running must be True or False, got {running!r}.")
        self.coefficient, self.target = float(coefficient), float(target)
        self.populations = names_of("FiringRate", populations)
        self.average, self.running = average, running

    @property
    def pooled(self) -> bool:
        return self.average == "batch"

    def rates(
        self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float
    ) -> Float[Array, "#batch units"]:
        """Rates in spikes/ms from spike counts and numbers of valid steps."""
        if self.average == "batch":
            total = jnp.maximum(jnp.sum(steps), 1)
            return jnp.sum(counts, axis=0, keepdims=True) / (total * dt)
        return counts / (jnp.maximum(steps, 1)[:, None] * dt)

    def value(self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float) -> Float[Array, ""]:
        """The penalty, from spike counts and numbers of valid steps."""
        off = jnp.square(self.rates(counts, steps, dt) - self.target / 1000)
        return 0.5 * self.coefficient * jnp.sum(jnp.mean(off, axis=0))

    def cotangent(
        self, counts: Float[Array, "batch units"], steps: Float[Array, " batch"], dt: float
    ) -> Float[Array, "#batch units"]:
        """dE/dz of one spike: the same at every valid step of a trial."""
        off = self.coefficient * (self.rates(counts, steps, dt) - self.target / 1000)
        if self.average == "batch":
            return off / (jnp.maximum(jnp.sum(steps), 1) * dt)
        return off / (counts.shape[0] * jnp.maximum(steps, 1)[:, None] * dt)

    def so_far(
        self,
        counts: Float[Array, "time batch units"],
        steps: Float[Array, "time batch"],
        whole: Float[Array, " batch"],
        dt: float,
    ) -> Float[Array, "#time #batch units"]:
        rates = jax.vmap(lambda c, s: self.rates(c, s, dt))(counts, steps)
        if self.pooled:
            share = (1 / (jnp.maximum(jnp.sum(whole), 1) * dt))[None, None]
        else:
            share = 1 / (whole.shape[0] * jnp.maximum(whole, 1)[:, None] * dt)
        return self.coefficient * (rates - self.target / 1000) * share[None]
