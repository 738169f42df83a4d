"""Products that skip zeros; see `products`."""

from .library import load, mode
from .products import columns, rows

__all__ = ["columns", "load", "mode", "rows"]
