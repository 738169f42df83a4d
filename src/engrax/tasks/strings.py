"""Label strings: what a network says by its best path, and how far that is from what it should say.

A string is (labels, batch): integers from 1, padded with 0 at its end.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def best_path(
    outputs: Float[Array, "frames batch symbols"], valid: Float[Array, "frames batch"]
) -> Int[Array, "frames batch"]:
    """The string of the most probable alignment: largest output of each frame, repeats dropped, then blanks (0).

    A frame of which any output is not a number says nothing, nor does a frame of padding.
    """
    known = (valid > 0) & ~jnp.any(jnp.isnan(outputs), axis=-1)
    path = jnp.where(known, jnp.argmax(outputs, axis=-1).astype(jnp.int32), 0)
    before = jnp.concatenate([jnp.zeros_like(path[:1]), path[:-1]])
    return compact(path, (path != 0) & (path != before))


def compact(string: Int[Array, "labels batch"], keep: Bool[Array, "labels batch"]) -> Int[Array, "labels batch"]:
    """The labels of `keep` moved to the front, 0 behind them."""
    # A stable sort by whether a label is dropped keeps the order of the others.
    order = jnp.argsort(~keep, axis=0, stable=True)
    return jnp.take_along_axis(jnp.where(keep, string, 0), order, axis=0)


def count(string: Int[Array, "labels batch"]) -> Int[Array, " batch"]:
    """Number of labels of each string."""
    return jnp.sum(string != 0, axis=0, dtype=jnp.int32)


def edit_distance(said: Int[Array, "labels batch"], wanted: Int[Array, "others batch"]) -> Int[Array, " batch"]:
    """Fewest substitutions, deletions and insertions that make `wanted` of `said` (Levenshtein's distance).

    Time and memory: labels x others, and others, for each trial.
    """
    columns = jnp.arange(wanted.shape[0] + 1, dtype=jnp.int32)[:, None]

    def row(above: Array, label: Array) -> tuple[Array, None]:
        replaced = above[:-1] + (wanted != label[None]).astype(jnp.int32)
        best = jnp.concatenate([above[:1] + 1, jnp.minimum(replaced, above[1:] + 1)])
        # Along the row, each label of `wanted` that is put in costs 1: a running minimum, once the slope is taken off.
        slope = jnp.broadcast_to(columns, best.shape)
        best = jax.lax.cummin(best - slope, axis=0) + slope
        return jnp.where(label[None] != 0, best, above), None

    start = jnp.broadcast_to(columns, (len(columns), wanted.shape[1]))
    last, _ = jax.lax.scan(row, start, said)
    return jnp.take_along_axis(last, count(wanted)[None], axis=0)[0]
