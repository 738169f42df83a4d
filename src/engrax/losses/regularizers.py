"""Regularisers: losses on recorded activity. Off unless given to a rule."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError


class FiringRate(eqx.Module):
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
    populations: tuple[str, ...] | None = eqx.field(static=True, default=None)
    average: str = eqx.field(static=True, default="batch")
    running: bool = eqx.field(static=True, default=False)

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
        names = (populations,) if isinstance(populations, str) else populations
        if names is not None:
            if isinstance(names, dict) or not isinstance(names, Iterable):
                raise ArgumentError(f"FiringRate: populations must be names or None, got {populations!r}.")
            names = tuple(names)
            if not names or not all(isinstance(n, str) and n for n in names):
                raise ArgumentError(f"FiringRate: populations must be names or None, got {populations!r}.")
        self.populations = names
        self.average, self.running = average, running

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
