"""A projection: presynaptic activity, some steps ago, times an effective weight, becomes postsynaptic current.

The effective weight is a function of the projection's own arrays (`effective`), and everything a rule needs is linear
in it: the drive, its transpose, and the weight gradient from delta = dE/dI, which is one product over time x batch.
Engines reach these through the projection's methods, so that a kind whose weight is no matrix brings its own.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..errors import ArgumentError, NetworkError
from ..events import Events
from ..kernels import columns, rows
from .initializers import Initializer, as_initializer, draw


class Projection(eqx.Module):
    """Base of projections. A subclass may override `effective` (and `build`, to make its arrays).

    One whose current is no matrix times what its source sent at one step sets `matrix = False` and overrides `drive`,
    `transpose`, `gradient` and `connections`, too: it is stepped by JAX. It has an online form if it says by `unfold`
    what each synapse's weight is.

    One that sees its source at several steps says by `reach` how many more than one. What it sees is then a sequence
    (reach + time, batch, pre), oldest first, which makes a current (time, batch, post), and back.

    Args:
        pre: name of the presynaptic population or input.
        post: name of the postsynaptic population, or "population.port" for one of its currents.
        weight: (post, pre) array, (ports, post, pre) onto all ports of a population with ports; None draws it.
        bias: True adds a bias (zeros), an array sets it.
        delay: steps; 0 reads this step's output, d the output of d steps ago. None: 1 within a strongly connected
            component, else 0.
        reverse: read the source from the last step of a run to the first, as bidirectional networks do (Schuster &
            Paliwal 1997). Not within a strongly connected component, nor with a delay.
        init: initialiser's name, a table of `name` and `scale`, or a function `(key, shape, dtype)`.
        autapses: False keeps every unit's synapse onto itself at zero.
        trainable: whether rules and optimisers move its arrays.
        name: key in `net.projections`; None: "pre->post".

    Class attributes:
        matrix: whether the current is (post, pre) numbers, one for each synapse, times the source's output at one step.
        learns: names of the arrays that train; all but the bias say what acts through `effective`.
    """

    matrix: ClassVar[bool] = True
    learns: ClassVar[tuple[str, ...]] = ("weight", "bias")

    pre: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Float[Array, "*ports post pre"] | None
    bias: Float[Array, "*ports post"] | None
    delay: int | None = eqx.field(static=True)
    reverse: bool = eqx.field(static=True)
    init: str | Initializer = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)
    trainable: bool = eqx.field(static=True)
    name: str = eqx.field(static=True)
    given: bool = eqx.field(static=True)
    has_bias: bool = eqx.field(static=True)
    bias_given: bool = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        *,
        weight: Any = None,
        bias: Any = False,
        delay: int | None = None,
        reverse: bool = False,
        init: str | Mapping[str, Any] | Initializer = "fan_in_normal",
        autapses: bool = True,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        for argument, value in (("pre", pre), ("post", post)):
            if not isinstance(value, str) or not value or value.endswith("."):
                raise ArgumentError(f"{argument} must be a population's name, got {value!r}.")
        self.pre, self.target = pre, post
        self.name = f"{pre}->{post}" if name is None else name
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentError(f"name must be a word, got {name!r}.")
        self.weight = None if weight is None else _array(f"projection {self.name!r}: weight", weight)
        self.given = weight is not None
        self.has_bias = bias is not False and bias is not None
        self.bias_given = self.has_bias and bias is not True
        if self.bias_given:
            self.bias = _array(f"projection {self.name!r}: bias", bias)
        else:
            self.bias = None
        if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int | np.integer) or delay < 0):
            raise ArgumentError(
                f"projection {self.name!r}: delay must be a number of steps >= 0 or None, got {delay!r}."
            )
        self.delay = None if delay is None else int(delay)
        self.init = as_initializer(init)
        for argument, flag in (("autapses", autapses), ("trainable", trainable), ("reverse", reverse)):
            if not isinstance(flag, bool):
                raise ArgumentError(f"projection {self.name!r}: {argument} must be True or False, got {flag!r}.")
        self.autapses, self.trainable, self.reverse = autapses, trainable, reverse

    @property
    def post(self) -> str:
        """Name of the postsynaptic population."""
        return self.target.partition(".")[0]

    @property
    def port(self) -> str | None:
        """Name of the one current it drives, or None."""
        return self.target.partition(".")[2] or None

    @property
    def reach(self) -> int:
        """How many steps before the one of `delay` it sees, too."""
        return 0

    @property
    def depth(self) -> int:
        """How many past outputs of its source it needs."""
        return (self.delay or 0) + self.reach

    def effective(self) -> Float[Array, "*ports post pre"]:
        """The weight that acts, as a function of the projection's own arrays."""
        assert self.weight is not None
        if self.autapses:
            return self.weight
        keep = 1 - jnp.eye(self.weight.shape[-2], self.weight.shape[-1], dtype=self.weight.dtype)
        return self.weight * jnp.broadcast_to(keep, self.weight.shape)

    def effective_bias(self) -> Float[Array, "*ports post"] | None:
        """The constant current that acts, one number a unit, as a function of the projection's own bias."""
        return self.bias

    def fan_out(self, weight: Array) -> Array:
        """An effective weight as `drive` reads it. To be made once, outside of a loop."""
        return fan_out(weight)

    def drive(self, fan: Array, pre: Float[Array, "... pre"] | Events) -> Float[Array, "*current"]:
        """Current (..., *ports, post) that `pre` causes, without the bias; `fan` is what `fan_out` made."""
        return drive(fan, pre)

    def transpose(self, weight: Array, delta: Float[Array, "*current"]) -> Float[Array, "... pre"]:
        """What `delta` on the current (..., *ports, post) is to the presynaptic output, through an effective weight."""
        return transpose(weight, delta)

    def gradient(self, delta: Float[Array, "time batch *ports post"], pre: Any) -> Array:
        """The gradient by the effective weight; `pre` is (time, batch, pre), an array or events."""
        return outer(delta, pre)

    def unfold(self, weight: Any) -> Float[Array, "*ports post seen"] | None:
        """An effective weight as a matrix of what is seen, `reach` + 1 steps side by side; None: it is none."""
        return weight  # type: ignore[no-any-return]

    def connections(self) -> Float[Array, " pre"]:
        """How many connections leave each presynaptic unit; each port counts."""
        links = self.links()
        return jnp.sum(links.reshape(-1, links.shape[-1]), axis=0).astype(jnp.result_type(float))

    def links(self) -> Bool[Array, "*ports post pre"]:
        """Where there is a connection, whatever its weight."""
        assert self.weight is not None
        return self.replace(weight=jnp.ones_like(self.weight)).effective() != 0

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        """A copy with all arrays in place: weight of `shape`, drawn with `key` unless it was given."""
        weight = self.weight
        if not self.given:
            if key is None:
                raise NetworkError(f"projection {self.name!r} has no weight: give weight=, or key= to the network.")
            weight = draw(self.init, key, shape, dtype)
        assert weight is not None
        if weight.shape != shape:
            raise NetworkError(
                f"projection {self.name!r}: weight must have shape {shape} (post, pre), got {weight.shape}."
            )
        bias = self.bias if self.bias_given else (jnp.zeros(shape[:-1], dtype) if self.has_bias else None)
        if bias is not None and bias.shape != shape[:-1]:
            raise NetworkError(f"projection {self.name!r}: bias must have shape {shape[:-1]}, got {bias.shape}.")
        if not self.autapses and shape[-1] != shape[-2]:
            raise NetworkError(
                f"projection {self.name!r}: autapses=False needs as many units before as after, got {shape}."
            )
        bias = None if bias is None else bias.astype(dtype)
        return self.replace(weight=weight.astype(dtype), bias=bias).constrain()

    def constrain(self, key: PRNGKeyArray | None = None) -> "Projection":
        """A copy with whatever its kind forbids put right (here: autapses are zero)."""
        return self if self.autapses else self.replace(weight=self.effective())

    def round(self) -> "Projection":
        """A copy with delays as a chip holds them, in whole steps."""
        return self

    def replace(self, **changes: Any) -> "Projection":
        """A copy with some fields changed, unchecked."""
        copy = object.__new__(type(self))
        for name in self.__dataclass_fields__:
            object.__setattr__(copy, name, changes.get(name, getattr(self, name)))
        return copy


