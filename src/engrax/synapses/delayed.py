"""Delays that learn: a real number of steps d, one for each synapse or one for each presynaptic unit.

A delay reads its source through taps, one a step, whose shares are a Gaussian around it, normalised over the taps:

    g_k(d) = exp(-(k - d)^2 / 2 sigma^2) / sum over l of exp(-(l - d)^2 / 2 sigma^2),   k, l = least ... max_delay
    I_j(t) = sum over i, k of  w_ji g_k(d_ji) x_i(t - k)        (one a synapse)
    I_j(t) = sum over i of  w_ji  sum over k of g_k(d_i) x_i(t - k)        (one an axon)

so that the current is differentiable by d. A wide Gaussian feels events that are far from where a delay stands, a
narrow one is a delay; its width sigma falls while a network is trained (Hammouamri, Khalfaoui-Hassani & Masquelier
2024). With one tap for each delay they are what `delay=` does.

Graded outputs have values between their steps: with kernel="linear" a delay reads on the straight line between its two
neighbours, g_k(d) = max(0, 1 - |k - d|), and its slope is that of what it reads (Pearlmutter 1989's mutable delays).

Taps are kept in the order of a history, oldest first: tap r reads max_delay - r steps back.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._checks import finite
from ..errors import ArgumentError, NetworkError, unknown
from .projection import Projection, _array, drive, fan_out, outer, transpose

# So narrow that the taps beside a whole delay underflow to nothing, in either precision.
EXACT = 0.01


class Filtered(NamedTuple):
    """What acts where delays are of axons: a weight behind taps, and each presynaptic unit's taps (taps, pre)."""

    weight: Array
    taps: Array


