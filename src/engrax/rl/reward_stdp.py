"""Reward-modulated spike-timing-dependent plasticity: pairs of spikes, remembered until a reward says what they were
worth. A control for e-prop: it hears one number for all synapses and no unit's own learning signal.

    s_ji(t) = A+ x_i(t) z_j(t) - A- y_j(t) z_i(t),      dW_ji = sum_t delta(t) F(s_ji)(t) = sum_t A(t) s_ji(t)

x and y are traces of earlier pre- and postsynaptic spikes. Readouts learn by their own errors, as under any rule here.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import finite
from ..errors import RuleError
from ..losses import Regularizer
from ..network import Network
from ..network.adjoint import backward
from ..network.cotangents import Cotangents
from ..network.engine import forward
from ..rules import Rule
from ..rules.feedback import readouts
from ..rules.rule import enter, gradient_tree, parameter_gradients, total_loss
from ..synapses import outer
from ..trial import Trial


class Reinforced(Trial):
    """A trial with what its steps were worth: (time, batch) advantages, each step's that of the action it led to."""

    worth: Float[Array, "time batch"] = eqx.field(kw_only=True)


def _positive(name: str) -> Any:
    return lambda x: finite(f"RewardSTDP: {name}", x, 0, exclusive=True)


class RewardSTDP(Rule):
    """Three factors: presynaptic trace, postsynaptic spike (and the other way round), reward.

    Args:
        tau_plus, tau_minus: ms, of the traces of earlier pre- and postsynaptic spikes.
        potentiation, depression: A+ and A-, of a pair pre before post and post before pre.
        loss, reduction, scale: see `Rule`. It takes no regularisers: spikes and reward are all it knows.

    Source: Florian 2007, Neural Computation 19:1468-1502 (MSTDPET); advantages in place of rewards as in Fremaux &
    Gerstner 2016.
    """

    reference: ClassVar[str | None] = None

    regularizers: tuple[Regularizer, ...] = eqx.field(static=True, init=False, default=())
    tau_plus: float = eqx.field(static=True, default=20.0, converter=_positive("tau_plus"))
    tau_minus: float = eqx.field(static=True, default=20.0, converter=_positive("tau_minus"))
    potentiation: float = eqx.field(static=True, default=1.0, converter=_positive("potentiation"))
    depression: float = eqx.field(static=True, default=1.0, converter=_positive("depression"))

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        if not isinstance(trial, Reinforced):
            raise RuleError("RewardSTDP learns from rewards: use it as rl.ActorCritic(RewardSTDP()) in an environment.")
        ends = readouts(net)
        moved = {n: p for n, p in net.projections.items() if p.trainable and p.post not in ends}
        for name, p in moved.items():
            if not net.populations[p.post].spiking or p.bias is not None or p.port is not None or not p.matrix:
                raise RuleError(
                    f"projection {name!r}: RewardSTDP pairs spikes of two populations; it has no rule for biases, "
                    "ports, delays, kernels and units that do not spike. Make it trainable=False."
                )
        losses = self.losses(net, trial)
        inputs = net.check_inputs(trial.inputs)
        outputs, _, _, tape = forward(net, inputs, net.init_state(trial.batch), tape=True)
        loss, slopes = jax.value_and_grad(lambda y: total_loss(losses, y, trial, net))(outputs)
        entering, variables = enter(net, slopes)
        adjoint = backward(net, tape, Cotangents(entering, variables, {}, {}), [], local=True, gradients=True)
        weights = dict(adjoint.weights)
        for name, p in moved.items():
            pre, post = tape.presynaptic(p), tape.outputs[p.post]
            before, after = (_trace(x, tau / net.dt) for x, tau in ((pre, self.tau_plus), (post, self.tau_minus)))
            worth = trial.worth[..., None]
            pairs = self.potentiation * outer(worth * post, before) - self.depression * outer(worth * after, pre)
            weights[name] = -pairs
        return loss, gradient_tree(net, weights, adjoint.biases, parameter_gradients(net, adjoint))


def _trace(spikes: Float[Array, "time batch units"], tau: float) -> Float[Array, "time batch units"]:
    """Earlier spikes, each fading with `tau` steps; those of the step itself not among them."""
    keep = jnp.exp(jnp.asarray(-1 / tau, spikes.dtype))

    def step(trace: Array, now: Array) -> tuple[Array, Array]:
        return keep * (trace + now), trace

    return jax.lax.scan(step, jnp.zeros_like(spikes[0]), spikes)[1]
