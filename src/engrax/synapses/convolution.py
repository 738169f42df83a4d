"""Convolutions: one small kernel at every place of an image, and pooling, whose kernel is fixed and the mean.

    I[o, y, x] = sum over c, i, j of  weight[o, c, i, j]  pre[c, stride y + i - top, stride x + j - left]

Units are images (channels, height, width) in C order. The way back of errors and the kernel's gradient are
convolutions, too, with time and batch as one axis. Synapses that share a weight have none of their own: local
rules have an offline form only.
"""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ArgumentError, NetworkError, unknown
from ..events import Events
from .initializers import draw
from .projection import Projection

PADDINGS = ("valid", "same")


class Convolution(Projection):
    """Projection through one kernel that is moved over the source's image (a cross-correlation, not flipped).

    Args:
        shape: (channels, height, width) of the source, which has as many units, in C order.
        channels: of the target, which has channels x height x width units as `output_shape` says, in C order.
        kernel: its height and width, or one number for both.
        stride: places that it moves by, down and to the right, or one number for both.
        padding: "valid" keeps it inside of the image; "same" puts zeros around, as many as make the target's height
            and width the source's divided by the stride, rounded up (an odd one goes below and to the right).
        weight: (channels, source channels, kernel height, kernel width) array; None draws it.
        bias: True adds one number a channel of the target (zeros), an array sets them.
        init: initialiser's name or function `(key, shape, dtype)`, given the kernel as a matrix: (channels, source
            channels x height x width).
        pre, post and the rest: as for `Projection`. `post` may be a port, but not all ports of a population together.

    Raises:
        ArgumentError: sizes that are no numbers from 1 on, a kernel larger than the image that it must stay inside of,
            `autapses=False`.
        NetworkError: at the network: source or target do not have as many units; the message says how many.

    Source: LeCun et al. 1989.
    """

    matrix: ClassVar[bool] = False

    shape: tuple[int, int, int] = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    kernel: tuple[int, int] = eqx.field(static=True)
    stride: tuple[int, int] = eqx.field(static=True)
    padding: str = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        *,
        shape: Any,
        channels: int,
        kernel: Any,
        stride: Any = 1,
        padding: str = "valid",
        **options: Any,
    ) -> None:
        super().__init__(pre, post, **options)
        what = f"projection {self.name!r}"
        channel, height, width = _sizes(f"{what}: shape", shape, 3)
        (self.channels,) = _sizes(f"{what}: channels", channels, 1)
        rows, columns = _sizes(f"{what}: kernel", kernel, 2)
        down, right = _sizes(f"{what}: stride", stride, 2)
        self.shape, self.kernel, self.stride = (channel, height, width), (rows, columns), (down, right)
        if padding not in PADDINGS:
            raise unknown(f"padding of {what}:", padding, PADDINGS)
        self.padding = padding
        if padding == "valid" and (rows > height or columns > width):
            raise ArgumentError(
                f"{what}: a kernel of {rows} x {columns} does not fit into an image of {height} x {width}: make it "
                "smaller, or use padding='same'."
            )
        if not self.autapses:
            raise ArgumentError(f"{what}: autapses=False has no meaning: no weight of a convolution is one unit's own.")

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the target."""
        sizes = zip(self.shape[1:], self.kernel, self.stride, strict=True)
        height, width = (-(-n // s) if self.padding == "same" else (n - k) // s + 1 for n, k, s in sizes)
        return self.channels, height, width

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight: (channels, source channels, kernel height, kernel width)."""
        return self.channels, self.shape[0], *self.kernel

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        what = f"projection {self.name!r}"
        if len(shape) > 2:
            raise NetworkError(f"{what}: a convolution reaches one current: name a port of {self.post!r}, one each.")
        for name, size, image in ((self.pre, shape[1], self.shape), (self.post, shape[0], self.output_shape)):
            if size != math.prod(image):
                raise NetworkError(
                    f"{what}: {name!r} must have {' x '.join(map(str, image))} = {math.prod(image)} units (channels x "
                    f"height x width), it has {size}."
                )
        weight = self.weight
        if not self.given:
            if key is None:
                raise NetworkError(f"{what} has no weight: give weight=, or key= to the network.")
            channels, *others = self.kernel_shape
            weight = draw(self.init, key, (channels, math.prod(others)), dtype).reshape(self.kernel_shape)
        assert weight is not None
        if weight.shape != self.kernel_shape:
            raise NetworkError(
                f"{what}: weight must have shape {self.kernel_shape} (channels, source channels, kernel height, kernel "
                f"width), got {weight.shape}."
            )
        bias = self.bias if self.bias_given else (jnp.zeros(self.channels, dtype) if self.has_bias else None)
        if bias is not None and bias.shape != (self.channels,):
            raise NetworkError(f"{what}: bias must have shape {(self.channels,)}, one a channel, got {bias.shape}.")
        return self.replace(weight=weight.astype(dtype), bias=None if bias is None else bias.astype(dtype))

    def effective_bias(self) -> Float[Array, " post"] | None:
        if self.bias is None:
            return None
        return jnp.repeat(self.bias, math.prod(self.output_shape[1:]), total_repeat_length=math.prod(self.output_shape))

    def fan_out(self, weight: Array) -> Array:
        return weight

    def drive(self, fan: Array, pre: Float[Array, "... pre"] | Events) -> Float[Array, "*current"]:
        if isinstance(pre, Events):
            return jax.lax.map(lambda step: self.drive(fan, step.dense(fan.dtype)), pre)
        made = _convolved(self._images(pre, fan), jnp.transpose(fan, (2, 3, 1, 0)), self.stride, self._pads())
        return jnp.moveaxis(made, -1, 1).reshape(*pre.shape[:-1], math.prod(self.output_shape))

    def transpose(self, weight: Array, delta: Float[Array, "*current"]) -> Float[Array, "... pre"]:
        sizes = zip(self.shape[1:], self.output_shape[1:], self.kernel, self.stride, self._pads(), strict=True)
        pads = [(k - 1 - low, n - 1 - (m - 1) * s + low) for n, m, k, s, (low, _) in sizes]
        turned = jnp.transpose(weight[:, :, ::-1, ::-1], (2, 3, 0, 1))
        made = _convolved(self._deltas(delta, weight), turned, (1, 1), pads, spread=self.stride)
        return jnp.moveaxis(made, -1, 1).reshape(*delta.shape[:-1], math.prod(self.shape))

    def gradient(self, delta: Float[Array, "time batch post"], pre: Any) -> Array:
        kernel = jax.ShapeDtypeStruct(self.kernel_shape, delta.dtype)
        if isinstance(pre, Events):
            add = lambda sum, xs: (sum + self.gradient(xs[0][None], xs[1].dense(delta.dtype)[None]), None)
            return jax.lax.scan(add, jnp.zeros(kernel.shape, kernel.dtype), (delta, pre))[0]
        # Channels of the source are the images of this convolution, time and batch its channels.
        sizes = zip(self.shape[1:], self.output_shape[1:], self.kernel, self.stride, self._pads(), strict=True)
        pads = [(low, k + (m - 1) * s - n - low) for n, m, k, s, (low, _) in sizes]
        images = jnp.transpose(self._images(pre, kernel), (3, 1, 2, 0))
        moved = jnp.transpose(self._deltas(delta, kernel), (1, 2, 0, 3))
        return jnp.transpose(_convolved(images, moved, (1, 1), pads, apart=self.stride), (3, 0, 1, 2))

    def _pads(self) -> list[tuple[int, int]]:
        """Zeros before and behind an image, down and to the right."""
        return jax.lax.padtype_to_pads(self.shape[1:], self.kernel, self.stride, self.padding.upper())

    def _images(self, pre: Array, kernel: Any) -> Array:
        """Units as images, channels last; for a kernel of one channel, which pooling has, each channel is an image."""
        return jnp.moveaxis(pre.reshape(-1, kernel.shape[1], *self.shape[1:]), 1, -1)

    def _deltas(self, delta: Array, kernel: Any) -> Array:
        return jnp.moveaxis(delta.reshape(-1, kernel.shape[0], *self.output_shape[1:]), 1, -1)

    def unfold(self, weight: Any) -> None:
        return None

    def connections(self) -> Float[Array, " pre"]:
        return self.transpose(jnp.ones(self.kernel_shape), jnp.ones(math.prod(self.output_shape)))


