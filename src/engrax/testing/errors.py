"""What a conformance check raises."""

from typing import Any

import jax


class ConformanceError(AssertionError):
    """A model, rule or task breaks its contract; the message says which part and by how much."""


def same_structure(a: Any, b: Any) -> bool:
    """Whether two trees have the same nodes and static fields."""
    first, second = (jax.tree.structure(tree) for tree in (a, b))
    return hash(first) == hash(second) and str(first) == str(second)


def require(condition: object, message: str) -> None:
    """Raise a ConformanceError with `message` unless `condition` holds."""
    if not bool(condition):
        raise ConformanceError(message)
