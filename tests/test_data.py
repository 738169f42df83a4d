"""Named data files: where they are looked for, what is refused, and the facts of the ECG files."""

import contextlib
import hashlib
import http.server
import pathlib
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks import data as shelf
from engrax.tasks import ecg
from engrax.tasks.task import SPLITS

CONTENT = b"the very bytes"
NOWHERE = "http://127.0.0.1:9/toy/a.bin"  # the discard port: refused at once


def file(*urls: str, content: bytes = CONTENT) -> shelf.DataFile:
    return shelf.DataFile("toy", "a.bin", hashlib.sha256(content).hexdigest(), urls or (NOWHERE,))


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache and no ENGRAX_DATA."""
    monkeypatch.delenv("ENGRAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache" / "engrax"


def put(folder: pathlib.Path, content: bytes = CONTENT) -> pathlib.Path:
    path = folder / "toy" / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/toy/a.bin"
        finally:
            server.shutdown()
            thread.join()


def test_own_folder_comes_first(cache: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = put(tmp_path / "own")
    kept = put(cache)
    assert shelf.fetch(file()) == kept
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "own"))
    assert shelf.fetch(file()) == own
    own.unlink()
    assert shelf.fetch(file()) == kept
    monkeypatch.setenv("ENGRAX_DATA", "")
    assert shelf.fetch(file()) == kept


@pytest.mark.parametrize("place", ["own", "cache"])
def test_a_damaged_file_is_refused_with_both_checksums(
    cache: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = put(cache if place == "cache" else tmp_path / "own", b"other bytes")
    if place == "own":
        monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "own"))
    with pytest.raises(DataError) as caught:
        shelf.fetch(file())
    for part in (path, hashlib.sha256(b"other bytes").hexdigest(), file().checksum, NOWHERE):
        assert str(part) in str(caught.value)
    assert path.read_bytes() == b"other bytes"  # nobody's file is deleted


def test_a_wrong_own_folder_is_named(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGRAX_DATA", str(cache / "absent"))
    with pytest.raises(DataError, match=r"ENGRAX_DATA is .*absent.* not a folder"):
        shelf.fetch(file())


def test_offline_error_says_what_to_do(
    cache: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError) as caught:
        shelf.fetch(file())
    message = str(caught.value)
    for part in ("a.bin", NOWHERE, "FOLDER/toy/a.bin", "ENGRAX_DATA"):
        assert part in message
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match="lacks the file"):
        shelf.fetch(file())
    assert not list(cache.rglob("*.bin"))


def test_a_download_is_kept_and_used_again(cache: pathlib.Path) -> None:
    with serving(CONTENT) as url:
        path = shelf.fetch(file(NOWHERE, url))  # the second address stands in for the first
    assert path == cache / "toy" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert shelf.fetch(file()) == path


def test_a_damaged_download_is_not_kept(cache: pathlib.Path) -> None:
    with serving(b"an error page") as url, pytest.raises(DataError, match="SHA256"):
        shelf.fetch(file(url))
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(DataError, match=r'needs the package .absent_package.*pip install "engrax\[data\]"'):
        shelf.package("absent_package.io", "this test")


def test_ecg_offline_error_names_the_file(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecg, "TRAIN_FILE", shelf.DataFile("qtdb_ecg", "QTDB_train.mat", "0" * 64, (NOWHERE,)))
    with pytest.raises(DataError, match=r"QTDB_train\.mat[\s\S]*127\.0\.0\.1[\s\S]*ENGRAX_DATA"):
        tasks.get("ecg")


def test_checksums_are_those_of_the_data_folder(data: pathlib.Path) -> None:
    listed = dict(reversed(line.split()) for line in (data / "SHA256SUMS").read_text().splitlines())
    for known in (ecg.TRAIN_FILE, ecg.TEST_FILE):
        assert listed[f"./{known.folder}/{known.name}"] == known.checksum
        assert shelf.fetch(known) == data / known.folder / known.name
        assert all(url.startswith("https://") and url.endswith(f"/{known.name}") for url in known.urls)


# The ECG files ------------------------------------------------------------------------------------------------------


def whole(task: tasks.Task, split: str) -> ecg.ECGTrial:
    (trial,) = task.batches(split, 10_000)
    assert isinstance(trial, ecg.ECGTrial)
    return trial


@pytest.fixture(scope="module")
def task(data: pathlib.Path) -> tasks.Task:
    return tasks.get("ecg")


def test_ecg_inputs_and_labels_are_as_described(task: tasks.Task) -> None:
    train, held, test = (whole(task, split) for split in SPLITS)
    assert (task.input_size, task.output_size, task.dt) == (4, 6, 1.0)
    assert train.inputs.shape == (1301, 557, 4)
    assert held.inputs.shape == (1301, 61, 4)
    assert test.inputs.shape == (1301, 141, 4)
    events = np.concatenate([train.inputs, held.inputs], axis=1)
    labels = np.concatenate([train.targets, held.targets], axis=1)
    labelled = np.concatenate([train.labelled, held.labelled], axis=1)
    assert set(np.unique(events)) == {0, 1}  # the end marker is gone
    assert np.round(events.mean((0, 1)), 3).tolist() == pytest.approx([0.083, 0.068, 0.087, 0.073])
    assert not (events[..., 0] * events[..., 1]).any()
    assert labels.size == 804_018
    assert (~labelled).sum() == 65_785
    assert (~np.asarray(test.labelled)).sum() == 19_056
    assert test.targets.size == 183_441
    assert not labels[~labelled].any()  # unlabelled steps count as class 0, as published
    share = np.bincount(labels[labelled]) / labelled.sum()
    assert np.round(share, 3).tolist() == pytest.approx([0.136, 0.067, 0.063, 0.048, 0.329, 0.356])
    # Waves follow one another in a ring.
    both = labelled[1:] & labelled[:-1]
    change = (labels[1:] - labels[:-1])[both] % 6
    assert set(np.unique(change)) == {0, 1}


def test_ecg_scores_every_step_and_shows_the_others_beside_it(task: tasks.Task) -> None:
    test = whole(task, "test")
    constant = jnp.zeros((1301, 141, 6)).at[..., 4].set(1.0)
    assert float(task.score(constant, test)) == pytest.approx(0.305, abs=5e-4)  # the largest class of the test file
    labels, labelled = np.asarray(test.targets), np.asarray(test.labelled)
    metrics = task.metrics(constant, test)
    share, items = metrics["accuracy_labelled"]
    assert float(items) == labelled.sum()
    assert float(share) == pytest.approx((labels[labelled] == 4).mean(), rel=1e-5)
    assert float(metrics["accuracy_after_skip"]) == pytest.approx((labels[10:] == 4).mean(), rel=1e-5)
    first = jnp.zeros((1301, 141, 6)).at[..., 0].set(1.0)
    assert float(task.score(first, test)) - float(task.metrics(first, test)["accuracy_labelled"][0]) > 0.08


def test_ecg_loss_ignores_the_first_steps(data: pathlib.Path, task: tasks.Task, key: jax.Array) -> None:
    mask = np.asarray(task.sample(key, 3).mask)
    assert mask.shape == (1301, 3)
    assert not mask[:10].any()
    assert (mask[10:] == 1).all()
    assert (np.asarray(tasks.get("ecg", skip=0, dt=4.0).sample(key, 3).mask) == 1).all()


def test_ecg_validation_is_contiguous_blocks_or_labelled_random(data: pathlib.Path) -> None:
    from scipy.io import loadmat

    order = loadmat(data / "qtdb_ecg" / "QTDB_train.mat")["x"].clip(0)
    places = {x.tobytes(): i for i, x in enumerate(order.astype(np.int8))}
    assert len(places) == 618

    def where(task: tasks.Task, split: str) -> list[int]:
        return [places[np.asarray(x).tobytes()] for x in task.rows[split][0]]

    blocks, random = tasks.get("ecg"), tasks.get("ecg", validation="random")
    for task in (blocks, random):
        train, held = where(task, "train"), where(task, "validation")
        assert sorted(train + held) == list(range(618))
        assert not set(train) & set(held)
    held = np.array(where(blocks, "validation"))
    starts = np.flatnonzero(np.diff(held, prepend=-2) != 1)
    assert np.diff(np.append(starts, 61)).tolist() == [13, 12, 12, 12, 12]
    assert held[starts].tolist() == [55, 179, 303, 427, 550]
    assert (np.diff(where(random, "validation")) != 1).sum() > 40
    assert where(random, "validation") == where(tasks.get("ecg", validation="random"), "validation")
    assert where(random, "validation") != where(tasks.get("ecg", validation="random", seed=1), "validation")


def test_ecg_may_hold_nothing_out(data: pathlib.Path) -> None:
    blocks, none = tasks.get("ecg"), tasks.get("ecg", validation="none")
    assert [none.count(split) for split in ("train", "validation", "test")] == [618, 61, 141]
    for shown, as_before in zip(none.rows["validation"], blocks.rows["validation"], strict=True):
        np.testing.assert_array_equal(shown, as_before)


def test_ecg_refuses_too_small_a_share_for_its_blocks(data: pathlib.Path) -> None:
    with pytest.raises(TaskError, match="blocks"):
        tasks.get("ecg", fraction=0.005)
