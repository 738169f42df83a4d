"""Products and loops that skip zeros; see `products` and `loops`."""

from .library import load, mode
from .products import columns, rows
from .units import TRACES, Unit

__all__ = ["TRACES", "Unit", "columns", "load", "mode", "rows"]