class Delayed(Projection):
    """All-to-all projection with a delay for each synapse, which learns as its weight does.

    Args:
        max_delay: the longest delay, steps.
        delays: steps, a number or an array (post, pre), (ports, post, pre) onto all ports; None draws them evenly
            between the shortest and the longest.
        sigma: width of the Gaussian, steps, in the end.
        anneal: updates over which the width falls to `sigma`, by the same factor each; 0: it is `sigma` from the start.
        sigma_start: the width before the first of them; None: half of `max_delay`, as published.
        kernel: "gaussian", or "linear" between the two steps around a delay, for outputs that change slowly; it has no
            width.
        delay: the shortest delay, steps; None: 1 within a strongly connected component, else 0.
        pre, post and the rest: as for `Projection`, but for `reverse`.

    Attributes:
        delays: they train where the projection does; `optim.multiply({"delays": 100.0})` gives them a learning rate of
            their own, as published, and 0 keeps them.
        sigma: the present width, which does not train.

    `net.constrain(key)`, which follows each update, puts delays back between the shortest and the longest, and with a
    key narrows the Gaussian. `net.round()` makes them whole steps.

    Cost of a run: as of max_delay - delay + 1 dense projections. The meter bills a network with whole delays: an event
    costs an accumulate for each synapse. JAX steps a population that it reaches, native loops do not.

    Raises:
        ArgumentError: a value that an argument cannot have, `reverse=True`.
        NetworkError: at the network: the longest delay is not above the shortest, or a delay lies beyond them.

    Source: Hammouamri, Khalfaoui-Hassani & Masquelier 2024.
    """

    matrix: ClassVar[bool] = False
    learns: ClassVar[tuple[str, ...]] = ("weight", "delays", "bias")

    delays: Float[Array, "..."] | None
    sigma: Float[Array, ""] | None
    max_delay: int = eqx.field(static=True)
    anneal: int = eqx.field(static=True)
    widths: tuple[float, float] = eqx.field(static=True)
    kernel: str = eqx.field(static=True)
    delays_given: bool = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        *,
        max_delay: int,
        delays: Any = None,
        sigma: float = 0.5,
        anneal: int = 0,
        sigma_start: float | None = None,
        kernel: str = "gaussian",
        **options: Any,
    ) -> None:
        super().__init__(pre, post, **options)
        what = f"projection {self.name!r}"
        for argument, value, least in (("max_delay", max_delay, 1), ("anneal", anneal, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ArgumentError(f"{what}: {argument} must be an integer of at least {least}, got {value!r}.")
        if self.reverse:
            raise ArgumentError(f"{what}: it has delays, so it cannot read its source in reversed time.")
        if kernel not in ("gaussian", "linear"):
            raise unknown(f"{what}: kernel", kernel, ("gaussian", "linear"))
        if kernel == "linear" and (anneal or sigma != 0.5):
            raise ArgumentError(f"{what}: sigma= and anneal= are of kernel='gaussian'; kernel='linear' has no width.")
        self.max_delay, self.anneal, self.kernel = int(max_delay), int(anneal), kernel
        end = finite(f"{what}: sigma", sigma, 0, exclusive=True)
        if sigma_start is not None and not anneal:
            raise ArgumentError(f"{what}: sigma_start has no meaning without anneal=, the updates that it falls over.")
        start = max(end, max_delay / 2) if sigma_start is None else finite(f"{what}: sigma_start", sigma_start, end)
        self.widths = (start if anneal else end, end)
        self.sigma = None
        self.delays = None if delays is None else _array(f"{what}: delays", delays)
        self.delays_given = delays is not None

    @property
    def reach(self) -> int:
        return self.max_delay - (self.delay or 0)

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        what, least = f"projection {self.name!r}", self.delay or 0
        if self.reach < 1:
            raise NetworkError(
                f"{what}: max_delay = {self.max_delay} must be more than its shortest delay, which is {least}."
            )
        wanted = self._delays_shape(shape)
        if self.delays_given:
            assert self.delays is not None
            delays = jnp.broadcast_to(self.delays, wanted) if self.delays.ndim == 0 else self.delays
            if delays.shape != wanted:
                raise NetworkError(f"{what}: delays must have shape {wanted}, got {delays.shape}.")
            beyond = jnp.any((delays < least) | (delays > self.max_delay))
            if not isinstance(beyond, jax.core.Tracer) and bool(beyond):
                raise NetworkError(f"{what}: delays must lie between {least} and max_delay = {self.max_delay} steps.")
        elif key is None:
            raise NetworkError(f"{what} has no delays: give delays=, or key= to the network.")
        else:
            drawn = jax.random.fold_in(key, 4)
            delays = jax.random.uniform(drawn, wanted, dtype, float(least), float(self.max_delay))
        sigma = jnp.asarray(self.widths[0], dtype)
        return super(Delayed, self._with(delays=delays.astype(dtype), sigma=sigma)).build(key, shape, dtype)

    def _with(self, **changes: Any) -> "Delayed":
        copy = self.replace(**changes)
        assert isinstance(copy, Delayed)
        return copy

    def _delays_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _shares(self) -> Float[Array, "taps ..."]:
        """What each tap takes of its source, for every delay."""
        assert self.delays is not None and self.sigma is not None
        back = self.max_delay - jnp.arange(self.reach + 1).astype(self.delays.dtype)
        apart = back.reshape(-1, *[1] * self.delays.ndim) - self.delays[None]
        if self.kernel == "linear":
            return jnp.maximum(1 - jnp.abs(apart), 0)
        apart = apart / self.sigma
        return jax.nn.softmax(-apart * apart / 2, axis=0)

    def synapses(self) -> Float[Array, "*ports post pre"]:
        """The weights of the synapses, wherever their delays stand."""
        return super().effective()

    def effective(self) -> Any:
        """(taps, *ports, post, pre): the weight of each synapse at each tap."""
        return self.synapses()[None] * self._shares()

    def links(self) -> Bool[Array, "*ports post pre"]:
        assert self.weight is not None
        return self._with(weight=jnp.ones_like(self.weight)).synapses() != 0

    def fan_out(self, weight: Any) -> Any:
        return jax.vmap(fan_out)(weight)

    def drive(self, fan: Any, pre: Float[Array, "late batch pre"]) -> Float[Array, "time batch *current"]:
        steps = pre.shape[0] - self.reach
        if steps == 1:
            return drive(fan.reshape(-1, *fan.shape[2:]), _side_by_side(pre))[None]
        nothing = jnp.zeros((steps, pre.shape[1], *fan.shape[2:]), pre.dtype)
        return _slid(lambda total, one, x: total + drive(one, x), nothing, fan, pre, steps)

    def transpose(self, weight: Any, delta: Float[Array, "time batch *current"]) -> Float[Array, "late batch pre"]:
        if delta.shape[0] == 1:
            back = transpose(_unfolded(weight), delta[0])
            return jnp.moveaxis(back.reshape(back.shape[0], weight.shape[0], weight.shape[-1]), 1, 0)
        return self._returned(weight, delta, lambda one: transpose(one, delta))

    def gradient(self, delta: Float[Array, "time batch *current"], pre: Float[Array, "late batch pre"]) -> Any:
        firsts = jnp.arange(self.reach + 1)
        return jax.lax.map(lambda first: outer(delta, _from(pre, first, delta.shape[0])), firsts)

    def unfold(self, weight: Any) -> Float[Array, "*ports post seen"]:
        return _unfolded(weight)

    def _returned(self, taps: Array, delta: Array, each: Callable[[Array], Array]) -> Array:
        """What comes back by each tap, put where it was read: (reach + time, batch, pre)."""

        def add(total: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
            one, first = tap
            moved = _from(total, first, delta.shape[0]) + each(one)
            return jax.lax.dynamic_update_slice_in_dim(total, moved, first, 0), None

        nothing = jnp.zeros((self.reach + delta.shape[0], delta.shape[1], taps.shape[-1]), delta.dtype)
        return jax.lax.scan(add, nothing, (taps, jnp.arange(self.reach + 1)))[0]

    def constrain(self, key: PRNGKeyArray | None = None) -> "Projection":
        put = self if self.autapses else self._with(weight=self.synapses())
        assert put.delays is not None and self.sigma is not None
        put = put._with(delays=jnp.clip(put.delays, self.delay or 0, self.max_delay))
        start, end = self.widths
        if key is None or not self.anneal:
            return put
        narrower = jnp.maximum(self.sigma * (end / start) ** (1 / self.anneal), end)
        return put._with(sigma=jnp.minimum(self.sigma, narrower))

    def round(self) -> "Projection":
        """A copy with whole delays and one tap for each, as a chip holds them: what `delay=` does, synapse by synapse.

        Training it further moves weights alone: a tap that is alone has no slope.
        """
        assert self.delays is not None and self.sigma is not None
        return self.replace(delays=jnp.round(self.delays), sigma=jnp.full_like(self.sigma, EXACT))


class AxonDelayed(Delayed):
    """All-to-all projection with a delay for each presynaptic unit, which learns as its weights do.

    The activity of the source is filtered, unit by unit, and then multiplied by the weights: hardly dearer than without
    delays, in a recurrent projection, too.

    Args:
        delays: steps, a number or an array (pre,); None draws them evenly between the shortest and the longest.
        max_delay and the rest: as for `Delayed`.

    Raises:
        ArgumentError, NetworkError: as for `Delayed`.

    Source: Shrestha & Orchard 2018 (SLAYER), feed-forward; Queant et al. 2025 (DelRec), recurrent; here with the
        Gaussian of `Delayed`.
    """

    def _delays_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[-1:]

    def effective(self) -> Filtered:
        """The weight, and the taps (taps, pre)."""
        return Filtered(self.synapses(), self._shares())

    def fan_out(self, weight: Any) -> Filtered:
        return Filtered(fan_out(weight.weight), weight.taps)

    def drive(self, fan: Any, pre: Float[Array, "late batch pre"]) -> Float[Array, "time batch *current"]:
        return drive(fan.weight, self._filtered(fan.taps, pre))

    def transpose(self, weight: Any, delta: Float[Array, "time batch *current"]) -> Float[Array, "late batch pre"]:
        back = transpose(weight.weight, delta)
        if back.shape[0] == 1:
            return weight.taps[:, None] * back
        return self._returned(weight.taps, back, lambda tap: tap[None, None] * back)

    def gradient(self, delta: Float[Array, "time batch *current"], pre: Float[Array, "late batch pre"]) -> Any:
        acting = self.effective()
        back = transpose(acting.weight, delta)
        firsts = jnp.arange(self.reach + 1)
        taps = jax.lax.map(lambda first: jnp.sum(back * _from(pre, first, len(back)), axis=(0, 1)), firsts)
        return Filtered(outer(delta, self._filtered(acting.taps, pre)), taps)

    def unfold(self, weight: Any) -> Float[Array, "*ports post seen"]:
        taps = weight.taps.reshape(-1, *[1] * (weight.weight.ndim - 1), weight.taps.shape[-1])
        return _unfolded(weight.weight[None] * taps)

    def _filtered(self, taps: Array, pre: Array) -> Array:
        steps = pre.shape[0] - self.reach
        if steps == 1:
            return jnp.sum(taps[:, None] * pre, axis=0, keepdims=True)
        nothing = jnp.zeros((steps, *pre.shape[1:]), pre.dtype)
        return _slid(lambda total, tap, x: total + tap[None, None] * x, nothing, taps, pre, steps)


def windows(late: Float[Array, "late batch pre"], reach: int) -> Float[Array, "time batch seen"]:
    """What all taps read at each step, side by side, oldest first: taps x pre numbers."""
    steps = late.shape[0] - reach
    return jnp.concatenate([late[first : first + steps] for first in range(reach + 1)], axis=-1)


def _side_by_side(window: Float[Array, "taps batch pre"]) -> Float[Array, "batch seen"]:
    return jnp.moveaxis(window, 0, 1).reshape(window.shape[1], -1)


def _unfolded(weight: Float[Array, "taps *ports post pre"]) -> Float[Array, "*ports post seen"]:
    beside = jnp.moveaxis(weight, 0, -2)
    return beside.reshape(*beside.shape[:-2], math.prod(beside.shape[-2:]))


def _from(sequence: Array, first: Array, steps: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(sequence, first, steps)


def _slid(step: Callable[[Array, Any, Array], Array], nothing: Array, taps: Any, pre: Array, steps: int) -> Array:
    """`step(total, tap, what it reads)` of all taps, one after the other: no window is ever made."""

    def add(total: Array, tap: tuple[Any, Array]) -> tuple[Array, None]:
        return step(total, tap[0], _from(pre, tap[1], steps)), None

    return jax.lax.scan(add, nothing, (taps, jnp.arange(len(taps))))[0]
