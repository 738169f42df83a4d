"""Real-time recurrent learning: the exact influence, carried forwards (Williams & Zipser 1989)."""

from collections.abc import Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import MemoryBudgetError
from . import traces
from .influence import Influence, Plan
from .tangent import Change, Step, nothing


class RTRL(Influence):
    """Real-time recurrent learning: BPTT's gradient, as it was in the making at every step.

    Args:
        memory_budget: bytes that the influence may take before the rule refuses.
        loss, reduction, scale: see `Rule`.

    Cost for n units with d state variables and p parameters: time n^2 p a step and trial, memory (d + delays) n p a
    trial; for a dense network n^4 and n^3.

    Source: Williams & Zipser 1989; for any unit by forward-mode derivatives.
    """

    reference: ClassVar[str | None] = "full"
    knows_first_outputs: ClassVar[bool] = True

    memory_budget: float = eqx.field(static=True, default=4 * 2.0**30)

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Change:
        zero = jax.eval_shape(lambda: nothing(plan.net, batch, plan.sums, (_count(plan),)))
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(zero))
        if size > self.memory_budget:
            raise MemoryBudgetError(
                f"the influence of {_count(plan)} parameters in {batch} trials needs {size / 2**30:.2f} GiB, more than "
                f"memory_budget = {self.memory_budget / 2**30:.2f} GiB. Use a smaller batch or network."
            )
        change = nothing(plan.net, batch, plan.sums, (_count(plan),))
        at, states, history = 0, dict(change.states), dict(change.history)
        for s in plan.sources:
            length = _length(plan, s)
            if s.kind == "parameter":
                # What a parameter does to the state before the first step, unit by unit.
                moved = jnp.stack(traces.start(plan.net, s, batch, 1))[:, :, 0, :, 0]
                own = moved[..., None] * jnp.eye(length, dtype=moved.dtype)[None, None]
                states[s.population] = states[s.population].at[..., at : at + length].set(own)
                sent = jnp.diag(traces.start_output(plan.net, s))
                history[s.population] = history[s.population].at[..., at : at + length].set(sent)
            at += length
        return change._replace(states=states, history=history)

    def carry(
        self, plan: Plan, step: Step, before: Change, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Change, dict[str, Array]]:
        return step.push(before, entering_of(plan, plan.sources, pre))

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        total = jnp.zeros(_count(plan), plan.net.dtype)
        for label, error in errors.items():
            total = total + jnp.einsum("bk,bkp->p", error, seen[label])
        found, at = {}, 0
        for s in plan.sources:
            found[s.label] = total[at : at + _length(plan, s)].reshape(plan.shape(s))
            at += _length(plan, s)
        return found

    def sums(self, influence: Change) -> dict[str, Array]:
        return influence.sums


def _length(plan: Plan, source: traces.Source) -> int:
    ports, units, pre = plan.shape(source)
    return ports * units * pre


def _count(plan: Plan) -> int:
    return sum(_length(plan, s) for s in plan.sources)


def entering_of(plan: Plan, group: Iterable[traces.Source], pre: dict[str, Array]) -> dict[str, Array]:
    """U(t): what each parameter of a group does to currents at once, (ports + parameters, batch, units, parameters)."""
    group = list(group)
    found: dict[str, Array] = {}
    at, count = 0, sum(_length(plan, s) for s in group)
    for s in group:
        _, units, width = plan.shape(s)
        seen = pre[s.label]
        batch = seen.shape[0]
        if s.population not in found:
            found[s.population] = jnp.zeros((plan.entries(s.population), batch, units, count), seen.dtype)
        each = (jnp.eye(units, dtype=seen.dtype)[None, :, :, None] * seen[:, None, None, :]).reshape(batch, units, -1)
        for column in plan.columns(s):
            found[s.population] = found[s.population].at[column, :, :, at : at + units * width].set(each)
            at += units * width
    return found
