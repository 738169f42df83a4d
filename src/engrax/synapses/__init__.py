"""Connections: projections and their initialisers."""

from .convolution import AveragePool, Convolution
from .delayed import AxonDelayed, Delayed
from .initializers import INITIALIZERS, as_initializer
from .projection import Dense, Masked, Projection, drive, fan_out, outer, transpose
from .quantised import Quantised, QuantisedMasked, QuantisedRewired, QuantisedSigned
from .rewired import Rewired
from .signed import Signed

__all__ = [
    "INITIALIZERS",
    "AveragePool",
    "AxonDelayed",
    "Convolution",
    "Delayed",
    "Dense",
    "Masked",
    "Projection",
    "Quantised",
    "QuantisedMasked",
    "QuantisedRewired",
    "QuantisedSigned",
    "Rewired",
    "Signed",
    "as_initializer",
    "drive",
    "fan_out",
    "outer",
    "transpose",
]
