"""Figures of a run as tables on standard output."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

    from ..meter import Bill

PREFIXES = ((1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))


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
            made.add_row(f"{split} {name.replace('_', ' ')}", spread(values, name))


def add_energy(made: "Table", bill: "Bill") -> None:
    """A trial's energy on each set of prices, beside the equally wide LSTM's."""
    from ..meter import PRICES

    for name in PRICES:
        times = f"; equally wide LSTM {bill.ratio(name):.3g} times that"
        made.add_row(f"energy a trial, {name}", f"{joules(bill.joules(name))}{times}")


def joules(x: float) -> str:
    """An energy with a fitting prefix."""
    for unit, prefix in PREFIXES:
        if x >= unit:
            return f"{x / unit:.3g} {prefix}J"
    return f"{x:.3g} J"


def spread(values: Any, name: str) -> str:
    """Mean and standard deviation over seeds; accuracies in per cent."""
    v = np.atleast_1d(np.asarray(values, float))
    number = (lambda x: f"{100 * x:.2f}") if "accuracy" in name else (lambda x: f"{x:.4g}")
    unit = " %" if "accuracy" in name else ""
    if v.size == 1:
        return f"{number(v[0])}{unit}"
    return f"{number(v.mean())} ± {number(v.std(ddof=1))}{unit} ({v.size} seeds)"
