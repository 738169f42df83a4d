"""Plain PyTorch: a loop over time in Python, a surrogate as `autograd.Function`. Products with inputs are hoisted.

Its path "compiled" has one step of the loop compiled by `torch.compile`: the whole loop, unrolled, takes hours.
"""

import os
from typing import Any

from ..candidate import Candidate, Seen, Trainer, Variant
from ..workload import ADAM, DAMPENING, Arrays, Workload


class PyTorch(Candidate):
    """PyTorch, eager and compiled."""

    name, package, modules = "pytorch", "torch", ("torch",)

    def variants(self) -> list[Variant]:
        return [Variant(), Variant(path="compiled")]

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return Plain(workload, arrays, compiled=variant.path == "compiled")


def spike_function() -> Any:
    """The workloads' spike as a differentiable function (voltage above threshold, baseline threshold)."""
    import torch

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, above: Any, threshold: float) -> Any:
            ctx.save_for_backward(above)
            ctx.threshold = threshold
            return (above > 0).to(above.dtype)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (above,) = ctx.saved_tensors
            psi = DAMPENING / ctx.threshold * torch.clamp(1 - above.abs() / ctx.threshold, min=0)
            return grads[0] * psi, None

    return Spike.apply


class TorchTrainer(Trainer):
    """What all trainers on PyTorch share: weights as parameters, the loss, Adam. `forward` differs."""

    def __init__(self, workload: Workload, arrays: Arrays) -> None:
        import torch

        # Where JAX's candidates compute, too.
        torch.set_default_device("cuda" if "cuda" in os.environ.get("JAX_PLATFORMS", "") else "cpu")
        self.workload = workload
        self.inputs = torch.as_tensor(arrays.inputs)
        self.classes = torch.as_tensor(arrays.classes).long()
        self.beta = torch.as_tensor(arrays.beta)
        names = ("input", "recurrent", "output")
        self.weights = {n: torch.nn.Parameter(torch.as_tensor(getattr(arrays, n)).clone()) for n in names}
        self.prepare()
        self.optimizer = torch.optim.Adam(
            self.weights.values(), ADAM["learning_rate"], (ADAM["b1"], ADAM["b2"]), ADAM["eps"]
        )

    def prepare(self) -> None:
        """Make the framework's own modules; they must hold the parameters in `self.weights`."""

    def forward(self) -> tuple[Any, Any]:
        """Readout and spikes, (time, batch, units)."""
        raise NotImplementedError

    def loss(self, readout: Any) -> Any:
        """Cross-entropy over the last steps."""
        import torch

        late = readout[-self.workload.window :]
        classes = self.classes.expand(late.shape[:2])
        return torch.nn.functional.cross_entropy(late.flatten(0, 1), classes.flatten())

    def step(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.forward()[0])
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def look(self) -> Seen:
        self.optimizer.zero_grad(set_to_none=True)
        readout, spikes = self.forward()
        loss = self.loss(readout)
        loss.backward()
        gradients = {name: weight.grad.cpu().numpy().copy() for name, weight in self.weights.items()}
        return Seen(float(loss.item()), spikes.detach().cpu().numpy(), gradients)


class Plain(TorchTrainer):
    """The equations, line by line."""

    def __init__(self, workload: Workload, arrays: Arrays, compiled: bool) -> None:
        import torch

        super().__init__(workload, arrays)
        w, spike, beta = workload, spike_function(), self.beta

        def step(v: Any, slow: Any, z: Any, current: Any, recurrent: Any) -> tuple[Any, Any, Any]:
            slow = w.rho * slow + z
            v = w.alpha * v + current + z @ recurrent.T - w.threshold * z
            return v, slow, spike(v - w.threshold - beta * slow, w.threshold)

        self.hidden = torch.compile(step) if compiled else step

    def forward(self) -> tuple[Any, Any]:
        import torch

        w = self.workload
        # Unbound, not indexed: the gradient of an index is an array of all steps, filled with zeros.
        currents = (self.inputs @ self.weights["input"].T).unbind()
        v = slow = z = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            v, slow, z = self.hidden(v, slow, z, current, self.weights["recurrent"])
            spikes.append(z)
        drives = (torch.stack(spikes) @ self.weights["output"].T).unbind()
        y, readout = torch.zeros_like(drives[0]), []
        for drive in drives:
            y = w.kappa * y + (1 - w.kappa) * drive
            readout.append(y)
        return torch.stack(readout), torch.stack(spikes)