class Dense(Projection):
    """All-to-all projection. Arguments as for `Projection`."""

    # Named here too, or type checkers take the fields for the arguments.
    __init__ = Projection.__init__


class Masked(Projection):
    """Projection through fixed connections only: weights elsewhere are zero and stay zero under every rule.

    Args:
        mask: (post, pre) array of 0 and 1, or "identity": each unit onto the one of its own number; or give `density`.
        density: share of connections drawn at random with the network's key, between 0 (excluded) and 1.
        pre, post and the rest: as for `Projection`.
    """

    mask: Float[Array, "post pre"] | None
    density: float | None = eqx.field(static=True)
    identity: bool = eqx.field(static=True)

    def __init__(self, pre: str, post: str, *, mask: Any = None, density: float | None = None, **options: Any) -> None:
        super().__init__(pre, post, **options)
        if (mask is None) == (density is None):
            raise ArgumentError(f"projection {self.name!r}: give either mask= or density=.")
        if density is not None and (
            isinstance(density, bool) or not isinstance(density, int | float) or not 0 < density <= 1
        ):
            raise ArgumentError(f"projection {self.name!r}: density must lie in (0, 1], got {density!r}.")
        if isinstance(mask, str) and mask != "identity":
            raise ArgumentError(f'projection {self.name!r}: mask must be of 0 and 1, or "identity", got {mask!r}.')
        self.identity = isinstance(mask, str)
        self.mask = None if mask is None or self.identity else _array(f"projection {self.name!r}: mask", mask)
        self.density = None if density is None else float(density)
        if self.mask is not None and not np.all(np.isin(np.asarray(self.mask), (0.0, 1.0))):
            raise ArgumentError(f"projection {self.name!r}: mask must hold 0 and 1 only.")

    def effective(self) -> Array:
        assert self.mask is not None
        weight = super().effective()
        return weight * jnp.broadcast_to(self.mask.astype(weight.dtype), weight.shape)

    def build(self, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: Any) -> "Projection":
        mask = self.mask
        # A weight that was given keeps its connections: they are zeros in it.
        if self.density is not None and not (self.given and mask is not None):
            if key is None:
                raise NetworkError(f"projection {self.name!r}: density needs key= at the network.")
            mask = jax.random.bernoulli(jax.random.fold_in(key, 1), self.density, shape[-2:]).astype(dtype)
        if self.identity:
            if shape[-1] != shape[-2]:
                raise NetworkError(
                    f'projection {self.name!r}: mask="identity" needs as many units before as after, got {shape[-2:]} '
                    "(post, pre)."
                )
            mask = jnp.eye(shape[-1], dtype=dtype)
        assert mask is not None
        if mask.shape != shape[-2:]:
            raise NetworkError(
                f"projection {self.name!r}: mask must have shape {shape[-2:]} (post, pre), got {mask.shape}."
            )
        return Projection.build(self.replace(mask=mask.astype(dtype)), key, shape, dtype)

    def constrain(self, key: PRNGKeyArray | None = None) -> "Projection":
        return self.replace(weight=self.effective())


