"""SpikingJelly: an adaptive recurrent node by charge, fire and reset, and a leaky one without spikes, multi-step.

Its spikes come at threshold already (>=), so the workloads' spike is a surrogate class of its own. The recurrent
weights are inside the node: LinearRecurrentContainer would multiply the input by a weight again. Both it and BaseNode
take steps by index, and the backward pass of an index fills a tensor of all steps; SimpleBaseNode, meant for custom
dynamics, iterates.
"""

from typing import Any

from ..candidate import Candidate, Trainer, Variant
from ..workload import Arrays, Workload
from .pytorch import TorchTrainer, spike_function


class SpikingJelly(Candidate):
    """SpikingJelly, eager."""

    name, package, modules = "spikingjelly", "spikingjelly", ("spikingjelly", "torch")

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return SpikingJellyTrainer(workload, arrays)


def hidden(w: Workload, beta: Any, recurrent: Any) -> Any:
    """The hidden layer: input currents (time, batch, hidden) to spikes."""
    from spikingjelly.activation_based import neuron, surrogate

    spike = spike_function()

    class Triangle(surrogate.SurrogateFunctionBase):
        @staticmethod
        def spiking_function(x: Any, threshold: float) -> Any:
            return spike(x, threshold)

    class RecurrentALIFNode(neuron.SimpleBaseNode):
        """Between steps `v` is all of the next voltage but the input, and `slow` the next adaptation.

        SpikingJelly resets at the step of the spike, the workloads at the next, after the decay.
        """

        v: Any
        slow: Any

        def __init__(self) -> None:
            surrogate_function = Triangle(threshold=w.threshold)
            super().__init__(w.threshold, v_reset=None, surrogate_function=surrogate_function, step_mode="m")
            self.recurrent = recurrent
            self.register_memory("slow", 0.0)

        def neuronal_charge(self, x: Any) -> None:
            self.v = self.v + x

        def neuronal_fire(self) -> Any:
            return self.surrogate_function(self.v - self.v_threshold - beta * self.slow)

        def neuronal_reset(self, spike: Any) -> None:
            self.v = w.alpha * self.v + self.recurrent(spike) - self.v_threshold * spike
            self.slow = w.rho * self.slow + spike

    return RecurrentALIFNode()


def readout(w: Workload) -> Any:
    """SpikingJelly's LIF node without spikes, as in its examples."""
    from spikingjelly.activation_based import neuron

    class NonSpikingLIFNode(neuron.SimpleLIFNode):
        def single_step_forward(self, x: Any) -> Any:
            self.neuronal_charge(x)
            return self.v

    # SpikingJelly steps by Euler; this time constant makes its step the workloads' decay.
    return NonSpikingLIFNode(1 / (1 - w.kappa), decay_input=True, step_mode="m")


class SpikingJellyTrainer(TorchTrainer):
    """Two stages that take all steps at once; the products with weights do so in one piece."""

    def prepare(self) -> None:
        import torch
        from spikingjelly.activation_based import layer

        def linear(name: str) -> Any:
            post, pre = self.weights[name].shape
            made = layer.Linear(pre, post, bias=False, step_mode="m")
            made.weight = self.weights[name]
            return made

        recurrent = linear("recurrent")
        recurrent.step_mode = "s"
        self.hidden = torch.nn.Sequential(linear("input"), hidden(self.workload, self.beta, recurrent))
        self.readout = torch.nn.Sequential(linear("output"), readout(self.workload))

    def forward(self) -> tuple[Any, Any]:
        from spikingjelly.activation_based import functional

        for stage in self.hidden, self.readout:
            functional.reset_net(stage)
        spikes = self.hidden(self.inputs)
        return self.readout(spikes), spikes
