"""snnTorch: its all-to-all recurrent leaky neuron RLeaky with adaptation added, and its Leaky as readout.

Its surrogates return single precision whatever they are given, and its resets are not differentiated, so the workloads'
spike is passed as `spike_grad` and the reset takes the spike of the step before. Its neurons know one step only: the
loop over time is the user's, as usual. Products with input and output weights cover all steps at once.
"""

from typing import Any

from ..candidate import Candidate, Trainer, Variant
from ..workload import Arrays, Workload
from .pytorch import TorchTrainer, spike_function


class SnnTorch(Candidate):
    """snnTorch, eager."""

    name, package, modules = "snntorch", "snntorch", ("snntorch", "torch")

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return SnnTorchTrainer(workload, arrays)


def neuron(w: Workload, adaptation: Any, recurrent: Any) -> Any:
    """The hidden layer: `adaptation` is the workloads' beta, as snnTorch calls the decay beta."""
    import snntorch
    import torch

    spike = spike_function()

    def constant(value: float) -> Any:
        # snnTorch keeps constants as tensors, of single precision if it makes them itself.
        return torch.tensor(value, dtype=adaptation.dtype)

    class RecurrentALIF(snntorch.RLeaky):
        def __init__(self) -> None:
            super().__init__(
                constant(w.alpha),
                linear_features=w.hidden,
                threshold=constant(w.threshold),
                spike_grad=lambda above: spike(above, w.threshold),
                init_hidden=True,
            )
            self.recurrent.weight, self.recurrent.bias = recurrent, None

        def reset_mem(self) -> Any:
            self.slow = 0.0
            return super().reset_mem()

        def mem_reset(self, mem: Any) -> Any:
            return self.spk

        def fire(self, mem: Any) -> Any:
            self.slow = w.rho * self.slow + self.spk
            return self.spike_grad(mem - self.threshold - adaptation * self.slow)

    return RecurrentALIF()


class SnnTorchTrainer(TorchTrainer):
    """Layers hold their state between steps and are reset before the first."""

    def prepare(self) -> None:
        import snntorch
        import torch

        w, self.hidden = self.workload, neuron(self.workload, self.beta, self.weights["recurrent"])
        kappa = torch.tensor(w.kappa, dtype=self.beta.dtype)
        # Leaky thresholds its voltage even where nobody looks at the spikes; without a surrogate that is cheapest.
        self.readout = snntorch.Leaky(
            kappa, surrogate_disable=True, init_hidden=True, output=True, reset_mechanism="none"
        )

    def forward(self) -> tuple[Any, Any]:
        import torch

        self.hidden.reset_mem()
        self.readout.reset_mem()
        # Iterating, not indexing: the backward pass of an index fills a tensor of all steps, at every step.
        current = torch.nn.functional.linear(self.inputs, self.weights["input"])
        spikes = torch.stack([self.hidden(x) for x in current])
        drive = (1 - self.workload.kappa) * torch.nn.functional.linear(spikes, self.weights["output"])
        return torch.stack([self.readout(x)[1] for x in drive]), spikes
