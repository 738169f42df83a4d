"""Connections: projections and their initialisers."""

from .convolution import AveragePool, Convolution
from .delayed import AxonDelayed, Delayed
from .initializers import INITIALIZERS, as_initializer
from .projection import Dense, Masked, Projection, drive, fan_out, outer, transpose
from .quantised import Quantised, QuantisedMasked, QuantisedRewired, QuantisedSigned
from .rewired import Rewired
from .signed import Signed
from .straight_through import StraightThrough

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
    "StraightThrough",
    "as_initializer",
    "drive",
    "fan_out",
    "outer",
    "transpose",
]
