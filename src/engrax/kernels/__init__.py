"""Products and loops that skip zeros; see `products` and `loops`."""

from .library import load, mode
from .loops import Unit
from .products import columns, rows

__all__ = ["Unit", "columns", "load", "mode", "rows"]
