"""Deltas: a signal beside its derivatives in time, smoothed as speech recognition has them."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..parameter import positive_integer


class Deltas(eqx.Module):
    """Channels, then their first derivatives, then their second, and so on.

    The derivative of order k is that of a polynomial of degree k fitted to the `width` samples around a step (at the
    ends: to the first or last ones), per step and power of k.

    Args:
        order: derivatives, 1 at least.
        width: samples, an odd number above `order`.

    Source: Savitzky & Golay 1964; with these defaults librosa's `feature.delta`, of which Yin et al. 2021 take the
    orders 1 and 2.
    """

    order: int = eqx.field(static=True)
    width: int = eqx.field(static=True)

    def __init__(self, order: int = 2, width: int = 9) -> None:
        self.order, self.width = positive_integer("Deltas: order")(order), positive_integer("Deltas: width")(width)
        if self.width % 2 == 0 or self.width <= self.order:
            raise ArgumentError(f"Deltas: width must be odd and above the order {order}, got {width}.")

    def __call__(self, x: Float[Array, "time *batch channels"]) -> Float[Array, "time *batch more"]:
        """(order + 1) times as many channels.

        Raises:
            ArgumentError: the signal has no axis for channels, or fewer steps than `width`.
        """
        if x.ndim < 2:
            raise ArgumentError("Deltas: a signal is (time, ..., channels); for a single channel give x[:, None].")
        if len(x) < self.width:
            raise ArgumentError(f"Deltas: a signal of {len(x)} steps is shorter than the width of {self.width}.")
        # SciPy's signals take a second to import, and most programs have no use for them.
        from scipy.signal import savgol_coeffs

        step = np.arange(len(x))
        first = np.clip(step - self.width // 2, 0, len(x) - self.width)
        # Without its first value a constant is zero, and so are then its derivatives, to the last bit.
        moved = x - jnp.broadcast_to(x[:1], x.shape)
        found = [x]
        for order in range(1, self.order + 1):
            table = [savgol_coeffs(self.width, order, order, pos=at, use="dot") for at in range(self.width)]
            weights = jnp.asarray(np.array(table)[step - first], x.dtype).reshape(
                len(x), self.width, *[1] * (x.ndim - 1)
            )
            seen = (jnp.broadcast_to(weights[:, j], x.shape) * moved[first + j] for j in range(self.width))
            found.append(sum(seen, start=jnp.zeros_like(x)))
        return jnp.concatenate(found, axis=-1)
