"""`engrax doctor`: what this installation has, which path its networks take, and what would make it faster."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from .app import app, failing
from .evaluate import Json

_CORE = ("jax", "jaxlib", "equinox", "optax", "numpy")


@app.command(epilog="Example: engrax doctor")
def doctor(as_json: Json = False) -> None:
    """What is installed, where networks run, and what to do where something is missing.

    Exit code 1 where something does not work, 0 where it only might be faster.
    """
    with failing():
        found = examine()
        if as_json:
            typer.echo(json.dumps(found))
        else:
            _print(found)
        if found["broken"]:
            raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """What `engrax doctor` prints: versions, devices, native (the loops' path), data, advice, broken."""
    import warnings

    import jax
    import jax.numpy as jnp

    from .. import __version__, kernels
    from ..kernels.library import built
    from ..kernels.loops import on_gpu

    advice: list[str] = []
    broken: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded = kernels.load()
    path = built()
    try:
        mode = kernels.mode()
    except Exception as error:
        mode, broken = "unknown", [str(error)]
    backend = jax.default_backend()
    if path is None and backend == "cpu":
        advice.append(
            "No native library: networks run by JAX's loops, several times as slow on a CPU. Install a compiler "
            "and then Engrax again."
        )
    elif path is not None and not loaded:
        broken += [str(w.message) for w in told]
    elif loaded and mode == "off":
        advice.append("ENGRAX_EVENTS=off: the native library is there and not used. Unset it.")
    ways = {"cpu": loaded and mode not in ("off", "unknown"), "gpu": mode != "unknown" and on_gpu()}
    loops = {"cpu": "native loops", "gpu": "Triton kernels"}
    data = os.environ.get("ENGRAX_DATA")
    if data is not None and not Path(data).is_dir():
        broken.append(f"ENGRAX_DATA={data} is no folder.")
    return {
        "versions": {"engrax": __version__, "python": platform.python_version(), **_versions(_CORE)},
        "devices": [str(d) for d in jax.devices()],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "native": {
            "library": None if path is None else path.name,
            "loaded": loaded,
            "ENGRAX_EVENTS": mode,
            "path": loops[backend] if ways.get(backend) else "XLA",
        },
        "data": data,
        "precision": "64 bit" if jnp.result_type(float) == jnp.float64 else "32 bit",
        "advice": advice,
        "broken": broken,
    }


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _print(found: dict[str, Any]) -> None:
    native = found["native"]
    lines = {
        **found["versions"],
        "devices": ", ".join(found["devices"]),
        "cores": found["cores"],
        "precision": found["precision"],
        "native library": native["library"] or "none",
        "ENGRAX_EVENTS": native["ENGRAX_EVENTS"],
        "networks run by": native["path"],
        "ENGRAX_DATA": found["data"] or "not set: data sets are downloaded",
    }
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        typer.echo(f"{name:<{width}}  {value}")
    for text in found["advice"]:
        typer.echo(f"could be better: {text}")
    for text in found["broken"]:
        typer.echo(f"broken: {text}", err=True)
    if not found["advice"] and not found["broken"]:
        typer.echo("Everything is in order.")
