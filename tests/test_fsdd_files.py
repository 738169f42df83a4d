"""The recordings of spoken digits: found, downloaded (from a server in place of GitHub), refused if a bit is wrong."""

import http.server
import io
import pathlib
import threading
import wave
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest

from engrax.errors import DataError
from engrax.tasks import fsdd_files


@pytest.fixture(scope="module")
def archive(data: pathlib.Path) -> bytes:
    """GitHub's archive, made of the samples in `fsdd.npz`."""
    clips, packed = fsdd_files.read(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("free-spoken-digit-dataset/README.md", "words")
        for samples, digit, speaker, take in zip(*clips):
            content = io.BytesIO()
            with wave.open(content, "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                sound.writeframes(samples.tobytes())
            name = f"{digit}_{fsdd_files.SPEAKERS[speaker]}_{take}.wav"
            file.writestr(f"free-spoken-digit-dataset/recordings/{name}", content.getvalue())
    return packed.getvalue()


@pytest.fixture
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache and an empty ENGRAX_DATA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    own = tmp_path / "own"
    (own / "fsdd").mkdir(parents=True)
    monkeypatch.setenv("ENGRAX_DATA", str(own))
    return own / "fsdd"


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A server in GitHub's place; what it serves is to be put into the list."""
    content: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content[0])))
            self.end_headers()
            self.wfile.write(content[0])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(fsdd_files, "URL", f"http://127.0.0.1:{server.server_port}/archive.zip")
        yield content
        server.shutdown()
        thread.join()


def test_a_download_gives_the_same_recordings_and_is_kept(archive, serving, elsewhere, data):
    arrays = fsdd_files._from_arrays(data / "fsdd" / "fsdd.npz")
    serving.append(archive)
    for attempt in range(2):
        clips = fsdd_files.read()
        for found, wanted in zip(clips.samples, arrays.samples, strict=True):
            np.testing.assert_array_equal(found, wanted)
        for found, wanted in zip(clips[1:], arrays[1:]):
            np.testing.assert_array_equal(found, wanted)
        # The second time nothing is left to download it from.
        serving[0] = b"gone" if attempt == 0 else serving[0]


def test_a_wrong_download_is_refused_and_not_kept(archive, serving, elsewhere, tmp_path):
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(tmp_path / "less.zip", "w") as less:
        for name in old.namelist()[:-1]:
            less.writestr(name, old.read(name))
    for content, message in (((tmp_path / "less.zip").read_bytes(), "2999 recordings"), (b"junk", "not a zip archive")):
        serving[:] = [content]
        with pytest.raises(DataError, match=message):
            fsdd_files.read()
        assert not list((tmp_path / "cache" / "engrax" / "fsdd").iterdir())


def test_files_of_ones_own_are_checked(elsewhere, archive, data):
    (elsewhere / fsdd_files.ARCHIVE).write_bytes(archive)
    assert len(fsdd_files.read().samples) == 3000
    good = dict(np.load(data / "fsdd" / "fsdd.npz", allow_pickle=False))
    audio = good["audio"].copy()
    audio[12345] += 1
    for change, message in (
        ({"audio": audio}, "not those of the pinned version"),
        ({"label": good["label"][::-1]}, "not those of the pinned version"),
        ({"speakers": good["speakers"][::-1]}, "has the speakers"),
        ({"label": good["label"][:5]}, "is not the file of spoken digits"),
        ({"audio": np.array([{}], object)}, "is not the file of spoken digits"),
    ):
        np.savez(elsewhere / "fsdd.npz", **{**good, **change})
        with pytest.raises(DataError, match=message):
            fsdd_files.read()
    (elsewhere / "fsdd.npz").write_bytes(b"junk")
    with pytest.raises(DataError, match="is not the file of spoken digits"):
        fsdd_files.read()


def test_without_network_the_way_out_is_named(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setattr(fsdd_files, "URL", "http://127.0.0.1:9/archive.zip")  # the discard port: refused at once
    with pytest.raises(DataError, match=r"ENGRAX_DATA=FOLDER"):
        fsdd_files.read()
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="not a folder"):
        fsdd_files.read()
