"""Losses and regularisers."""

from .loss import (
    NAMES,
    Loss,
    Running,
    Sequence,
    Terminal,
    as_loss,
    check_loss,
    cross_entropy,
    mean_squared_error,
    named,
)
from .regularizers import FiringRate

__all__ = [
    "NAMES",
    "FiringRate",
    "Loss",
    "Running",
    "Sequence",
    "Terminal",
    "as_loss",
    "check_loss",
    "cross_entropy",
    "mean_squared_error",
    "named",
]
