"""Files of a run. Each is written beside its place and then moved there, so that a reader never sees half of one."""

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..errors import DataError

Tree = TypeVar("Tree")


def write(path: Path, content: bytes) -> None:
    """Replace the file at `path`: all of `content` or nothing."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document."""
    write(path, (dumps(content, indent=2) + "\n").encode())


def write_lines(path: Path, entries: Iterable[Any]) -> None:
    """Write one JSON document a line."""
    write(path, "".join(dumps(entry) + "\n" for entry in entries).encode())


def dumps(content: Any, indent: int | None = None) -> str:
    """JSON text; numbers that JSON lacks (NaN, infinities) become null."""
    return json.dumps(_plain(content), indent=indent, allow_nan=False)


def _plain(x: Any) -> Any:
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    if isinstance(x, np.generic | np.ndarray | jax.Array):
        return _plain(np.asarray(x).tolist())
    if isinstance(x, float) and not np.isfinite(x):
        return None
    return str(x) if isinstance(x, os.PathLike) else x


def write_arrays(path: Path, tree: PyTree) -> None:
    """Write every array of a tree to an .npz file, under its path, such as "projections/input->hidden/weight"."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(_arrays(tree)))
    write(path, buffer.getvalue())


def read_arrays(path: str | os.PathLike[str], like: Tree) -> Tree:
    """A tree like `like`, with the arrays of a file that `write_arrays` wrote.

    Raises:
        DataError: the file cannot be read, or lacks an array, or has one of another shape or type.
    """
    try:
        # Opened here, because np.load leaves a file open that it cannot read.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as arrays of a network ({error}).") from error
    values = []
    for name, old in _arrays(like):
        new = found.get(name)
        if new is None or new.shape != old.shape or new.dtype != old.dtype:
            what = "is missing" if new is None else f"is {new.dtype} {new.shape}"
            raise DataError(f"{path}: the array {name!r} {what}; expected {old.dtype} {old.shape}.")
        values.append(new)
    arrays, rest = eqx.partition(like, eqx.is_array)
    fresh = [jnp.asarray(v) for v in values]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), fresh), rest)


def _arrays(tree: PyTree) -> list[tuple[str, np.ndarray]]:
    leaves = jax.tree.leaves_with_path(eqx.filter(tree, eqx.is_array))
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(leaf)) for path, leaf in leaves]
