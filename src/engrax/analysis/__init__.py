"""Looking into networks: what their units' traces do, and where they are wrong."""

from .alignment import Alignment, Angle, alignment, reference_rule
from .confusion import confusion
from .eligibility import eligibility_traces
from .escape import Slope, check_escape, escape_slopes
from .side_by_side import SideBySide, side_by_side
from .signals import learning_signals

__all__ = [
    "Alignment",
    "Angle",
    "SideBySide",
    "Slope",
    "alignment",
    "check_escape",
    "confusion",
    "eligibility_traces",
    "escape_slopes",
    "learning_signals",
    "reference_rule",
    "side_by_side",
]
