"""Looking into networks: what their units' traces do, and where they are wrong."""

from .alignment import Alignment, Angle, alignment, reference_rule
from .confusion import confusion
from .eligibility import eligibility_traces

__all__ = ["Alignment", "Angle", "alignment", "confusion", "eligibility_traces", "reference_rule"]
