"""What a conformance check raises."""


class ConformanceError(AssertionError):
    """A model, rule or task breaks its contract; the message says which part and by how much."""


def require(condition: object, message: str) -> None:
    """Raise a ConformanceError with `message` unless `condition` holds."""
    if not bool(condition):
        raise ConformanceError(message)
