"""Norse: an activation function with its own state tuple in an SNNRecurrentCell, and its LIBoxCell as readout.

The spike is Norse's own "triangle", of the voltage above threshold in units of the threshold. SNNRecurrent would run
the loop over time, but it takes steps by index, and the backward pass of an index fills a tensor of all steps: the
product with the input weights would have to stay in its loop. With cells it is taken before the loop.
"""

from typing import Any, NamedTuple

from ..candidate import Candidate, Trainer, Variant
from ..workload import DAMPENING, Arrays, Workload
from .pytorch import TorchTrainer


class Norse(Candidate):
    """Norse, eager."""

    name, package, modules = "norse", "norse", ("norse", "torch")

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return NorseTrainer(workload, arrays)


class ALIFState(NamedTuple):
    """Spikes, voltage, adaptation."""

    z: Any
    v: Any
    a: Any


class ALIFParameters(NamedTuple):
    """Decay of voltage and adaptation, threshold, strength of the adaptation."""

    alpha: float
    rho: float
    v_th: float
    beta: Any


def cell(p: ALIFParameters, input_weights: Any, recurrent_weights: Any) -> Any:
    """The hidden layer for one step. It is fed with products with the input weights, which it keeps only."""
    import torch
    from norse.torch.functional.threshold import threshold
    from norse.torch.module.snn import SNNRecurrentCell

    def alif_step(
        current: Any, state: ALIFState, input_weights: Any, recurrent_weights: Any, p: ALIFParameters, dt: float
    ) -> tuple[Any, ALIFState]:
        a = p.rho * state.a + state.z
        v = p.alpha * state.v + current + torch.nn.functional.linear(state.z, recurrent_weights) - p.v_th * state.z
        z = threshold((v - p.v_th - p.beta * a) / p.v_th, "triangle", DAMPENING)
        return z, ALIFState(z, v, a)

    def initial_state(current: Any) -> ALIFState:
        zero = torch.zeros_like(current)
        return ALIFState(zero, zero, zero)

    size, inputs = input_weights.shape
    weights = {"input_weights": input_weights, "recurrent_weights": recurrent_weights}
    # Without autapses Norse would set the diagonal of the weights to zero.
    return SNNRecurrentCell(alif_step, initial_state, inputs, size, p, autapses=True, **weights)


class NorseTrainer(TorchTrainer):
    """Cells step by step, products with input and output weights for all steps at once."""

    def prepare(self) -> None:
        from norse.torch import LIBoxCell, LIBoxParameters

        w = self.workload
        p = ALIFParameters(w.alpha, w.rho, w.threshold, self.beta)
        self.hidden = cell(p, self.weights["input"], self.weights["recurrent"])
        # Norse steps by Euler; this time constant makes its step the workloads' decay.
        self.readout = LIBoxCell(LIBoxParameters(tau_mem_inv=1 - w.kappa, v_leak=0.0), dt=1.0)

    def forward(self) -> tuple[Any, Any]:
        import torch
        from norse.torch import LIBoxState

        state, spikes, voltages = None, [], []
        for current in torch.nn.functional.linear(self.inputs, self.hidden.input_weights):
            z, state = self.hidden(current, state)
            spikes.append(z)
        drive = torch.nn.functional.linear(torch.stack(spikes), self.weights["output"])
        state = LIBoxState(torch.zeros_like(drive[0]))
        for x in drive:
            v, state = self.readout(x, state)
            voltages.append(v)
        return torch.stack(voltages), torch.stack(spikes)
