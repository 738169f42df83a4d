"""Class-balanced sampling, an option of every stored task with one class a trial; and batches of a single class."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from engrax import tasks
from engrax.errors import RecipeError, TaskError
from engrax.testing import check_task
from engrax.training import build, recipe
from recordings import recordings, same, save

# Of five classes one has no training sample, one a single one, and one most.
CLASSES = np.array([0] * 20 + [1] * 7 + [3] * 1 + [4] * 4 + [2, 0, 1] * 2)
SPLIT = np.array([0] * 32 + [1] * 3 + [2] * 3)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    arrays = {**recordings("trial", samples=38), "targets": CLASSES, "split": SPLIT}
    return str(save(tmp_path, **arrays))


def test_classes_come_equally_often(path: str) -> None:
    task = tasks.get("npz", path=path, balanced=True)
    plain = tasks.get("npz", path=path)
    keys = jax.random.split(jax.random.key(0), 200)
    for batch in (1, 3, 4, 10):
        drawn = np.asarray(jax.vmap(lambda k, n=batch: task.sample(k, n).targets)(keys))
        counts = np.array([np.bincount(x, minlength=5) for x in drawn])[:, [0, 1, 3, 4]]
        assert counts.sum() == 200 * batch and not np.any(drawn == 2)
        # In each batch equally often but for one, which falls to each of the four alike.
        assert np.ptp(counts, axis=1).max() == (batch % 4 != 0)
        np.testing.assert_allclose(counts.mean(axis=0), batch / 4, atol=0.15)
    # Within a class every sample is drawn, and shown as it is stored.
    trials = jax.vmap(lambda k: task.sample(k, 8))(keys)
    stored = np.asarray(plain.rows["train"]["inputs"])
    seen = np.moveaxis(np.asarray(trials.inputs), 1, 2).reshape(-1, *stored.shape[1:])
    found = (seen[:, None] == stored[None]).all(axis=(2, 3))
    assert found.sum(axis=1).tolist() == [1] * 1600 and np.all(found.sum(axis=0) > 0)
    np.testing.assert_array_equal(CLASSES[:32][found.argmax(axis=1)], np.asarray(trials.targets).ravel())
    # The lone sample of its class comes as often as the twenty of another together.
    assert found.sum(axis=0)[27] == found.sum(axis=0)[:20].sum() == 400


@pytest.mark.nightly
def test_only_training_batches_change(path: str) -> None:
    task, plain = tasks.get("npz", path=path, balanced=True), tasks.get("npz", path=path, balanced=False)
    key = jax.random.key(1)
    assert same(task.sample(key, 6, "validation"), plain.sample(key, 6, "validation"))
    assert not same(task.sample(key, 6), plain.sample(key, 6))
    assert all(same(a, b) for a, b in zip(task.batches("train", 5), plain.batches("train", 5), strict=True))
    assert same(task.sample(key, 6), jax.jit(lambda t, k: t.sample(k, 6))(task, key))
    assert same(tasks.get("npz", path=path), plain)
    check_task(task)


@pytest.mark.parametrize("name", ["digits", "smnist", "nmnist", "ucr"])
def test_every_kind_of_stored_task(name: str, request: pytest.FixtureRequest) -> None:
    if name != "digits":
        request.getfixturevalue("data")
    task = tasks.get(name, balanced=True)
    batch = 2 * task.output_size
    counts = np.bincount(task.sample(jax.random.key(0), batch).targets)
    assert counts.tolist() == [2] * task.output_size


@pytest.mark.unchecked
def test_what_cannot_be_balanced_says_so(tmp_path: pathlib.Path, path: str) -> None:
    for kind in ("step", "values"):
        steps = str(save(tmp_path, **recordings(kind)))
        with pytest.raises(TaskError, match="Npz cannot be balanced: its trials have not one class each"):
            tasks.get("npz", path=steps, balanced=True)
    with pytest.raises(TaskError, match="unknown setting of the task 'evidence': 'balanced'"):
        tasks.get("evidence", balanced=True)
    with pytest.raises(TaskError, match="balanced must be True or False, got 'yes'"):
        tasks.get("digits", balanced="yes")
    with pytest.raises(TaskError, match=r"'balancd'.*Did you mean 'balanced'"):
        tasks.get("digits", balancd=True)


@pytest.mark.unchecked
def test_a_recipe_says_so_too() -> None:
    built = build.build(recipe.load("digits", ["task.balanced=true"]))
    assert isinstance(built.task, tasks.StoredTask) and built.task.strata is not None
    assert build.build(recipe.load("digits")).task.strata is None
    with pytest.raises(RecipeError, match="task: balanced must be True or False"):
        build.build(recipe.load("digits", ["task.balanced=1"]))
    with pytest.raises(RecipeError, match=r"task\.balanced: unknown key"):
        build.build(recipe.load("pattern", ["task.balanced=true"]))


@pytest.mark.parametrize(
    ("rule", "classes"),
    [
        pytest.param(ex.rules.BPTT(), [1] * 14, id="bptt"),
        pytest.param(ex.rules.EProp(), [0] * 14, id="eprop", marks=pytest.mark.nightly),
    ],
)
def test_training_survives_a_single_class(tmp_path: pathlib.Path, rule: ex.rules.Rule, classes: list[int]) -> None:
    """Batches of one trial, and a training part of one class, balanced or not: finite, and that class is learnt."""
    arrays = {**recordings("trial", samples=20), "targets": np.array([*classes, 0, 1, 0, 1, 0, 1])}
    path = str(save(tmp_path, **arrays, split=np.array([0] * 14 + [1] * 3 + [2] * 3)))
    for balanced, batch in ((True, 4), (False, 1)):
        task = tasks.get("npz", path=path, balanced=balanced)
        net = ex.Network(
            {"hidden": ex.neurons.ALIF(4, threshold=0.3), "readout": ex.neurons.LI(2)},
            [ex.Dense("input", "hidden"), ex.Dense("hidden", "readout", bias=True)],
            inputs={"input": 5},
            outputs="readout",
            key=jax.random.key(0),
        )
        run = ex.fit(net, task, rule, optax.adam(0.05), steps=20, batch=batch, progress=False)
        assert np.all(np.isfinite(run.losses)) and run.losses[-1] < 0.75 * run.losses[0]
        leaves = jax.tree.leaves(run.network)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact))
