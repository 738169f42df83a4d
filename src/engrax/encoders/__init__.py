"""What becomes of numbers before a network gets them."""

from .chain import Chain
from .deltas import Deltas
from .event_bins import EventBins
from .level_crossing import LevelCrossing
from .population import PopulationCode
from .unit_spread import UnitSpread
from .window import Window

__all__ = ["Chain", "Deltas", "EventBins", "LevelCrossing", "PopulationCode", "UnitSpread", "Window"]
