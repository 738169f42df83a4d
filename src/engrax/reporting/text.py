"""Figures in words: energies with a prefix, means with their spread."""

from typing import Any

import numpy as np

PREFIXES = ((1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))


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
    return f"{number(v.mean())} ± {number(v.std(ddof=1))}{unit}"
