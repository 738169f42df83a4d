"""Google Speech Commands: spectrograms against their definition, small sets in its format, and the real test set."""

import dataclasses
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import savgol_filter

from engrax import tasks
from engrax.errors import DataError, TaskError
from engrax.tasks import gsc, gsc_files, mel
from engrax.testing import check_task
from recordings import learns, pack, speech_commands, tone, unpack, wav

WORDS = (*gsc.KEYWORDS, "bed", "cat")
LISTS = ("validation_list.txt", "testing_list.txt")
FEW = {"silence": [4, 2, 3]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    return speech_commands(WORDS)


# Spectrograms ---------------------------------------------------------------------------------------------------------


def _slaney(hertz: np.ndarray) -> np.ndarray:
    above = 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4)
    return np.where(hertz < 1000, 3 * hertz / 200, above)


def _reference(samples: np.ndarray) -> np.ndarray:
    """Power in mel bands by the definition: windows, Fourier transforms and triangles of area 1 between band edges."""
    sound = samples / np.abs(samples).max()
    missing = 16000 - len(sound)
    sound = np.pad(sound, (missing // 2 + 240, missing - missing // 2 + 240))
    window = np.sin(np.pi * np.arange(480) / 480) ** 2
    power = np.abs(np.fft.rfft([sound[160 * i : 160 * i + 480] * window for i in range(101)])) ** 2
    fine = np.linspace(0, 8000, 800001)
    edges = np.interp(np.linspace(_slaney(np.array(20.0)), _slaney(np.array(4000.0)), 42), _slaney(fine), fine)
    hertz = np.fft.rfftfreq(480, 1 / 16000)
    bands = [np.interp(hertz, edges[i : i + 3], [0, 2 / (edges[i + 2] - edges[i]), 0]) for i in range(40)]
    return power @ np.array(bands).T


def test_spectrograms_are_those_of_the_definition() -> None:
    noise = 4000 * np.random.default_rng(0).standard_normal(12345)
    samples = (noise + tone(700, 12345)).astype(np.int16)
    wanted = _reference(samples.astype(float))
    np.testing.assert_allclose(mel.mel_power(samples), wanted, rtol=1e-3, atol=1e-6 * wanted.max())
    level = mel.half_decibels(samples)
    assert level.shape == (101, 40) and level.max() == 255 and level[:8].max() == 0
    sound = wanted > 1e-9 * wanted.max()
    assert 0.7 < sound.mean() < 1
    share = wanted / wanted.max()
    np.testing.assert_allclose(10 ** ((level[sound] - 255.0) / 20), share[sound], rtol=0.061)
    np.testing.assert_allclose(mel.log_power(jnp.asarray(level[sound])), np.log1p(share[sound]), rtol=0.061)


def test_silence_is_all_zero_and_the_lowest_sample_is_no_overflow() -> None:
    assert not mel.half_decibels(np.zeros(300, np.int16)).any()
    assert mel.half_decibels(np.full(16000, -32768, np.int16)).max() == 255
    for samples in (np.zeros(0, np.int16), np.zeros(16001, np.int16)):
        with pytest.raises(DataError, match="must have 1 to 16000"):
            mel.half_decibels(samples)


# The set as distributed -----------------------------------------------------------------------------------------------


def test_recordings_are_read(files: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    folder = unpack(files, tmp_path / "set")
    task = tasks.get("gsc", folder=str(folder), hold=2, **FEW)
    # Of 12 words five recordings each; two words are unknown.
    assert {split: task.count(split) for split in task.rows} == {"train": 36 + 4, "validation": 12 + 2, "test": 12 + 3}
    assert task.classes == gsc.TWELVE and task.input_size == 120 and task.output_size == 12
    trial = next(task.batches("test", 20))
    assert trial.inputs.shape == (202, 15, 120) and bool(jnp.all(jnp.isfinite(trial.inputs)))
    assert np.bincount(trial.targets).tolist() == [1] * 10 + [3, 2]
    np.testing.assert_array_equal(trial.inputs[::2], trial.inputs[1::2])
    # In the order of the paths, silence behind; the fifth speaker of "yes" is the one listed for the test.
    place = sorted(WORDS).index("yes")
    assert int(trial.targets[place]) == 0
    level = mel.half_decibels(tone(320, 12800).astype(np.int16))
    np.testing.assert_array_equal(task.rows["test"]["levels"][place], level)
    check_task(task)


@pytest.mark.x64
def test_features_are_those_of_the_paper(files: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    task = tasks.get("gsc", folder=str(unpack(files, tmp_path / "set")), **FEW)

    def features(levels: np.ndarray) -> np.ndarray:
        power = np.log1p(10 ** ((levels.astype(float) - 255) / 20))
        deltas = [savgol_filter(power, 9, k, k, axis=0, mode="interp") for k in (1, 2)]
        # A band that stays at one level has no derivatives but what rounding leaves.
        still = np.ptp(levels, axis=0) == 0
        parts = [power] + [np.where(still, 0, delta) for delta in deltas]
        spread = [np.where(still, 1, part.std(axis=0)) for part in parts]
        return np.concatenate([part / by for part, by in zip(parts, spread, strict=True)], axis=1)

    known = np.array([features(np.asarray(x)) for x in task.rows["train"]["levels"]])
    spread = known.std(axis=(0, 1))
    assert float(spread.min()) > 0.1
    wanted = features(np.asarray(task.rows["test"]["levels"][3])) / spread
    shown = next(task.batches("test", 15)).inputs[:, 3]
    np.testing.assert_allclose(shown, wanted, rtol=1e-6, atol=1e-6)


def test_all_words_are_classes(files: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    task = tasks.get("gsc", words="all", folder=str(unpack(files, tmp_path / "set")))
    assert task.classes == tuple(sorted(WORDS)) and task.count("train") == 36
    assert np.bincount(task.rows["train"]["targets"]).tolist() == [3] * 12


def test_silence_is_drawn_from_noise_of_its_own(files: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    folder = unpack(files, tmp_path / "set")

    def silence(**settings: object) -> dict[str, np.ndarray]:
        task = tasks.get("gsc", folder=str(folder), **FEW, **settings)
        return {s: np.asarray(x["levels"])[np.asarray(x["targets"]) == 10] for s, x in task.rows.items()}

    one, again, other = silence(), silence(), silence(seed=1)
    for split, crops in one.items():
        np.testing.assert_array_equal(crops, again[split])
        assert np.any(crops != other[split])
    # Noise that sounds in its last tenth alone is heard in the test alone.
    late = np.where(np.arange(176000) < 158400, 0, 1000 * np.random.default_rng(0).standard_normal(176000))
    folder = unpack(files | {f"_background_noise_/noise_{i}.wav": wav(late) for i in (0, 1)}, tmp_path / "late")
    heard = {split: crops.any(axis=(1, 2)).tolist() for split, crops in silence().items()}
    assert heard == {"train": [False] * 4, "validation": [False] * 2, "test": [True] * 3}


def test_an_archive_is_read_as_a_folder_is(
    files: dict[str, bytes], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once: afterwards the cache serves what is no longer there, and what is damaged there is said."""
    path = pack(files, tmp_path / "data" / "gsc" / "speech_commands_v0.01.tar.gz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(gsc_files._SHA256, "v0.01", digest)
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "data"))
    task = tasks.get("gsc", version=1, **FEW)
    unpacked = tasks.get("gsc", version=1, folder=str(unpack(files, tmp_path / "set")), **FEW)
    for split in task.rows:
        jax.tree.map(np.testing.assert_array_equal, task.rows[split], unpacked.rows[split])
    # A folder of that name under ENGRAX_DATA goes before the archive.
    unpack(files, tmp_path / "data" / "gsc" / "speech_commands_v0.02")
    assert tasks.get("gsc", words="all").count("test") == 12
    cached = sorted((tmp_path / "cache" / "engrax" / "gsc").iterdir())
    assert len(cached) == 3 and any(digest[:32] in x.name for x in cached)

    def never(samples: np.ndarray) -> np.ndarray:
        raise AssertionError("recordings are read again")

    monkeypatch.setattr(gsc_files.mel, "half_decibels", never)
    assert tasks.get("gsc", version=1, words="all").count("train") == 36
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for x in cached:
        x.write_bytes(x.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"npz is damaged .* Delete it; it will be made again"):
        tasks.get("gsc", folder=str(tmp_path / "set"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("yes/00000000_nohash_0.wav", b"RIFF and no more", r"set: yes/0+_nohash_0.wav: .*cannot be read as audio"),
        ("yes/00000000_nohash_0.wav", wav(tone(300)[:200], rate=8000), "yes/0+_nohash_0.wav: it has 8000 samples"),
        ("no/00000001_nohash_0.wav", wav(tone(300, 16001)), "no/0+1_nohash_0.wav: a recording has 16001 samples"),
        ("no/00000001_nohash_0.wav", wav(np.zeros(0)), "no/0+1_nohash_0.wav: a recording has 0 samples"),
        ("no/00000001_nohash_0.wav", wav(np.zeros(10), channels=2), "has 2 channels"),
        ("testing_list.txt", b"yes/gone.wav\n", "testing_list.txt names yes/gone.wav, which is not there"),
        ("testing_list.txt", b"\xff\xfe\xff", "testing_list.txt: 'utf-8' codec"),
        ("testing_list.txt", b"", "no recordings are left for test: testing_list.txt is missing or empty"),
        ("testing_list.txt", b"yes/00000003_nohash_0.wav\n", "yes/0+3_nohash_0.wav stands in both"),
        ("_background_noise_/noise_0.wav", wav(np.ones(160000)), "longer than ten seconds each, got 10.0 s"),
    ],
)
def test_damage_is_said(
    files: dict[str, bytes], tmp_path: pathlib.Path, name: str, content: bytes, message: str
) -> None:
    folder = unpack(files | {name: content}, tmp_path / "set")
    with pytest.raises(DataError, match=message):
        tasks.get("gsc", folder=str(folder), **FEW)


def test_what_is_missing_is_said(
    files: dict[str, bytes], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        tasks.get("gsc", folder=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no recordings"):
        tasks.get("gsc", folder=str(tmp_path / "empty"))
    less = {name: x for name, x in files.items() if not name.startswith(("stop", "yes"))}
    less |= {name: b"\n".join(x for x in less[name].split() if x[:3] not in (b"sto", b"yes")) for name in LISTS}
    with pytest.raises(DataError, match="no recordings of stop, yes"):
        tasks.get("gsc", folder=str(unpack(less, tmp_path / "less")), **FEW)
    still = {name: x for name, x in files.items() if not name.startswith("_")}
    with pytest.raises(DataError, match="there is no noise"):
        tasks.get("gsc", folder=str(unpack(still, tmp_path / "still")), **FEW)
    kept = sorted((tmp_path / "cache").rglob("*.npz"))
    # An archive that breaks off, under a checksum that fits it.
    path = pack(files, tmp_path / "data" / "gsc" / "speech_commands_v0.02.tar.gz")
    path.write_bytes(path.read_bytes()[:50000])
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match="damaged or of another version"):
        tasks.get("gsc")
    monkeypatch.setitem(gsc_files._SHA256, "v0.02", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="cannot be unpacked"):
        tasks.get("gsc")
    assert sorted((tmp_path / "cache").rglob("*.npz")) == kept
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    with pytest.raises(DataError, match="Set XDG_CACHE_HOME"):
        tasks.get("gsc", folder=str(unpack(files, tmp_path / "set")))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": 3}, "version must be an integer from 1 to 2"),
        ({"words": "ten"}, "words must be one of 'keywords', 'all'"),
        ({"silence": 5}, "silence must be three numbers"),
        ({"silence": [1, 2]}, "silence must be three numbers"),
        ({"silence": [1, 0, 2]}, "silence must be an integer from 1"),
        ({"seed": -1}, "seed must be an integer"),
        ({"folder": 3}, "folder must be the path"),
    ],
)
def test_what_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        tasks.get("gsc", **settings)


# The test set as a task of its own ------------------------------------------------------------------------------------


def test_the_test_set_is_parted_by_speaker(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its archive, whose unknown words carry the word in front of the speaker."""
    names = {word: [f"{i:08x}_nohash_0.wav" for i in range(30)] for word in gsc.KEYWORDS}
    names[gsc.SILENCE] = [f"{i}.wav" for i in range(30)]
    names[gsc.UNKNOWN] = [f"cat_{i:08x}_nohash_1.wav.wav" for i in range(30)]
    sounds = [wav(tone(300 + 50 * i, 4000)) for i in range(12)]
    files = {f"{said}/{name}": sound for sound, said in zip(sounds, names, strict=True) for name in names[said]}
    path = pack(files, tmp_path / "data" / "gsc" / "speech_commands_test_set_v0.02.tar.gz")
    monkeypatch.setitem(gsc_files._SHA256, "test_set_v0.02", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "data"))
    task = tasks.get("gsc12")
    assert sum(task.count(split) for split in task.rows) == 360
    assert gsc.part("cat_00000003_nohash_1.wav.wav") == gsc.part("00000003_nohash_0.wav")
    # One speaker, one part: of each word as many recordings.
    for rows in task.rows.values():
        counts = np.bincount(rows["targets"], minlength=12)
        assert set(counts[:10].tolist()) == {counts[11]} and counts[11] > 0
    wrong = {name.replace("_silence_", "silence"): x for name, x in files.items()}
    path = pack(wrong, path)
    monkeypatch.setitem(gsc_files._SHA256, "test_set_v0.02", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="must hold the classes"):
        tasks.get("gsc12")


def test_without_files_it_is_said_where_they_belong(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = dataclasses.replace(gsc_files.archive("test_set_v0.02"), urls=("http://127.0.0.1:9/x.tar.gz",))
    monkeypatch.setattr(gsc_files, "archive", lambda name: gone)
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"FOLDER/gsc/speech_commands_test_set_v0\.02\.tar\.gz"):
        tasks.get("gsc12")


def test_the_real_test_set(data: pathlib.Path) -> None:
    task = tasks.get("gsc12", balanced=True)
    assert {split: task.count(split) for split in task.rows} == {"train": 3321, "validation": 643, "test": 926}
    with np.load(data / "gsc12_mel" / "gsc12_mel_u8.npz") as file:
        stored = np.array(["train", "validation", "test"])[file["split"]]
        # The rule by which the archive is parted gives the split that is stored.
        assert [gsc.part(str(name)) for name in file["filename"]] == stored.tolist()
        test = file["split"] == 2
        np.testing.assert_array_equal(task.rows["test"]["levels"], file["mel_halfdb"][test])
        np.testing.assert_array_equal(task.rows["test"]["targets"], file["label"][test])
        assert task.classes == tuple(file["classes"].tolist())
    trial = task.sample(jax.random.key(0), 36)
    assert np.bincount(trial.targets).tolist() == [3] * 12
    assert trial.inputs.shape == (101, 36, 120)
    assert float(jnp.std(trial.inputs)) == pytest.approx(1, abs=0.2)
    check_task(task)


@pytest.mark.nightly
def test_the_recipe_learns_from_such_files(files: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    folder = unpack(files, tmp_path / "speech")
    small = ("task.silence=[4, 2, 3]", "network.populations.events.size=120")
    learns("yin2021/gsc", f"task.folder={str(folder)!r}", *small)
