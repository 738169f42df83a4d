"""Forward propagation through time (Kag & Saligrama 2021): an update at every step, by that step's loss and a term that
keeps weights near their running mean, which stands for the losses of other steps."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from .._checks import finite
from ..errors import ArgumentError
from ..network import Network, trainable_leaves
from ..parameter import positive_integer
from .influence import InfluenceState
from .sliding_bptt import SlidingBPTT


class FPTTState(eqx.Module):
    """What the rule carries: the steps that it looks back on, the running mean of weights, the slope expected there."""

    stream: InfluenceState
    mean: Network
    slope: Network

    @property
    def network(self) -> Any:
        """The network's state."""
        return self.stream.network


class FPTT(SlidingBPTT):
    """Forward propagation through time: SGD on each step's loss and a dynamic regulariser.

    At step t, W being what the last update left,

        slope <- slope - alpha (W - mean),    mean <- (mean + W) / 2 - slope / (2 alpha)
        g = dE(t)/dW - slope + alpha (W - mean)

    where dE(t)/dW goes back `horizon` steps. It is meant for an update at each step: `fit(update_every=1)`. On whole
    trials, within which weights stand still, the regulariser has nothing to say and what is left is `SlidingBPTT`.

    Args:
        alpha: strength of the regulariser.
        horizon: steps that an error goes back, its own included.
        loss, reduction, scale: see `Rule`.

    Cost: as of `SlidingBPTT`, and two numbers a weight.

    Source: Kag & Saligrama 2021, Eqs. 2-3; the slope is followed as in the authors' program, where the paper evaluates
    the last step's gradient anew.
    """

    alpha: float = eqx.field(static=True, default=0.5, converter=lambda x: finite("FPTT: alpha", x, 0, exclusive=True))
    horizon: int = eqx.field(static=True, default=1, converter=positive_integer("FPTT: horizon"))

    def init(self, net: Network, batch: int, key: PRNGKeyArray | None = None) -> FPTTState:  # type: ignore[override]
        """What the rule carries from step to step, before the first one. Arguments: `Influence.init`."""
        stream, weights = super().init(net, batch, key), eqx.filter(net, trainable_leaves(net))
        return FPTTState(stream, weights, jax.tree.map(jnp.zeros_like, weights))

    def update(  # type: ignore[override]
        self,
        net: Network,
        state: FPTTState,
        x: PyTree[Float[Array, "batch _"]],
        target: Any = None,
        mask: Any = 1.0,
        reset: Bool[Array, " batch"] | None = None,
        signal: Float[Array, "batch outputs"] | None = None,
    ) -> tuple[FPTTState, Float[Array, ""], Network]:
        """One time step: the next state, this step's loss and this step's gradient. Arguments: `EProp.update`."""
        if not isinstance(state, FPTTState):
            raise ArgumentError(f"state must be what init() or the last update() gave, got {type(state).__name__}.")
        stream, loss, gradient = super().update(net, state.stream, x, target, mask, reset, signal)
        weights, alpha = eqx.filter(net, trainable_leaves(net)), self.alpha
        slope = jax.tree.map(lambda s, w, m: s - alpha * (w - m), state.slope, weights, state.mean)
        mean = jax.tree.map(lambda m, w, s: (m + w) / 2 - s / (2 * alpha), state.mean, weights, slope)
        whole = jax.tree.map(lambda g, s, w, m: g - s + alpha * (w - m), gradient, slope, weights, mean)
        return FPTTState(stream, mean, slope), loss, whole
