"""Populations and projections put together, and the engines that run them."""

from .network import Feedback, Network, NetworkState, Record, trainable_leaves
from .validate import Output

__all__ = ["Feedback", "Network", "NetworkState", "Output", "Record", "trainable_leaves"]
