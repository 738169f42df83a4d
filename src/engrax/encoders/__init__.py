"""What becomes of numbers before a network gets them."""

from .level_crossing import LevelCrossing
from .population import PopulationCode
from .window import Window

__all__ = ["LevelCrossing", "PopulationCode", "Window"]
