"""Files of a run. Each is written beside its place and then moved there, so that a reader never sees half of one.

Arrays are stored as safetensors, under their path in the tree ("projections/input->hidden/weight"), with facts about
them as JSON in the header. Nothing is ever unpickled.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._files import write
from ..errors import DataError

Tree = TypeVar("Tree")
# Raised whenever older programs could not make sense of a new file.
FORMAT = 1


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document."""
    write(path, (dumps(content, indent=2) + "\n").encode())


def write_lines(path: Path, entries: Iterable[Any]) -> None:
    """Write one JSON document a line."""
    write(path, "".join(dumps(entry) + "\n" for entry in entries).encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """One JSON document.

    Raises:
        DataError: the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}).") from error


def read_lines(path: str | os.PathLike[str]) -> list[Any]:
    """One JSON document a line.

    Raises:
        DataError: the file cannot be read, or a line is no JSON.
    """
    try:
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as lines of JSON ({error}).") from error


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


def write_arrays(path: Path, tree: PyTree, facts: Mapping[str, Any] | None = None) -> None:
    """Write every array of a tree to a safetensors file, and `facts` (plain JSON) into its header."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in _arrays(tree)}
    header = {"format": FORMAT, "sha256": _digest(arrays), "facts": dict(facts or {})}
    write(path, save(arrays, metadata={"engrax": dumps(header)}))


def read_arrays(path: str | os.PathLike[str], like: Tree) -> tuple[Tree, dict[str, Any]]:
    """A tree like `like` with the arrays of a file that `write_arrays` wrote, and the file's facts.

    Raises:
        DataError: the file cannot be read, is damaged, is not ours or of a newer format, or lacks an array, or has
            one of another shape or type.
    """
    found, facts = _read(path)
    values = []
    for name, old in _arrays(like):
        new = found.get(name)
        if new is None or new.shape != old.shape or new.dtype != old.dtype:
            what = "is missing" if new is None else f"is {new.dtype} {new.shape}"
            raise DataError(f"{path}: the array {name!r} {what}; expected {old.dtype} {old.shape}.")
        values.append(new)
    arrays, rest = eqx.partition(like, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    fresh = [_as(old, new) for old, new in zip(leaves, values)]
    return eqx.combine(jax.tree.unflatten(structure, fresh), rest), facts


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts of a file that `write_arrays` wrote, its arrays checked too.

    Raises:
        DataError: as for `read_arrays`.
    """
    return _read(path)[1]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("engrax")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read as a safetensors file ({error}).") from error
    try:
        header = json.loads(text or "")
        version, digest, facts = int(header["format"]), header["sha256"], dict(header["facts"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} was not written by Engrax: its header does not say what the arrays are.") from error
    if version > FORMAT:
        raise DataError(f"{path} has format {version}; this version of Engrax reads up to {FORMAT}. Update Engrax.")
    if digest != _digest(arrays):
        raise DataError(f"{path} is damaged: its arrays are not those that were written.")
    return arrays, facts


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _arrays(tree: PyTree) -> list[tuple[str, np.ndarray]]:
    leaves = jax.tree.leaves_with_path(eqx.filter(tree, eqx.is_array))
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return [(name, np.asarray(_numbers(leaf))) for name, (_, leaf) in zip(names, leaves)]


def _numbers(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _as(old: jax.Array, new: np.ndarray) -> jax.Array:
    fresh = jnp.asarray(new)
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(fresh, impl=jax.random.key_impl(old))
    return fresh
