"""Level crossing: a signal as events, up or down, where it has moved by a level: what asynchronous converters send."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import finite
from ..errors import ArgumentError

KINDS = ("send", "difference")


class LevelCrossing(eqx.Module):
    """Each channel becomes two: 1 where it has risen by the level, and 1 where it has fallen by it.

    Args:
        level: > 0, in the signal's units.
        kind: "send", by the level since the channel's last event ("send on delta"; a move of several levels within a
            step is one event, and the rest comes in the next steps); "difference", from one step to the next, as Yin et
            al. 2021 encode their electrocardiograms.

    Source: Mark & Todd 1981; for spiking networks, Corradi & Indiveri 2015.
    """

    level: float = eqx.field(static=True)
    kind: str = eqx.field(static=True)

    def __init__(self, level: float, kind: str = "send") -> None:
        self.level = finite("LevelCrossing: level", level, 0, exclusive=True)
        if kind not in KINDS:
            raise ArgumentError(f"LevelCrossing: kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
        self.kind = kind

    def __call__(self, x: Float[Array, "time *batch channels"]) -> Float[Array, "time *batch events"]:
        """Events, 0 or 1: up and down of the first channel, then of the second. There is none at the first step.

        Raises:
            ArgumentError: the signal has no axis for channels, or is not of real numbers.
        """
        if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ArgumentError(
                "LevelCrossing: a signal is (time, ..., channels), of floating-point numbers; for a single channel "
                f"give x[:, None]. Got {x.dtype}{list(x.shape)}."
            )
        if self.kind == "difference":
            moved = jnp.concatenate([jnp.zeros_like(x[:1]), x[1:] - x[:-1]])
            up, down = moved >= self.level, moved <= -self.level
        else:
            _, (up, down) = jax.lax.scan(self._step, x[0], x)
        both = jnp.stack([up, down], axis=-1).astype(x.dtype)
        return both.reshape(*x.shape[:-1], 2 * x.shape[-1])

    def _step(self, reference: Array, now: Array) -> tuple[Array, tuple[Array, Array]]:
        up, down = now - reference >= self.level, reference - now >= self.level
        moved = up.astype(now.dtype) - down.astype(now.dtype)
        return reference + self.level * moved, (up, down)
