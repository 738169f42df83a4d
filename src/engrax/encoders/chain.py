"""Chain: encoders one after the other, as one."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array

from ..errors import ArgumentError


class Chain(eqx.Module):
    """Each encoder gets what the one before it gave; `Chain(f, g)(x)` is `g(f(x))`.

    Args:
        encoders: one at least, in the order in which they act: this package's, or functions of an array.
    """

    encoders: tuple[Callable[..., Any], ...]

    def __init__(self, *encoders: Callable[..., Any]) -> None:
        if not encoders:
            raise ArgumentError("Chain: give at least one encoder.")
        for place, encoder in enumerate(encoders):
            if not callable(encoder) or isinstance(encoder, type):
                raise ArgumentError(f"Chain: encoder {place} must be an encoder or a function, got {encoder!r}.")
        self.encoders = encoders

    def __call__(self, *signals: Array) -> Array:
        """What the last encoder gives. The first gets all `signals` (`EventBins` takes two), the others one."""
        first, *others = self.encoders
        x = first(*signals)
        for encoder in others:
            x = encoder(x)
        return x
