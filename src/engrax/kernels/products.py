"""Products whose left factor is mostly zeros, as JAX primitives: spikes times weights, errors times weights, and the
weight gradient.

    rows(a, b)     c[m, :] = sum over k of a[m, k] b[k, :]      a (..., M, K), b (..., K, N)
    columns(a, b)  c[k, :] = sum over m of a[m, k] b[m, :]      a (..., M, K), b (..., M, N)

They are `a @ b` and `a.T @ b` for any `a`. With ENGRAX_EVENTS=auto on a CPU with the native library the zeros of
`a` are skipped where they are many, which is measured at each call; elsewhere both are plain products. Both
differentiate in both modes and to any order, since each is bilinear and its transposes are products of the same kinds.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from ..errors import ArgumentError
from . import library

# The share of entries that are not zero up to which skipping the others is faster than a plain product.
DENSE = 0.25
# Fewer numbers than this to skip, or to skip at once, are not worth a call.
NARROW = 8
# Rows whose zeros are counted, spread over all.
LOOKED = 1024
# Multiplications of a product so small that to look first costs more than it saves.
SMALL = 1 << 20


def rows(a: Float[Array, "*groups m k"], b: Float[Array, "*groups k n"]) -> Float[Array, "*groups m n"]:
    """`a @ b`, skipping the zeros of `a`."""
    return _plain_rows(a, b) if library.mode() == "off" else _grouped(_rows, a, b)


def columns(a: Float[Array, "*groups m k"], b: Float[Array, "*groups m n"]) -> Float[Array, "*groups k n"]:
    """`a.T @ b`, skipping the zeros of `a`."""
    return _plain_columns(a, b) if library.mode() == "off" else _grouped(_columns, a, b)


def weighted(g: Float[Array, "trials n"], x: Float[Array, "trials k n"]) -> Float[Array, "k n"]:
    """The sum over trials of `g[:, None] * x`. JAX cannot differentiate it where it is native."""
    name = library.target("weighted", x.dtype) if library.loops() and jax.default_backend() == "cpu" else None
    if name is None or x.size == 0:
        return jnp.einsum("bn,bkn->kn", g, x)
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), vmap_method="sequential")
    return call(g, x)


def _grouped(primitive: Primitive, a: Array, b: Array) -> Array:
    groups = a.shape[:-2]
    count = math.prod(groups)
    found = primitive.bind(a.reshape(count, *a.shape[-2:]), b.reshape(count, *b.shape[-2:]))
    return found.reshape(*groups, *found.shape[1:])


def _swap(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def _plain_rows(a: Array, b: Array) -> Array:
    # A group of one is no group: products with a batch axis cost XLA copies.
    return jnp.matmul(a[0], b[0])[None] if a.shape[:-2] == (1,) else jnp.matmul(a, b)


def _plain_columns(a: Array, b: Array) -> Array:
    return _plain_rows(_swap(a), b)


def _skipping(kind: str, plain: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """The lowering on a CPU: the library's product, or the plain one where too few entries are zero."""
    shape = (a.shape[0], a.shape[1 if kind == "rows" else 2], b.shape[2])
    name = library.target(kind, a.dtype)
    if name is None or a.size == 0 or a.shape[2] < NARROW or b.shape[2] < NARROW:
        return plain(a, b)
    skip = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(shape, a.dtype))
    if library.mode() == "on" or a.shape[1] * a.shape[2] * b.shape[2] <= SMALL:
        return skip(a, b)
    looked = a[:, :: max(1, a.shape[1] // LOOKED)]
    return jax.lax.cond(jnp.count_nonzero(looked) <= int(DENSE * looked.size), skip, plain, a, b)


def _define(kind: str, plain: Callable[[Array, Array], Array], inner: int, outer: int) -> Primitive:
    primitive = Primitive(f"engrax_{kind}")

    def abstract(a: Any, b: Any) -> Any:
        # The native code reads as far as shapes tell it to.
        if a.dtype != b.dtype or a.shape[0] != b.shape[0] or a.shape[inner] != b.shape[1]:
            raise ArgumentError(f"kernels.{kind}: {a.str_short()} and {b.str_short()} do not fit together.")
        return jax.core.ShapedArray((a.shape[0], a.shape[outer], b.shape[2]), a.dtype)

    def batch(args: tuple[Array, Array], axes: tuple[Any, Any]) -> tuple[Array, int]:
        size = next(x.shape[d] for x, d in zip(args, axes) if d is not None)
        a, b = (_leading(x, d, size) for x, d in zip(args, axes))
        return _grouped(primitive, a, b), 0

    primitive.def_impl(jax.jit(primitive.bind))
    primitive.def_abstract_eval(abstract)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(partial(_skipping, kind, plain), multiple_results=False), platform="cpu"
    )
    return primitive


def _leading(x: Array, axis: int | None, size: int) -> Array:
    return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)


_rows = _define("rows", _plain_rows, inner=2, outer=1)
_columns = _define("columns", _plain_columns, inner=1, outer=2)
# The error of a product is itself mostly zeros where units do not spike and surrogates vanish: it is the left factor.
ad.defbilinear(_rows, lambda g, a, b: _rows.bind(g, _swap(b)), lambda g, a, b: _columns.bind(a, g))
ad.defbilinear(_columns, lambda g, a, b: _plain_rows(b, _swap(g)), lambda g, a, b: _rows.bind(a, g))
