"""A batch of trials: what the network is given, and what it is asked for."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, PyTree, Shaped

from ._checks import is_array
from .errors import ArgumentError


class Trial(eqx.Module):
    """Inputs and targets of a batch of trials, time-major.

    Args:
        inputs: (time, batch, units), an array or `Events`, or a dict of these for a network with several inputs.
        targets: (time, batch, outputs) real values; (time, batch) classes at every step; (batch,) classes of whole
            trials. A dict of these for a network with several outputs. None where nothing is asked.
        mask: (time, batch) or (time, batch, outputs) weights of the loss at each step. It weights the loss only.
        lengths: (batch,) number of valid steps of each trial. Loss, rates, counts, means and metrics count valid
            steps alone. None: all steps.
    """

    inputs: PyTree[Num[Array, "time batch _"]]
    targets: PyTree[Shaped[Array, "..."]] = None
    mask: Float[Array, "time batch ..."] | None = None
    lengths: Int[Array, " batch"] | None = None

    def __check_init__(self) -> None:
        for x in _arrays("inputs", self.inputs):
            if x.ndim < 3:
                raise ArgumentError(f"Trial inputs must be (time, batch, units), got shape {x.shape}.")
        if self.targets is not None:
            _arrays("targets", self.targets)
        steps, batch = self.steps, self.batch
        if self.mask is not None:
            (mask,) = _arrays("mask", self.mask, single=True)
            if mask.ndim not in (2, 3) or mask.shape[:2] != (steps, batch):
                raise ArgumentError(f"Trial mask must be ({steps}, {batch}[, outputs]), got shape {mask.shape}.")
        if self.lengths is not None:
            (lengths,) = _arrays("lengths", self.lengths, single=True)
            if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
                got = f"{lengths.dtype}{list(lengths.shape)}"
                raise ArgumentError(f"Trial lengths must be ({batch},) integers, got {got}.")
            known = not isinstance(lengths, jax.core.Tracer | jax.ShapeDtypeStruct)
            if known and not np.all((np.asarray(lengths) >= 0) & (np.asarray(lengths) <= steps)):
                raise ArgumentError(f"Trial lengths must lie between 0 and the inputs' {steps} steps, got {lengths}.")

    def _first(self) -> Any:
        return next(iter(self.inputs.values())) if isinstance(self.inputs, dict) else self.inputs

    @property
    def steps(self) -> int:
        """Number of time steps, padding included."""
        return self._first().shape[-3]

    @property
    def batch(self) -> int:
        """Number of trials."""
        return self._first().shape[-2]

    def valid(self) -> Float[Array, "time batch"]:
        """1 at every step of a trial that lies within its length, 0 in its padding."""
        dtype = jnp.result_type(float)
        if self.lengths is None:
            return jnp.ones((self.steps, self.batch), dtype)
        return (jnp.arange(self.steps, dtype=self.lengths.dtype)[:, None] < self.lengths[None, :]).astype(dtype)

    def replace(self, **changes: Any) -> "Trial":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


class Episodes(eqx.Module):
    """A batch of episodes that are to be played, in place of trials.

    Args:
        environment: an `engrax.rl.Environment`.
        keys: (batch,), each an episode's own: its beginning and all that is random in it.
    """

    environment: Any
    keys: Key[Array, " batch"]

    @property
    def batch(self) -> int:
        """Number of episodes."""
        return self.keys.shape[0]


class FrameTrial(Trial):
    """A trial in frames: an input, and an answer, lasts `hold` steps. Speech has frames of 10 ms, networks steps of 1.

    Args:
        inputs, mask, lengths: as for `Trial`, in steps; whole frames.
        targets: as for `Trial`, or the label string of every trial, (labels, batch) integers from 1, padded with 0, for
            the loss "ctc".
        hold: steps of a frame.
    """

    hold: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if isinstance(self.hold, bool) or not isinstance(self.hold, int) or self.hold < 1:
            raise ArgumentError(f"FrameTrial hold must be an integer of at least 1, got {self.hold!r}.")
        if self.steps % self.hold:
            raise ArgumentError(f"FrameTrial inputs must be whole frames of {self.hold} steps, got {self.steps} steps.")

    def by_frame(self, outputs: Float[Array, "time batch outputs"]) -> Float[Array, "frames batch outputs"]:
        """The mean of the outputs over the steps of each frame."""
        return jnp.mean(outputs.reshape(-1, self.hold, *outputs.shape[1:]), axis=1)

    def valid_frames(self) -> Float[Array, "frames batch"]:
        """1 at every frame that lies within its trial's length, 0 in its padding."""
        return self.valid()[:: self.hold]


def _arrays(name: str, x: Any, single: bool = False) -> list[Any]:
    values = list(x.values()) if isinstance(x, dict) and not single else [x]
    if not values or not all(is_array(v) for v in values):
        also = "" if single else ", or a dict of arrays"
        raise ArgumentError(f"Trial {name} must be an array{also}, got {x!r}.")
    return values
