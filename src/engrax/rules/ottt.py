"""Online training through time (Xiao et al. 2022): errors of one moment, and what was heard, filtered by the leak."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import RuleError
from ..neurons.base import slots
from ..parameter import resolve
from . import traces
from .influence import Influence, Plan
from .sliding_bptt import from_entering
from .snap import check_heard
from .tangent import Step, nothing


class OTTT(Influence):
    """Online training through time: one trace for each presynaptic unit, and errors of one moment.

    For units that are one leaky variable with one leak for all, v(t) = leak v(t-1) + w pre(t):

        a(t) = leak a(t-1) + pre(t),    dE/dw = sum over t of (dE/dw pre(t))(t) a(t)

    where the error goes back through synapses without delay, and through no time; resets are held constant.

    Cost: time n^2 a step and trial for n units, memory n a trial.

    Raises (when called):
        RuleError: a population that learns has another state than that (`LIF` and `LI` have it), or a parameter trains.

    Source: Xiao et al. 2022 (OTTT-A; OTTT-O is an update at every step).
    """

    told: ClassVar[bool] = True

    def prepare(self, plan: Plan) -> None:
        check_heard(plan, 1, "another rule")
        for s in plan.sources:
            neuron = resolve(plan.net.populations[s.population])
            held = traces.shared(plan.net, s.population)
            if s.kind == "parameter":
                raise RuleError(f"OTTT trains synapses only: let no parameter of {s.population!r} train, or use OSTL.")
            if held not in ([], [True]):
                names = ", ".join(slots(neuron.init_state()))
                raise RuleError(
                    f"OTTT needs units with one leaky variable and one leak for all; {s.population!r} has {names}, "
                    f"{'of different leaks' if len(held) == 1 else 'more than one'}: use OSTL."
                )

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        return {s.label: jnp.zeros((batch, plan.shape(s)[2]), plan.net.dtype) for s in plan.sources}

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        after = {}
        for s in plan.sources:
            leak = step.local(s.population)[0, 0, :, :1] if traces.depth(plan.net, s.population) else 0.0
            after[s.label] = leak * before[s.label] + pre[s.label]
        return after, step

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        _, entering = seen.pull(nothing(plan.net, seen.valid.shape[0], ()), errors)
        return from_entering(plan, entering, influence)
