"""Looking into networks: what their units' traces do, and where they are wrong."""

from .confusion import confusion
from .eligibility import eligibility_traces

__all__ = ["confusion", "eligibility_traces"]
