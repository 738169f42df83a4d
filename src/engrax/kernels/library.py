"""The native library, where it was built: found, registered with XLA, and asked for by kind and type.

ENGRAX_EVENTS in the environment decides about it: "auto" (the default: loops are native, and products skip zeros where
these are many), "off" (everything is XLA's), "on" (products always skip them). It is read when JAX traces, so it is to
be set before.

ENGRAX_PRECISION, read at the same time, is that of recurrent products in kernels for GPUs: "float32" or "bfloat16".
"""

import ctypes
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import ArgumentError, unknown

_KINDS = ("rows", "columns", "weighted", "list", "ahead", "back")
_TYPES = {jnp.dtype("float32"): "f32", jnp.dtype("float64"): "f64"}
_SUFFIXES = (".so", ".dylib", ".dll")
MODES = ("off", "auto", "on")
PRECISIONS = ("float32", "bfloat16")
_LOOPS: ContextVar[bool] = ContextVar("loops", default=True)


def mode() -> str:
    """What ENGRAX_EVENTS asks for.

    Raises:
        ArgumentError: it is none of `MODES`, or "on" without a library.
    """
    asked = os.environ.get("ENGRAX_EVENTS", "auto")
    if asked not in MODES:
        raise unknown("value of ENGRAX_EVENTS", asked, MODES)
    if asked == "on" and jax.default_backend() == "cpu" and not load():
        raise ArgumentError(
            "ENGRAX_EVENTS=on, but Engrax was installed without its native library: install a C++ compiler, then "
            "Engrax again, or use ENGRAX_EVENTS=off."
        )
    return asked


def precision() -> str:
    """What ENGRAX_PRECISION asks for.

    Raises:
        ArgumentError: it is none of `PRECISIONS`.
    """
    asked = os.environ.get("ENGRAX_PRECISION", "float32")
    if asked not in PRECISIONS:
        raise unknown("value of ENGRAX_PRECISION", asked, PRECISIONS)
    return asked


def built() -> Path | None:
    """The library's file; None where the package was installed without it."""
    here = Path(__file__).parent
    return next((path for suffix in _SUFFIXES for path in sorted(here.glob(f"*engrax_kernels{suffix}"))), None)


@functools.cache
def load() -> bool:
    """Load the library and register its functions; False, with a warning, where it does not fit this system or JAX."""
    path = built()
    if path is None:
        return False
    try:
        functions = ctypes.cdll.LoadLibrary(str(path))
        for kind in _KINDS:
            for short in _TYPES.values():
                name = f"engrax_{kind}_{short}"
                jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(functions, name)), platform="cpu")
    except (OSError, AttributeError, jax.errors.JaxRuntimeError) as error:
        warnings.warn(
            f"{path.name} cannot be used, so all is left to XLA: {error}. Install Engrax again.", stacklevel=2
        )
        return False
    return True


def loops() -> bool:
    """Whether native loops may be used here: not while JAX differentiates, which they cannot be."""
    return _LOOPS.get()


@contextmanager
def _without_loops() -> Iterator[None]:
    token = _LOOPS.set(False)
    try:
        yield
    finally:
        _LOOPS.reset(token)


def differentiable(function: Callable[[Any], Any], arguments: Any) -> Any:
    """`function(arguments)`, by native loops where they are; JAX differentiates what it is without them.

    arguments: a tree; what is no array in it is constant.
    """
    if not loops():
        return function(arguments)
    arrays, rest = eqx.partition(arguments, eqx.is_array)
    call = lambda x: function(eqx.combine(x, rest))

    def scanned(primals: Any, tangents: Any) -> Any:
        with _without_loops():
            return jax.jvp(call, primals, tangents)

    run = jax.custom_jvp(call)
    run.defjvp(scanned)
    return run(arrays)


def target(kind: str, dtype: Any) -> str | None:
    """The name of a product's foreign function for numbers of a type; None where there is none, or it is not wanted."""
    short = _TYPES.get(jnp.dtype(dtype))
    return f"engrax_{kind}_{short}" if short and mode() != "off" and load() else None
