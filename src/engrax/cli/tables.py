"""Figures of a run as tables on standard output."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reporting.text import joules, spread

__all__ = ["add_energy", "add_figures", "joules", "seeds", "show", "table"]

if TYPE_CHECKING:
    from rich.table import Table

    from ..meter import Bill


def table(title: str, *columns: str) -> "Table":
    """A table whose first column names, and whose others are numbers."""
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left")
    return made


def show(made: "Table") -> None:
    """Print a table; without a terminal it is 100 characters wide."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100).print(made)


def add_figures(made: "Table", figures: Mapping[str, Any], split: str) -> None:
    """A row for each figure on a split, as `measure` gives them; rates and energy have their own units."""
    for name, values in figures.items():
        if name.startswith("firing_rate_hz"):
            population = name.partition(".")[2]
            made.add_row(f"firing rate{f' of {population}' if population else ''}", f"{np.mean(values):.1f} Hz")
        elif name != "energy_joules":
            made.add_row(f"{split} {name.replace('_', ' ')}", seeds(values, name))


def add_energy(made: "Table", bill: "Bill") -> None:
    """A trial's energy on each set of prices, beside the equally wide LSTM's."""
    from ..meter import PRICES

    for name in PRICES:
        times = f"; equally wide LSTM {bill.ratio(name):.3g} times that"
        made.add_row(f"energy a trial, {name}", f"{joules(bill.joules(name))}{times}")


def seeds(values: Any, name: str) -> str:
    """Mean and spread over seeds, and how many they are."""
    count = np.size(values)
    return spread(values, name) + (f" ({count} seeds)" if count > 1 else "")
