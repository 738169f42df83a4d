"""Connections: projections and their initialisers."""

from .initializers import INITIALIZERS, as_initializer
from .projection import Dense, Masked, Projection, drive, fan_out, outer, transpose

__all__ = ["INITIALIZERS", "Dense", "Masked", "Projection", "as_initializer", "drive", "fan_out", "outer", "transpose"]
