"""Whatever a user hands over, the answer is a result or one of our errors: never a traceback of something inside."""

import contextlib
import copy
import io
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engrax as ex
from engrax.errors import DataError, EngraxError
from engrax.training.build import build
from engrax.training.recipe import FOLDER, parse, value_of
from engrax.training.store import read_arrays, write_arrays

pytestmark = pytest.mark.unchecked
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
RECIPE = tomllib.loads((FOLDER / "digits.toml").read_text())
RECIPE["network"]["populations"]["hidden"]["size"] = 5

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
    st.sampled_from(
        ["hidden", "readout", "input", "output", "zero", "leak", "symmetric", "bptt", "rows", "mse", "cosine"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any, at: tuple = ()) -> list[tuple]:
    """Paths of everything in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in items for path in [(*at, key), *places(value, (*at, key))]]


def damaged(tree: Any, path: tuple, kind: str, value: Any, word: str) -> Any:
    tree = copy.deepcopy(tree)
    inside = tree
    for key in path[:-1]:
        inside = inside[key]
    if kind == "replace":
        inside[path[-1]] = value
    elif kind == "remove":
        del inside[path[-1]]
    elif isinstance(inside, dict):
        inside[word] = inside.pop(path[-1]) if kind == "rename" else value
    else:
        inside.append(value)
    return tree


@FUZZ
@given(
    st.sampled_from(places(RECIPE)),
    st.sampled_from(["replace", "remove", "rename", "add"]),
    values,
    st.text(max_size=8),
)
def test_recipes(path: tuple, kind: str, value: Any, word: str) -> None:
    content = damaged(RECIPE, path, kind, value, word)
    with contextlib.suppress(EngraxError):
        build(parse(content))


@FUZZ
@given(st.text(max_size=30))
def test_values_on_the_command_line(text: str) -> None:
    value_of(text)


def stored() -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer, inputs=np.zeros((4, 5, 2), np.float32), targets=np.array([0, 1, 0, 1]), split=np.array([0, 0, 1, 2])
    )
    return buffer.getvalue()


changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=5)


def spoilt(content: bytes, at: list[tuple[float, int]], keep: float) -> bytes:
    bytes_ = bytearray(content)
    for place, byte in at:
        bytes_[int(place * (len(bytes_) - 1))] = byte
    return bytes(bytes_[: int(keep * len(bytes_))])


@FUZZ
@given(changes, st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damaged_npz(tmp_path_factory: pytest.TempPathFactory, at: list[tuple[float, int]], keep: float) -> None:
    path = tmp_path_factory.mktemp("npz") / "f.npz"
    path.write_bytes(spoilt(stored(), at, keep))
    with contextlib.suppress(EngraxError):
        ex.tasks.get("npz", path=str(path))


arrays = st.one_of(
    st.just(np.array([{"a": 1}], object)),
    st.just(np.array(["x", "y"])),
    st.just(np.array(3.0)),
    st.just(np.zeros((0, 3, 2))),
    st.just(np.full((4, 5, 2), np.nan)),
    st.just(np.zeros((4, 5))),
    st.just(np.array([0, 1, 5, -1])),
    st.just(np.zeros((4, 5, 2), complex)),
    st.just(np.zeros((4, 5), bool)),
)


@FUZZ
@given(st.dictionaries(st.sampled_from(["inputs", "targets", "lengths", "split", "other"]), arrays, max_size=4))
def test_npz_of_anything(tmp_path_factory: pytest.TempPathFactory, content: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("npz") / "f.npz"
    good = {"inputs": np.zeros((4, 5, 2), np.float32), "targets": np.array([0, 1, 0, 1])}
    np.savez(path, **{**good, **content})
    with contextlib.suppress(EngraxError):
        ex.tasks.get("npz", path=str(path))


TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.int32)}


@FUZZ
@given(changes, st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damaged_checkpoints(
    tmp_path_factory: pytest.TempPathFactory, at: list[tuple[float, int]], keep: float
) -> None:
    """What can be read is what was written; everything else is refused."""
    import jax.numpy as jnp

    folder: Path = tmp_path_factory.mktemp("arrays")
    tree = {name: jnp.asarray(value) for name, value in TREE.items()}
    write_arrays(folder / "f", tree, {"done": 3})
    whole = (folder / "f").read_bytes()
    (folder / "f").write_bytes(spoilt(whole, at, keep))
    try:
        found, facts = read_arrays(folder / "f", tree)
    except DataError:
        return
    assert all(np.array_equal(found[name], value) for name, value in TREE.items())
    assert isinstance(facts, dict)
