"""Makes neurobench.json: three small networks in PyTorch, and what the package neurobench says of them.

    pip install neurobench torch snntorch
    python tests/references/make_neurobench.py

The tests build the same networks in Engrax and need none of these packages.
"""

import json
import pathlib
from importlib.metadata import version
from typing import Any

import snntorch
import torch
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
from neurobench.models import SNNTorchModel, TorchModel

BETA, BATCH = (0.75, 0.5), 2


class Spiking(torch.nn.Module):
    """Events onto recurrent spiking units, and these onto spiking readouts; the first steps are silent."""

    def __init__(self) -> None:
        super().__init__()
        kept: dict[str, Any] = {"init_hidden": True, "reset_mechanism": "subtract"}
        self.input = torch.nn.Linear(5, 4)
        self.hidden = snntorch.RLeaky(beta=BETA[0], linear_features=4, **kept)
        self.forth = torch.nn.Linear(4, 3)
        self.readout = snntorch.Leaky(beta=BETA[1], output=True, **kept)

    def forward(self, x: torch.Tensor) -> Any:
        return self.readout(self.forth(self.hidden(self.input(x))))


class Graded(torch.nn.Module):
    """Images through a padded convolution and a dense layer, rectified, onto linear readouts, at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.first = torch.nn.ReLU()
        self.forth = torch.nn.Linear(32, 4)
        self.second = torch.nn.ReLU()
        self.readout = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images = self.first(self.convolution(x.reshape(len(x), 1, 4, 4))).flatten(1)
        return self.readout(self.second(self.forth(images)))


class Gated(torch.nn.Module):
    """An LSTM cell, run by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.LSTMCell(3, 4)

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        return self.cell(x, state)


class Stepwise(TorchModel):
    """A network without time of its own, shown each step of (batch, time, features)."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.net(batch[:, t]) for t in range(batch.shape[1])], 1)


class Carried(TorchModel):
    """A cell whose state is carried along, from zeros."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        state = (torch.zeros(len(batch), 4), torch.zeros(len(batch), 4))
        outputs = []
        for t in range(batch.shape[1]):
            state = self.net(batch[:, t], state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)


def measured(model: Any, x: torch.Tensor, share: float, scale: float) -> dict[str, Any]:
    """Weights drawn, inputs, and the package's answers."""
    with torch.no_grad():
        for name, p in model.net.named_parameters():
            # Without a bias, units to which nothing has come yet stay where they are.
            bias = 0 if "bias" in name and isinstance(model, SNNTorchModel) else scale
            drawn = bias * torch.randn_like(p)
            zeros = torch.rand_like(p) < share if "weight" in name else torch.zeros_like(p, dtype=torch.bool)
            p.copy_(torch.where(zeros, torch.zeros_like(p), drawn).round(decimals=3))
        found: dict[str, Any] = {"footprint": Footprint()(model), "connection_sparsity": ConnectionSparsity()(model)}
        model.register_hooks()
        outputs, data = model(x), (x, None)
        found["activation_sparsity"] = ActivationSparsity()(model, outputs, data)
        found["synaptic_operations"] = SynapticOperations()(model, outputs, data)
        if isinstance(model, SNNTorchModel):
            found["membrane_updates"] = MembraneUpdates()(model, outputs, data)
        found["footprint_after"] = Footprint()(model)
    weights = {name: p.detach().double().round(decimals=3).tolist() for name, p in model.net.named_parameters()}
    return {
        "weights": weights,
        "inputs": x.double().round(decimals=3).tolist(),
        "outputs": outputs.double().tolist(),
        "metrics": found,
    }


if __name__ == "__main__":
    torch.manual_seed(7)
    events = (torch.rand(BATCH, 12, 5) < 0.4).float()
    events[:, :4] = 0
    images = (torch.randn(BATCH, 3, 16) * (torch.rand(BATCH, 3, 16) < 0.7)).round(decimals=3)
    series = torch.randn(BATCH, 6, 3).round(decimals=3)
    used = {name: version(name) for name in ("neurobench", "snntorch", "torch")}
    content = {
        "made_by": "python tests/references/make_neurobench.py",
        "versions": used,
        "beta": BETA,
        "spiking": measured(SNNTorchModel(Spiking()), events, 0.1, 1.2),
        "graded": measured(Stepwise(Graded()), images, 0.2, 0.4),
        "gated": measured(Carried(Gated()), series, 0.2, 0.4),
    }
    path = pathlib.Path(__file__).with_name("neurobench.json")
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    for name in ("spiking", "graded", "gated"):
        print(name, content[name]["metrics"])
