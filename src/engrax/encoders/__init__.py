"""What becomes of numbers before a network gets them."""

from .population import PopulationCode

__all__ = ["PopulationCode"]
