"""Losses and regularisers."""

from .ctc import CTC
from .energy import Energy
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
    soft_cross_entropy,
)
from .regularizers import FiringRate, Regularizer
from .votes import Votes

__all__ = [
    "CTC",
    "NAMES",
    "Energy",
    "FiringRate",
    "Loss",
    "Regularizer",
    "Running",
    "Sequence",
    "Terminal",
    "Votes",
    "as_loss",
    "check_loss",
    "cross_entropy",
    "soft_cross_entropy",
    "mean_squared_error",
    "named",
]
