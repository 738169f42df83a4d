"""Mel spectrograms of one-second recordings, as bytes of half decibels.

Yin et al. 2021 (Google Speech Commands): 16 kHz, padded to one second on both sides, 30-ms Hann window every 10 ms,
centred; power in 40 mel bands from 20 to 4000 Hz (Slaney's scale, triangles of equal area, as librosa has them),
divided by the recording's largest. A byte v stands for 10^((v - 255) / 20) of that: half a decibel a step, so at most
6 % off, over 127 dB. 101 x 40 bytes a recording; as floating-point numbers all features of the full set would need
5 GB. The spectra are kaldi-native-fbank's, in its librosa form.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int16, UInt8

from ..errors import DataError
from .data import package

RATE = 16000
SECOND = RATE
WINDOW, HOP = 480, 160  # samples
BANDS, FRAMES = 40, 1 + SECOND // HOP
LOWEST, HIGHEST = 20.0, 4000.0  # Hz
TOP, STEPS = 255, 20  # the byte of the largest power, bytes a factor of ten


def half_decibels(samples: Int16[np.ndarray, " samples"]) -> UInt8[np.ndarray, "frames bands"]:
    """The bytes of a recording; all 0 where it is silent to the last bit.

    Raises:
        DataError: kaldi-native-fbank is not installed, or the recording is empty or longer than one second.
    """
    power = mel_power(samples)
    largest = power.max()
    if largest <= 0:
        return np.zeros((FRAMES, BANDS), np.uint8)
    with np.errstate(divide="ignore"):
        level = TOP + STEPS * np.log10(power / largest)
    return np.clip(np.round(level), 0, TOP).astype(np.uint8)


def mel_power(samples: Int16[np.ndarray, " samples"]) -> Float[np.ndarray, "frames bands"]:
    """Power in each band, of the recording padded to a second, with a largest sample of 1.

    Raises:
        DataError: as for `half_decibels`.
    """
    if not 0 < len(samples) <= SECOND:
        raise DataError(f"a recording has {len(samples)} samples; it must have 1 to {SECOND}, a second at {RATE} Hz.")
    knf = package("kaldi_native_fbank", "features of speech", "speech")
    before = (SECOND - len(samples)) // 2
    around = before + WINDOW // 2, SECOND - len(samples) - before + WINDOW // 2
    sound = np.pad(samples.astype(np.float32), around)
    computer = knf.OnlineFbank(_options(knf))
    computer.accept_waveform(RATE, (sound / max(np.abs(sound).max(), 1.0)).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)]).astype(np.float64)


def _options(knf: Any) -> Any:
    options = knf.FbankOptions()
    frames, mel = options.frame_opts, options.mel_opts
    frames.samp_freq, frames.dither, frames.preemph_coeff = RATE, 0.0, 0.0
    frames.frame_length_ms, frames.frame_shift_ms = 1000 * WINDOW / RATE, 1000 * HOP / RATE
    frames.window_type, frames.remove_dc_offset, frames.round_to_power_of_two = "hann", False, False
    mel.num_bins, mel.low_freq, mel.high_freq = BANDS, LOWEST, HIGHEST
    mel.is_librosa, mel.norm = True, "slaney"
    options.use_log_fbank, options.use_power, options.use_energy = False, True, False
    return options


def log_power(level: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + share of the largest power), 0 to 0.69, from bytes."""
    dtype = jnp.result_type(float)
    exponent = (level.astype(dtype) - TOP) / STEPS
    return jnp.log1p(jnp.power(jnp.asarray(10, dtype), exponent))
