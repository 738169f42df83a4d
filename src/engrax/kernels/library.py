"""The native library of products, where it was built: found, registered with XLA, and asked for by kind and type.

ENGRAX_EVENTS in the environment decides about it: "off" (the default: every product is XLA's), "auto" (zeros are
skipped where they are many), "on" (always). It is read when JAX traces, so it is to be set before.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..errors import ArgumentError, unknown

_KINDS = ("rows", "columns", "ahead", "back")
_TYPES = {jnp.dtype("float32"): "f32", jnp.dtype("float64"): "f64"}
_SUFFIXES = (".so", ".dylib", ".dll")
MODES = ("off", "auto", "on")


def mode() -> str:
    """What ENGRAX_EVENTS asks for.

    Raises:
        ArgumentError: it is none of `MODES`, or "on" without a library.
    """
    asked = os.environ.get("ENGRAX_EVENTS", "off")
    if asked not in MODES:
        raise unknown("value of ENGRAX_EVENTS", asked, MODES)
    if asked == "on" and not load():
        raise ArgumentError(
            "ENGRAX_EVENTS=on, but Engrax was installed without its native library: install a C++ compiler, then "
            "Engrax again, or use ENGRAX_EVENTS=off."
        )
    return asked


@functools.cache
def load() -> bool:
    """Load the library and register its functions; False where the package was installed without it."""
    here = Path(__file__).parent
    found = [path for suffix in _SUFFIXES for path in sorted(here.glob(f"*engrax_kernels{suffix}"))]
    if not found:
        return False
    functions = ctypes.cdll.LoadLibrary(str(found[0]))
    for kind in _KINDS:
        for short in _TYPES.values():
            name = f"engrax_{kind}_{short}"
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(functions, name)), platform="cpu")
    return True


def target(kind: str, dtype: Any) -> str | None:
    """The name of a product's foreign function for numbers of a type; None where there is none, or it is not wanted."""
    short = _TYPES.get(jnp.dtype(dtype))
    return f"engrax_{kind}_{short}" if short and mode() != "off" and load() else None
