"""Looking into networks: what their units' traces do, and where they are wrong."""

from .alignment import Alignment, Angle, alignment, reference_rule
from .confusion import confusion
from .dynamics import (
    FixedPoints,
    LimitCycle,
    fixed_points,
    limit_cycle,
    lyapunov_spectrum,
    phase_response,
    vector_field,
)
from .eligibility import eligibility_traces
from .escape import Slope, check_escape, escape_slopes
from .side_by_side import SideBySide, side_by_side
from .signals import learning_signals

__all__ = [
    "Alignment",
    "Angle",
    "FixedPoints",
    "LimitCycle",
    "SideBySide",
    "Slope",
    "alignment",
    "check_escape",
    "confusion",
    "eligibility_traces",
    "escape_slopes",
    "fixed_points",
    "learning_signals",
    "limit_cycle",
    "lyapunov_spectrum",
    "phase_response",
    "reference_rule",
    "side_by_side",
    "vector_field",
]
