"""Neuron models, a file each. A new file with a `Neuron` subclass is found by itself."""

from .._scan import subclasses
from . import surrogates
from .base import Neuron, variable, variables

MODELS: dict[str, type[Neuron]] = subclasses(__name__, __path__, Neuron)
globals().update(MODELS)

__all__ = ["MODELS", "Neuron", "surrogates", "variable", "variables", *MODELS]


def __getattr__(name: str) -> type[Neuron]:
    from ..errors import nearest

    raise AttributeError(f"engrax.neurons has no model {name!r}.{nearest(name, MODELS)}")
