"""Populations and projections put together, and the engines that run them."""

from .leaves import trainable_leaves
from .network import Network
from .state import Feedback, NetworkState, Record
from .validate import Output

__all__ = ["Feedback", "Network", "NetworkState", "Output", "Record", "trainable_leaves"]
