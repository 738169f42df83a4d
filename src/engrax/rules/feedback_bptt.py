"""BPTT whose errors leave the readouts by feedback weights: random feedback without locality.

It is the other half of RFLO, for telling the two approximations apart (Murray 2019, Fig. 2d).
"""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from ..network import Network
from ..network.cotangents import Adjoint, Path
from ..parameter import choice
from ..trial import Trial
from . import feedback as routes
from .arguments import check_feedback
from .bptt import BPTT, all_paths
from .rule import gradient_tree, parameter_gradients


class FeedbackBPTT(BPTT):
    """Backpropagation through time, but for the readouts: errors leave them by feedback weights.

    Args:
        feedback: "random", "adaptive" or "uniform", as of `EProp`; "symmetric" is BPTT itself.
        feedback_scale, seed: as of `EProp`.
        checkpoint, truncation, memory_budget, loss, reduction, scale, regularizers: see `BPTT`.

    Cost: that of `BPTT`.

    Source: Murray 2019, Fig. 2d ("random only").
    """

    reference: ClassVar[str | None] = None

    feedback: str = choice("feedback", "random", routes.KINDS)
    feedback_scale: float | None = eqx.field(static=True, default=None)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        check_feedback(self)

    def bind(self, net: Network, key: PRNGKeyArray) -> Network:
        """The network with feedback weights, as of `EProp.bind`."""
        return routes.bind(self, net, key)

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        loss, gradient = super().compute(routes.bound(self, net), trial, key)
        # Feedback that was drawn for this call alone has no place in the gradient.
        return loss, gradient if net.feedback else gradient.replace(feedback=type(net.feedback)())

    def _tree(self, net: Network, adjoint: Adjoint) -> Network:
        backwards = routes.feedback_gradients(net, adjoint.weights)
        return gradient_tree(net, adjoint.weights, adjoint.biases, parameter_gradients(net, adjoint), backwards)

    def _paths(self, net: Network) -> list[Path]:
        if self.feedback == "symmetric":
            return all_paths(net)
        ends = routes.readouts(net)
        inner = [p for p in all_paths(net) if p.projection.post not in ends]
        return inner + [p for p in routes.local_paths(net, self.feedback) if p.projection.post in ends]