def _array(what: str, x: Any) -> Array:
    try:
        value = jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{what} must be an array of numbers, got {x!r}.") from error
    if not jnp.issubdtype(value.dtype, jnp.floating):
        if not (jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == bool):
            raise ArgumentError(f"{what} must be an array of real numbers, got dtype {value.dtype}.")
        value = value.astype(jnp.result_type(float))
    if not isinstance(value, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(value))):
        raise ArgumentError(f"{what} must be finite.")
    return value


def fan_out(weight: Float[Array, "*ports post pre"]) -> Float[Array, "pre *ports post"]:
    """A weight by presynaptic unit: what a spike of each adds to the currents. To be made once, outside of a loop."""
    return jnp.moveaxis(weight, -1, 0)


def drive(fan: Float[Array, "pre *ports post"], pre: Float[Array, "... pre"] | Events) -> Float[Array, "*current"]:
    """Current that `pre` causes through a weight's `fan_out`. Of events (time, batch) there is a raster of one step."""
    if isinstance(pre, Events):
        return jax.lax.map(lambda step: drive(fan, step.dense(fan.dtype)), pre)
    return rows(_flat(pre), fan.reshape(fan.shape[0], -1)).reshape(*pre.shape[:-1], *fan.shape[1:])


def transpose(weight: Array, delta: Float[Array, "*current"]) -> Float[Array, "... pre"]:
    """The drive's transpose: what `delta` on the current is to the presynaptic output."""
    ends = weight.ndim - 1
    flat = delta.reshape(math.prod(delta.shape[:-ends]), math.prod(delta.shape[-ends:]))
    return rows(flat, _flat(weight)).reshape(*delta.shape[:-ends], weight.shape[-1])


def outer(delta: Float[Array, "time batch *ports post"], pre: Float[Array, "time batch pre"] | Events) -> Array:
    """The weight gradient: sum over time and batch of delta times pre, as one product; of events, one a step."""
    if isinstance(pre, Events):
        zero = jnp.zeros((*delta.shape[2:], pre.units), delta.dtype)
        add = lambda sum, xs: (sum + outer(xs[0][None], xs[1].dense(delta.dtype)[None]), None)
        return jax.lax.scan(add, zero, (delta, pre))[0]
    flat = delta.reshape(math.prod(delta.shape[:2]), math.prod(delta.shape[2:]))
    return columns(_flat(pre), flat).T.reshape(*delta.shape[2:], pre.shape[-1])


def _flat(x: Array) -> Array:
    """As a matrix whose columns are the last axis."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
