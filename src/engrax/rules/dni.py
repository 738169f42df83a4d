"""Decoupled neural interfaces (Jaderberg et al. 2017): what later losses will say of the state is predicted from it.

    dE(t, t+1, ...)/dw = (dE(t)/ds(t) + c(t)) D pre(t),    c(t) = A features(t)

A linear prediction c of the credit that all later losses will give to the state; it learns from what the next step
knows: its own error, and its own prediction, taken one step back.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .._checks import finite
from ..errors import RuleError
from ..network import Feedback, Network, NetworkState
from ..network.cotangents import split_state
from .influence import Influence, Plan
from .rule import check_network
from .sliding_bptt import from_entering
from .tangent import Change, Step, nothing

NAME = "credit"


class DNI(Influence):
    """Decoupled neural interfaces: errors of the future, predicted.

    Args:
        learning: what the gradient of the prediction is multiplied by, since one optimiser moves it with the weights.
        loss, reduction, scale: see `Rule`.

    `bind` adds the prediction, `net.feedback["credit"]`, (state, features), which starts at zero: then the rule is
    backpropagation through one step. Features are the state's variables, outputs, and 1. The prediction's own gradient
    is that of |c(t-1) - (what step t makes of it)|^2 / 2, the latter taken as given.

    Cost for n units: time n^2 a step and trial, memory n a trial, and n^2 for the prediction.

    Raises (when called):
        RuleError: the network was not bound.

    Source: Jaderberg et al. 2017; Czarnecki et al. 2017; recurrent, online, linear as in Marschall et al. 2020.
    """

    told: ClassVar[bool] = True

    learning: float = eqx.field(
        static=True, default=1.0, converter=lambda x: finite("DNI: learning", x, 0, exclusive=True)
    )

    def bind(self, net: Network, key: PRNGKeyArray) -> Network:
        check_network(net)
        size = _flat(nothing(net, 1, ())).shape[1]
        width = _features(net, net.init_state(1)).shape[1]
        credit = Feedback(jnp.zeros((size, width), net.dtype), trainable=True)
        return net.replace(feedback=OrderedDict([(NAME, credit)]))

    def own(self, net: Network) -> Iterable[str]:
        return (NAME,)

    def prepare(self, plan: Plan) -> None:
        if NAME not in plan.net.feedback:
            raise RuleError("DNI learns a prediction of its own: make it with net = rule.bind(net, key).")

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        # No features: there is no step before the first whose prediction could learn.
        return jnp.zeros_like(_features(plan.net, plan.net.init_state(batch)))

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        now = _features(plan.net, step.after)
        return now, (step, pre, before, now)

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        step, pre, earlier, now = seen
        weight = plan.net.feedback[NAME].weight
        shape = nothing(plan.net, now.shape[0], ())
        before, entering = step.pull(_unflat(now @ weight.T, shape), errors)
        # Beyond a trial's end there is nothing to be told, nor to learn from.
        entering = {n: x * step.valid[None, :, None] for n, x in entering.items()}
        wrong = (earlier @ weight.T - _flat(before)) * (step.valid * self.learning / now.shape[0])[:, None]
        found = from_entering(plan, entering, pre)
        found[f"feedback {NAME}"] = wrong.T @ earlier
        return found


def _features(net: Network, state: NetworkState) -> Array:
    """What credit is predicted from: (batch, features)."""
    parts = [x for n in net.populations for x in jax.tree.leaves(split_state(state.neurons[n])[0])]
    parts += [x[-1] for x in state.history.values() if len(x)]
    batch = parts[0].shape[0]
    return jnp.concatenate([*parts, jnp.ones((batch, 1), net.dtype)], axis=1)


def _flat(change: Change) -> Array:
    """A change as (batch, numbers)."""
    leaves = jax.tree.leaves(change)
    return jnp.concatenate([jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in leaves], axis=1)


def _unflat(numbers: Array, like: Change) -> Change:
    leaves, shape = jax.tree.flatten(like)
    found, at = [], 0
    for x in leaves:
        length = x.size // x.shape[1]
        part = numbers[:, at : at + length].reshape(x.shape[1], x.shape[0], *x.shape[2:])
        found.append(jnp.moveaxis(part, 0, 1))
        at += length
    return jax.tree.unflatten(shape, found)
