"""Small files of a user's own recordings, and equality of trees, for the tests of tasks."""

import pathlib

import equinox as eqx
import numpy as np


def save(path: pathlib.Path, **arrays: object) -> pathlib.Path:
    np.savez(path / "mine.npz", **arrays)
    return path / "mine.npz"


def recordings(kind: str, samples: int = 20, steps: int = 7) -> dict[str, np.ndarray]:
    random = np.random.RandomState(1)
    targets = {
        "trial": np.arange(samples) % 3,
        "step": random.randint(0, 4, (samples, steps)),
        "values": random.normal(size=(samples, steps, 2)),
    }
    return {"inputs": random.normal(size=(samples, steps, 5)), "targets": targets[kind]}


def same(a: object, b: object) -> bool:
    return bool(eqx.tree_equal(a, b))
