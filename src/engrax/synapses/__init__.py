"""Connections: projections and their initialisers."""

from .initializers import INITIALIZERS, as_initializer
from .projection import Dense, Masked, Projection, drive, outer, transpose

__all__ = ["INITIALIZERS", "Dense", "Masked", "Projection", "as_initializer", "drive", "outer", "transpose"]
