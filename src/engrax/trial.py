"""A batch of trials: what the network is given, and what it is asked for."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PyTree, Shaped

from .errors import ArgumentError


class Trial(eqx.Module):
    """Inputs and targets of a batch of trials, time-major.

    Args:
        inputs: (time, batch, units), or a dict of such arrays for a network with several inputs.
        targets: (time, batch, outputs) real values; (time, batch) classes at every step; (batch,) classes of whole
            trials. A dict of these for a network with several outputs. None where nothing is asked.
        mask: (time, batch) or (time, batch, outputs) weights of the loss at each step. It weights the loss only.
        lengths: (batch,) number of valid steps of each trial. Loss, rates, counts, means and metrics count valid
            steps alone. None: all steps.
    """

    inputs: PyTree[Num[Array, "time batch units"]]
    targets: PyTree[Shaped[Array, "..."]] = None
    mask: Float[Array, "time batch ..."] | None = None
    lengths: Int[Array, " batch"] | None = None

    def __check_init__(self) -> None:
        first = self._first()
        ndim = getattr(first, "ndim", None)
        if ndim is not None and ndim < 3:
            raise ArgumentError(f"Trial inputs must be (time, batch, units), got shape {first.shape}.")

    def _first(self) -> Array:
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

    def replace(self, **changes: object) -> "Trial":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)
