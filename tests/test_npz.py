"""The task `npz`: what a user's own file may hold, what it means, and what is refused."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError
from engrax.tasks.task import SPLITS
from recordings import recordings, same, save


def test_npz_kinds(tmp_path: pathlib.Path) -> None:
    for kind, metric, outputs in (("trial", "accuracy", 3), ("step", "accuracy", 4), ("values", "loss", 2)):
        arrays = recordings(kind)
        task = tasks.get("npz", path=str(save(tmp_path, **arrays)), dt=4)
        assert (task.metric, task.input_size, task.output_size, task.dt) == (metric, 5, outputs, 4.0)
        assert [task.count(s) for s in SPLITS] == [16, 2, 2]
        trials = [next(task.batches(s, 100)) for s in SPLITS]
        assert all(t.lengths is None and t.mask is None for t in trials)
        # Every sample is in one split, beside its own target.
        inputs = np.concatenate([np.swapaxes(t.inputs, 0, 1) for t in trials])
        order = [int(np.argmin(np.abs(arrays["inputs"] - x).sum((1, 2)))) for x in inputs]
        assert sorted(order) == list(range(20))
        targets = np.concatenate([t.targets if kind == "trial" else np.swapaxes(t.targets, 0, 1) for t in trials])
        assert np.allclose(targets, arrays["targets"][order], atol=1e-6)


def test_npz_split_is_the_files_or_the_seeds(tmp_path: pathlib.Path) -> None:
    arrays = recordings("trial")
    split = np.array([2, 1, 0, 0, 0] * 4, np.int8)
    task = tasks.get("npz", path=save(tmp_path, **arrays, split=split))
    for code, name in enumerate(SPLITS):
        (trial,) = task.batches(name, 100)
        assert np.allclose(np.swapaxes(trial.inputs, 0, 1), arrays["inputs"][split == code], atol=1e-6)
    path = save(tmp_path, **arrays)
    zero, again, one = (tasks.get("npz", path=path, seed=s).rows["test"]["inputs"] for s in (0, 0, 1))
    assert np.array_equal(zero, again)
    assert not np.array_equal(zero, one)


@pytest.mark.parametrize("kind", ["trial", "step", "values"])
def test_npz_padding_counts_for_nothing(tmp_path: pathlib.Path, key: jax.Array, kind: str) -> None:
    arrays = recordings(kind)
    lengths = np.arange(20) % 6 + 1
    clean = tasks.get("npz", path=save(tmp_path, **arrays, lengths=lengths))
    padding = np.arange(7)[None, :] >= lengths[:, None]
    arrays["inputs"][padding] = np.nan
    if kind != "trial":
        arrays["targets"][padding] = -1 if kind == "step" else np.inf
    dirty = tasks.get("npz", path=save(tmp_path, **arrays, lengths=lengths))
    assert same(clean, dirty)
    (trial,) = dirty.batches("train", 100)
    valid = np.asarray(trial.valid()) > 0
    assert not np.asarray(trial.inputs)[~valid].any()
    outputs = jax.random.normal(key, (7, trial.batch, dirty.output_size))
    spoilt = jnp.where(valid[..., None], outputs, jnp.nan)
    score = float(dirty.score(outputs, trial))
    assert score == float(dirty.score(spoilt, trial))
    x, y = np.asarray(outputs, np.float64), np.asarray(trial.targets)
    if kind == "trial":
        mean = [x[:n, i].mean(0).argmax() for i, n in enumerate(np.asarray(trial.lengths))]
        assert score == pytest.approx(np.mean(np.array(mean) == y))
        assert float(dirty.weight(trial)) == trial.batch
        return
    step = (x.argmax(-1) == y) if kind == "step" else ((x - y) ** 2).mean(-1)
    assert score == pytest.approx(step[valid].mean(), rel=1e-5)
    assert float(dirty.weight(trial)) == valid.sum()


def test_npz_scores_honour_a_mask(tmp_path: pathlib.Path, key: jax.Array) -> None:
    mask = jnp.zeros((7, 4)).at[2, 1].set(1.0)
    for kind in ("step", "values"):
        task = tasks.get("npz", path=save(tmp_path, **recordings(kind)))
        trial = task.sample(key, 4).replace(mask=mask)
        wrong = jnp.full((7, 4, task.output_size), -3.0)
        if kind == "step":
            good = wrong.at[2, 1, trial.targets[2, 1]].set(1.0)
            assert float(task.score(good, trial)) == 1
        else:
            assert float(task.score(wrong.at[2, 1].set(trial.targets[2, 1]), trial)) == 0
        assert float(task.weight(trial)) == 1
        assert float(task.score(wrong, trial.replace(mask=jnp.zeros((7, 4))))) == 0


def change(kind: str = "trial", **changes: object) -> dict[str, object]:
    arrays: dict[str, object] = {**recordings(kind), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


NAN = recordings("trial")["inputs"].copy()
NAN[3, 2, 1] = np.nan
BAD_CLASS = recordings("step")["targets"].copy()
BAD_CLASS[4, 6] = -2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (change(inputs=None, input=np.ones((20, 7, 5))), "no array 'inputs'. Did you mean 'input'?"),
        (change(targets=None), "no array 'targets'."),
        (change(length=np.ones(20, int)), "unknown array 'length'. Did you mean 'lengths'?"),
        (change(inputs=np.ones((20, 7))), "inputs must have shape (samples, time, channels)"),
        (change(inputs=np.ones((20, 0, 5))), "inputs must have shape"),
        (change(inputs=np.full((20, 7, 5), "a")), "inputs must be real numbers, got <U1"),
        (change(inputs=np.ones((20, 7, 5), complex)), "inputs must be real numbers, got complex128"),
        (change(inputs=np.full((20, 7, 5), None)), "the array 'inputs' cannot be read"),
        (change(inputs=NAN), "inputs[3, 2, 1] is nan"),
        (change(targets=np.zeros(19, int)), "targets must have shape (20,), (20, 7) or (20, 7, k), got (19,)"),
        (change(targets=np.zeros((20, 5), int)), "targets must have shape"),
        (change(targets=np.zeros((20, 7, 0))), "targets must have shape"),
        (change(targets=np.zeros((20, 7, 2, 2))), "targets must have shape"),
        (change(targets=np.zeros(())), "targets must have shape"),
        (change(targets=np.ones(20)), "targets of shape (20,) must be classes, of an integer type, got float64"),
        (change(targets=np.ones((20, 7))), "Values to follow have shape (20, 7, k)"),
        (change(targets=np.zeros(20, int)), "single class 0"),
        (change(targets=np.arange(20) - 1), "targets[0] is -1; targets must lie between 0"),
        (change(targets=np.arange(20) + 2**40), "targets must lie between 0"),
        (change("step", targets=BAD_CLASS), "targets[4, 6] is -2"),
        (change("values", targets=np.full((20, 7, 1), np.inf)), "targets[0, 0, 0] is inf"),
        (change(lengths=np.ones(20)), "lengths must be integers of shape (20,), got float64"),
        (change(lengths=np.ones(7, int)), "lengths must be integers of shape (20,), got int64 of shape (7,)"),
        (change(lengths=np.arange(20)), "lengths[0] is 0; lengths must lie between 1 and 7"),
        (change(lengths=np.full(20, 8)), "lengths[0] is 8"),
        (change(split=np.arange(20) % 2), "leaves the test part empty: split has no sample of 2"),
        (change(split=np.arange(20) % 4), "split[3] is 3; split must lie between 0 and 2"),
        (change(split=np.full(20, "train")), "split must be integers"),
        (change(inputs=np.ones((2, 7, 5)), targets=np.arange(2)), "leaves the train part empty: too few samples"),
    ],
)
def test_npz_names_the_array_that_is_wrong(tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        tasks.get("npz", path=path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_npz_refuses_files_of_another_kind(tmp_path: pathlib.Path) -> None:
    single, text, empty, broken, zipped = (tmp_path / n for n in ("a.npy", "b.npz", "c.npz", "d.npz", "e.npz"))
    np.save(single, np.ones(3))
    text.write_text("inputs,targets\n1,2\n")
    empty.write_bytes(b"")
    broken.write_bytes(save(tmp_path, **recordings("trial")).read_bytes()[:-400])
    import zipfile

    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("inputs", "no array")
    for path, message in (
        (tmp_path / "absent.npz", "there is no file"),
        (tmp_path, "there is no file"),
        (single, "holds a single array"),
        (text, "is not a .npz file"),
        (empty, "is not a .npz file"),
        (broken, "is not a .npz file"),
        (zipped, "the member 'inputs' is not a NumPy array"),
    ):
        with pytest.raises(DataError, match=message):
            tasks.get("npz", path=path)


def test_npz_never_unpickles(tmp_path: pathlib.Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (pathlib.Path.touch, (tmp_path / "sprung",))

    trap = np.empty((), object)
    trap[()] = Trap()
    path = save(tmp_path, **recordings("trial"), lengths=trap)
    with pytest.raises(DataError, match="Objects are refused"):
        tasks.get("npz", path=path)
    assert not (tmp_path / "sprung").exists()
