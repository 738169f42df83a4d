"""Populations and projections put together, and the engines that run them."""

from .network import Feedback, Network, NetworkState, Output, Record, trainable_leaves

__all__ = ["Feedback", "Network", "NetworkState", "Output", "Record", "trainable_leaves"]