def _convolved(images: Array, kernel: Array, stride: Any, pads: Any, spread: Any = None, apart: Any = None) -> Array:
    """Convolution with channels last, the one order that XLA has fast code for inside a loop on a CPU."""
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, stride, pads, spread, apart, dimension_numbers=order)


class AveragePool(Convolution):
    """Projection without a trained weight: the mean over a window, of each channel by itself.

    Spikes that were pooled reach a readout through a population without state (`neurons.Relay`), which a dense
    projection leaves.

    Args:
        shape: (channels, height, width) of the source, which has as many units, in C order.
        window: its height and width, or one number for both.
        stride: places that it moves by, down and to the right, or one number for both; None: as wide as the window.
        padding: "valid" or "same", as for `Convolution`; the zeros around an image count in the mean.
        delay, reverse, name: as for `Projection`.

    Raises:
        ArgumentError, NetworkError: as for `Convolution`.
    """

    def __init__(
        self,
        pre: str,
        post: str,
        *,
        shape: Any,
        window: Any,
        stride: Any = None,
        padding: str = "valid",
        delay: int | None = None,
        reverse: bool = False,
        name: str | None = None,
    ) -> None:
        sizes = {"kernel": window, "stride": window if stride is None else stride}
        ends = {"delay": delay, "reverse": reverse, "name": name}
        super().__init__(pre, post, shape=shape, channels=1, padding=padding, trainable=False, **sizes, **ends)
        self.channels = self.shape[0]

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight: (1, 1, window height, window width)."""
        return 1, 1, *self.kernel

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        mean = self.replace(weight=jnp.full(self.kernel_shape, 1 / math.prod(self.kernel), dtype), given=True)
        assert isinstance(mean, AveragePool)
        return super(AveragePool, mean).build(key, shape, dtype)


def _sizes(what: str, x: Any, count: int) -> tuple[int, ...]:
    """`count` integers from 1 on; one number stands for two that are equal."""
    given = tuple(x) if isinstance(x, list | tuple) else (x,) * min(count, 2)
    if len(given) != count or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in given):
        wanted = {1: "an integer from 1 on", 2: "one or two integers from 1 on", 3: "(channels, height, width)"}[count]
        raise ArgumentError(f"{what} must be {wanted}, got {x!r}.")
    return tuple(int(n) for n in given)
