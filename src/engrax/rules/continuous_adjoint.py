"""The gradient of a network in continuous time: through `net.solve` instead of the steps of a grid.

    dz_i/dt = z_i / tau_i - e_i - sum_j w_ij sigma'(x_j) z_j / tau_j
    dE/dw_ij = integral of y_i sigma'(x_j) z_j / tau_j

is what it comes to for the units of Pearlmutter 1989; Diffrax makes it of any model's derivative, step by step of its
own solver. `BPTT` is the exact gradient of the Euler steps of `net.run`, to which this one is near where dt is small.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import RuleError
from ..events import dense
from ..network import Network, Record, trainable_leaves
from ..parameter import choice
from ..trial import Trial
from .rule import Rule, by_label, total_loss


class ContinuousAdjoint(Rule):
    """Reverse mode through an integrated network. What `net.run` has at step k is here the output at time (k + 1) dt.

    Args:
        solver, adjoint, rtol, atol, max_steps: see `Network.solve`.
        interpolation: "hold": an input is there until the next step. "linear": it changes evenly until the next.
        step: of a solver with steps of one length, in the unit of time constants; None: adaptive.
        loss, reduction, scale: see `Rule`.

    Raises:
        RuleError: regularisers, which count what happens at steps.
        NetworkError: the network has no continuous time; see `Network.solve`.

    Source: Pearlmutter 1989, Eqs. 12 to 18; solvers and their adjoints, Kidger 2021.
    """

    reference: ClassVar[str | None] = None
    engine: ClassVar[str] = "solve"

    solver: str = choice("solver", "tsit5", ("euler", "heun", "bosh3", "tsit5", "dopri8", "implicit"))
    adjoint: str = choice("adjoint", "checkpointed", ("checkpointed", "backsolve"))
    interpolation: str = choice("interpolation", "hold", ("linear", "hold"))
    step: float | None = eqx.field(static=True, default=None)
    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-8)
    max_steps: int = eqx.field(static=True, default=4096)

    def perform(self, net: Network, trial: Trial, record: tuple[str, ...] = ()) -> Record:
        steps = net.dt * jnp.arange(trial.steps + 1).astype(net.dtype)
        # One sample more, so that the last input is held to the end.
        given = {n: dense(x, net.dtype).astype(net.dtype) for n, x in net.check_inputs(trial.inputs).items()}
        inputs = {n: jnp.concatenate([x, x[-1:]]) for n, x in given.items()}
        return net.solve(
            inputs,
            steps,
            save=steps[1:],
            solver=self.solver,
            adjoint=self.adjoint,
            interpolation=self.interpolation,
            step=self.step,
            rtol=self.rtol,
            atol=self.atol,
            max_steps=self.max_steps,
            record=record,
        )

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        if self.regularizers:
            raise RuleError("ContinuousAdjoint has no steps whose spikes or rates a regulariser could count: use BPTT.")
        moving, fixed = eqx.partition(net, trainable_leaves(net))
        losses = self.losses(net, trial)

        def loss(moving: Network) -> Array:
            whole = eqx.combine(moving, fixed)
            outputs = by_label(whole, self.perform(whole, trial).outputs, "outputs")
            return total_loss(losses, outputs, trial, whole)

        return jax.value_and_grad(loss)(moving)
