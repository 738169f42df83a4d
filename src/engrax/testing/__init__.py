"""Conformance suites for neurons, rules and tasks: Engrax's own and a user's."""

from .errors import ConformanceError
from .neurons import check_neuron
from .reference import finite_differences, reference_gradient, simulate
from .rules import check_rule, example
from .tasks import check_task

__all__ = [
    "ConformanceError",
    "check_neuron",
    "check_rule",
    "check_task",
    "example",
    "finite_differences",
    "reference_gradient",
    "simulate",
]
