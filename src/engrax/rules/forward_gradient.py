"""Forward gradients (Baydin et al. 2022): the slope of the loss along a random direction, times that direction."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import RuleError
from ..network import Network, trainable_leaves
from ..network.engine import forward
from ..parameter import positive_integer
from ..trial import Trial
from .rates import count, counted, no_activity, penalty
from .rule import Rule, total_loss


class ForwardGradient(Rule):
    """Forward gradients: BPTT's gradient on average, by runs forwards alone.

    With v normal, one number for each weight, the Jacobian-vector product of a run gives the slope dE/dw . v, and

        g = mean over draws of (dE/dw . v) v

    has the gradient as its mean and, for p weights, about p + 1 times its squared length as its own.

    Args:
        draws_per_update: directions that are averaged.
        loss, reduction, scale, regularizers: see `Rule`.

    Cost: time of two to three forward passes a draw, memory of the network's state.

    Source: Baydin et al. 2022; weight perturbation in the limit of small ones.
    """

    reference: ClassVar[str | None] = None
    draws: ClassVar[bool] = True

    draws_per_update: int = eqx.field(
        static=True, default=1, converter=positive_integer("ForwardGradient: draws_per_update")
    )

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        if key is None:
            raise RuleError("ForwardGradient draws random numbers: call with a key.")
        moving, fixed = eqx.partition(net, trainable_leaves(net))
        losses, names = self.losses(net, trial), counted(self.regularizers, net)
        inputs = net.check_inputs(trial.inputs)

        def run(moving: Network) -> Array:
            whole = eqx.combine(moving, fixed)
            outputs, _, recorded, _ = forward(whole, inputs, whole.init_state(trial.batch), record=names)
            activity = count(no_activity(whole, trial.batch), recorded, trial.valid(), names)
            return total_loss(losses, outputs, trial, whole) + penalty(self.regularizers, whole, activity)

        leaves, shape = jax.tree.flatten(moving)

        def one(total: tuple[Array, list[Array]], key: PRNGKeyArray) -> tuple[tuple[Array, list[Array]], None]:
            keys = jax.random.split(key, len(leaves))
            along = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
            loss, slope = jax.jvp(run, (moving,), (jax.tree.unflatten(shape, along),))
            return (loss, [g + slope * v / self.draws_per_update for g, v in zip(total[1], along, strict=True)]), None

        zero = (jnp.zeros((), net.dtype), [jnp.zeros_like(x) for x in leaves])
        (loss, found), _ = jax.lax.scan(one, zero, jax.random.split(key, self.draws_per_update))
        return loss, jax.tree.unflatten(shape, found)
