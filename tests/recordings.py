"""Small files of a user's own recordings, recipes made small, and equality of trees, for the tests of tasks."""

import pathlib

import equinox as eqx
import jax
import numpy as np

from engrax.training.build import build
from engrax.training.recipe import load


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


def learns(recipe: str, *changes: str) -> None:
    """A recipe, made small, has a finite loss, and a gradient for all that trains."""
    small = [f"network.populations.{name}.size=6" for name in load(recipe).network.populations if name != "readout"]
    built = build(load(recipe, [*small, *changes]))
    net = built.rule.bind(built.net, jax.random.key(0))
    loss, grads = built.rule.value_and_grad(net, built.task.sample(jax.random.key(0), 2), jax.random.key(1))
    assert np.isfinite(float(loss))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert np.any(grads.projections["input->" + next(iter(net.populations))].weight)


def same(a: object, b: object) -> bool:
    return bool(eqx.tree_equal(a, b))
