"""The energy meter: what a network's operations were, and what they would cost on published prices."""

from .activity import Activity, observe
from .bill import PRICES, Bill, Item, Price, bill

__all__ = ["PRICES", "Activity", "Bill", "Item", "Price", "bill", "observe"]
