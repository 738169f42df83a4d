"""Engrax: learning in recurrent networks. Any rule, on any network, on any task."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors, losses, neurons, rules, synapses
from .errors import EngraxError
from .events import Events
from .network import Network, NetworkState, Record, trainable_leaves
from .neurons import Neuron, surrogates
from .parameter import Parameter, resolve, trainable
from .synapses import (
    AveragePool,
    AxonDelayed,
    Convolution,
    Delayed,
    Dense,
    Masked,
    Projection,
    Quantised,
    QuantisedMasked,
    QuantisedRewired,
    QuantisedSigned,
    Rewired,
    Signed,
    StraightThrough,
)
from .trial import FrameTrial, Trial

if TYPE_CHECKING:
    from . import chip, meter, optim, rl, tasks, testing
    from .reporting import report
    from .training import Run, curriculum, evaluate, fit, taught, unforced

__version__ = "0.1.0"

# Loaded when first used: they pull in optimisers, data readers and progress bars.
_LAZY = {
    "chip": "",
    "meter": "",
    "optim": "",
    "rl": "",
    "tasks": "",
    "testing": "",
    "fit": "training",
    "curriculum": "training",
    "evaluate": "training",
    "taught": "training",
    "unforced": "training",
    "Run": "training",
    "report": "reporting",
}

__all__ = [
    "AveragePool",
    "AxonDelayed",
    "Convolution",
    "Delayed",
    "Dense",
    "EngraxError",
    "Events",
    "Masked",
    "Network",
    "NetworkState",
    "Neuron",
    "Parameter",
    "Projection",
    "Quantised",
    "QuantisedMasked",
    "QuantisedRewired",
    "QuantisedSigned",
    "Record",
    "Rewired",
    "Run",
    "Signed",
    "StraightThrough",
    "FrameTrial",
    "Trial",
    "chip",
    "curriculum",
    "errors",
    "evaluate",
    "fit",
    "losses",
    "meter",
    "neurons",
    "optim",
    "report",
    "resolve",
    "rl",
    "rules",
    "surrogates",
    "synapses",
    "tasks",
    "taught",
    "testing",
    "trainable",
    "trainable_leaves",
    "unforced",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        home = _LAZY[name]
        module = import_module(f".{home or name}", __name__)
        return getattr(module, name) if home else module
    raise AttributeError(f"module 'engrax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
