"""Audio files, and what speech recognition makes of them: frames of filter-bank energies or cepstra, with deltas.

Frames last 25 ms and start every 10 ms; 40 log filter-bank energies and the log energy, or 13 cepstra (the first of
them the log energy); then differences v[t+1] - v[t-1], and differences of these: 123 or 39 features. Bellec et al. 2020
(TIMIT). The spectra are Kaldi's, by kaldi-native-fbank, without dither: the same in every run.
"""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16

from ..errors import DataError
from .data import package

LENGTH, STEP = 25.0, 10.0  # ms, of a frame and from frame to frame
SIZES = {"fbank": 123, "mfcc": 39}


def read_audio(source: Path | io.BytesIO, name: str) -> tuple[Int16[np.ndarray, " samples"], int]:
    """Samples and sampling rate (Hz) of a file with one channel: RIFF (.wav), NIST SPHERE, or what libsndfile reads.

    Args:
        source: path, or content.
        name: what to call it in messages.

    Raises:
        DataError: soundfile is not installed, or the file cannot be read (SPHERE files that were shortened cannot; the
            message says so), or has several channels.
    """
    soundfile = package("soundfile", "reading speech", "speech")
    try:
        samples, rate = soundfile.read(source, dtype="int16", always_2d=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"{name} cannot be read as audio ({error}). Compressed SPHERE files must be expanded first (w_decode)."
        ) from error
    if samples.shape[1] != 1:
        raise DataError(f"{name} has {samples.shape[1]} channels; one is needed.")
    return samples[:, 0], int(rate)


def features(
    samples: Int16[np.ndarray, " samples"], rate: int, kind: str = "fbank"
) -> Float[np.ndarray, "frames features"]:
    """Features of every frame, not normalised.

    Args:
        samples: 16-bit samples.
        rate: sampling rate, Hz.
        kind: "fbank", 40 log filter-bank energies and the log energy; or "mfcc", log energy and 12 cepstra.

    Returns:
        (frames, 123) or (frames, 39): values, their differences, and the differences of these.

    Raises:
        DataError: kaldi-native-fbank is not installed, or the samples are fewer than one frame has.
    """
    knf = package("kaldi_native_fbank", "features of speech", "speech")
    length, _ = frame_samples(rate)
    if len(samples) < length:
        raise DataError(f"a recording of {len(samples)} samples is shorter than a frame ({length} at {rate} Hz).")
    options = knf.FbankOptions() if kind == "fbank" else knf.MfccOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = rate
    options.frame_opts.frame_length_ms, options.frame_opts.frame_shift_ms = LENGTH, STEP
    options.use_energy = True
    if kind == "fbank":
        options.mel_opts.num_bins = 40
    else:
        options.num_ceps = 13
    computer = knf.OnlineFbank(options) if kind == "fbank" else knf.OnlineMfcc(options)
    computer.accept_waveform(rate, samples.astype(np.float32).tolist())
    computer.input_finished()
    values = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
    first = differences(values)
    return np.concatenate([values, first, differences(first)], axis=1)


def differences(values: Float[np.ndarray, "frames features"]) -> Float[np.ndarray, "frames features"]:
    """v[t+1] - v[t-1], with the first and the last frame repeated beyond the ends."""
    around = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    return around[2:] - around[:-2]


def frame_samples(rate: int) -> tuple[int, int]:
    """Samples of a frame, and from one frame to the next."""
    return round(LENGTH * rate / 1000), round(STEP * rate / 1000)


def centres(frames: int, rate: int) -> np.ndarray:
    """The sample in the middle of each frame."""
    length, step = frame_samples(rate)
    return np.arange(frames) * step + length // 2
