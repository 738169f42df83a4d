"""Random-feedback local online learning (Murray 2019): e-prop of units with one state variable, by random feedback.

The rule is two approximations of RTRL that have nothing to do with each other: influence stays at the unit it began at,
and errors come by random weights. With one of them alone it is

    local only      RFLO(feedback="symmetric")
    random only     FeedbackBPTT()
"""

from typing import ClassVar

import jax.numpy as jnp

from ..errors import ArgumentError, RuleError
from ..events import dense
from ..network import Network
from ..network.tape import Tape
from ..parameter import choice
from .eprop import EProp
from .feedback import KINDS
from .online import Plan


class RFLO(EProp):
    """Random-feedback local online learning.

    Args:
        feedback: "random", "symmetric" (local only), "adaptive" or "uniform", as of `EProp`.
        timing: "consistent": an input synapse's trace takes x(t), which the unit has just heard. "printed": it takes
            x(t - 1), as the paper has it, though its network hears x(t); offline only.
        feedback_scale, evaluation, chunk, seed, memory_budget, loss, reduction, scale, regularizers: see `EProp`.

    A unit's own state is its only memory: with leak 1/tau, p(t) = (1 - 1/tau) p(t-1) + 1/tau phi'(u(t)) h(t-1). Units
    with several state variables, and gates, have the eligibility traces of e-prop, which is the same idea.

    Cost: as of `EProp`; online, time and memory of one number a synapse and step.

    Source: Murray 2019, Eqs. 5-6. `rule.update` gives the updates of single steps, `fit` those of trials or batches.
    """

    reference: ClassVar[str | None] = "local"

    feedback: str = choice("feedback", "random", KINDS)
    timing: str = choice("timing", "consistent", ("consistent", "printed"))

    def __check_init__(self) -> None:
        if self.timing == "printed" and self.evaluation != "offline":
            raise ArgumentError("RFLO: timing='printed' needs evaluation='offline'; take 'consistent' for streams.")

    def stream_plan(self, net: Network) -> Plan:
        if self.timing == "printed":
            raise RuleError("timing='printed' cannot be streamed: use timing='consistent'.")
        return super().stream_plan(net)

    def _heard(self, net: Network, tape: Tape) -> Tape:
        if self.timing == "consistent":
            return tape
        heard = {n: dense(tape.outputs[n], net.dtype) for n in net.inputs}
        late = {n: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) for n, x in heard.items()}
        kept = {n: k for n, k in tape.kept.items() if n not in late}
        return tape._replace(outputs={**tape.outputs, **late}, kept=kept)
