"""What learning costs beside running: operations of a mean trial, and bytes that must be held until its weights change.

The figures are those of a rule's online form on a chip, one trial at a time; `Rule.work` counts them.

    eligibility  vectors and traces of all synapses whose gate is open
    filtering    the traces' way through the readouts' dynamics
    signals      errors dealt out to units by feedback weights
    gradients    signals times traces, and sums over the trial
    writes       one multiply-accumulate for each weight, bias and parameter that trains
"""

from typing import Any, NamedTuple

from ..network import Network
from ..trial import Trial
from .prices import PRICES, Price


class Work(NamedTuple):
    """Mean operations of a trial: accumulates and multiply-accumulates."""

    ac: float
    mac: float

    def joules(self, price: Price) -> float:
        """Energy of a trial. Where weights are fetched, each operation fetches the number it works on, as synapses do:
        a trace, a sum, a feedback weight or a weight; writing it back is not counted."""
        return price.joules(self.ac, self.mac)


class Learning(NamedTuple):
    """What learning costs on a mean trial.

    items: operations by kind: eligibility, filtering, signals, gradients, writes.
    gated: share of the synapses' trace updates that were skipped, because nothing entered from the unit: 0 to 1.
    held: bytes by kind, at any length of the trial: traces, scales (of traces of few bits), sums (over the trial).
    bits: bits of a trace.
    tape: bytes of activations that BPTT must hold at least for a mean trial: every unit's state and every input, at
        every step.
    steps: mean number of time steps of a trial.
    """

    items: dict[str, Work]
    gated: float
    held: dict[str, float]
    bits: int
    tape: float
    steps: float

    @property
    def total(self) -> Work:
        """All operations together."""
        return Work(sum(i.ac for i in self.items.values()), sum(i.mac for i in self.items.values()))

    @property
    def bytes(self) -> float:
        """Bytes held for learning, whatever the trial's length."""
        return sum(self.held.values())

    def joules(self, prices: str = "float32") -> float:
        """Energy of a trial's learning at the prices of that name in `PRICES`."""
        return self.total.joules(PRICES[prices])

    def table(self) -> str:
        """The figures as text, a line each."""
        head = f"{'learning':<12} {'AC':>14} {'MAC':>14} " + " ".join(f"{name + ' J':>14}" for name in PRICES)
        lines = [head]
        for name, item in {**self.items, "all": self.total}.items():
            prices = " ".join(f"{item.joules(price):>14.3g}" for price in PRICES.values())
            lines.append(f"{name:<12} {item.ac:>14,.0f} {item.mac:>14,.0f} {prices}")
        held = ", ".join(f"{name} {size:,.0f}" for name, size in self.held.items())
        lines.append(f"{self.gated:.1%} of trace updates gated")
        lines.append(f"holds {self.bytes:,.0f} bytes at any length ({held}; {self.bits}-bit traces)")
        lines.append(f"BPTT holds {self.tape:,.0f} bytes of activations at {self.steps:,.0f} steps")
        return "\n".join(lines)


def learning(net: Network, trial: Trial, rule: Any) -> Learning:
    """What a rule's learning costs on a batch of trials.

    Args:
        net: the network; its activity decides what is gated.
        trial: inputs and targets, (time, batch, ...). The figures are means over its trials.
        rule: a rule that says what its learning costs (`EProp`).

    Raises:
        RuleError: the rule does not say, or has no online form on this network.
        LossError: the loss has no online form.
    """
    found = rule.work(net, trial)
    assert isinstance(found, Learning)
    return found
