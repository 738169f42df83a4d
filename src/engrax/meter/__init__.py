"""The energy meter: what a network's operations were, and what they would cost on published prices."""

from .activity import Activity, observe
from .bill import Bill, Item, bill
from .learning import Learning, Work, learning
from .neurobench import NeuroBench, Workload, neurobench, watched, workload
from .prices import PRICES, Price

__all__ = [
    "PRICES",
    "Activity",
    "Bill",
    "Item",
    "Learning",
    "NeuroBench",
    "Price",
    "Work",
    "Workload",
    "bill",
    "learning",
    "neurobench",
    "observe",
    "watched",
    "workload",
]
