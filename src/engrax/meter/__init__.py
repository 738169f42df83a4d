"""The energy meter: what a network's operations were, and what they would cost on published prices."""

from .activity import Activity, observe
from .bill import PRICES, Bill, Item, Price, bill
from .learning import Learning, Work, learning

__all__ = ["PRICES", "Activity", "Bill", "Item", "Learning", "Price", "Work", "bill", "learning", "observe"]
