"""Pitch: raise or lower copies by semitones; their length stays.

A phase vocoder stretches the clip, and resampling brings it back to its length, as in ``librosa.effects.pitch_shift``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from clipmill.schemas.config.augment_config import Span
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform
from clipmill.stages.effects.speed import resampled

_WINDOW_S = 0.064


def draw(rng: np.random.Generator, settings: Span, noises: Noises) -> Drawn:
    """Draw the number of semitones."""
    return {"semitones": uniform(rng, settings)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples with another pitch."""
    factor = 2.0 ** (drawn["semitones"] / 12)
    if factor == 1:
        return y
    n_fft = 1 << max(4, round(np.log2(_WINDOW_S * sample_rate_hz)))
    return np.concatenate([resampled(stretched(x, factor, n_fft)[None], factor, y.shape[1]) for x in y])


def stretched(x: npt.NDArray[np.float32], factor: float, n_fft: int) -> npt.NDArray[np.float32]:
    """Return a signal `factor` times as long at the same pitch.

    The phases of each bin advance by what they advance between neighbouring frames of the signal, as in J. Laroche and M. Dolson,
    "New phase-vocoder techniques", 1999, without phase locking.

    Parameters
    ----------
    x : float32 [samples]
    n_fft : length of the Hann window, a power of two; frames are a quarter of it apart
    """
    hop, half = n_fft // 4, n_fft // 2
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    padded = np.pad(x, (half, half + hop + n_fft))
    n_frames = 2 + len(x) // hop
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop][:n_frames] * window
    spectrum = scipy.fft.rfft(frames, axis=1)
    length = round(len(x) * factor)
    at = np.arange(0, 1 + length // hop) / factor
    at = at[at <= n_frames - 2]
    before = at.astype(np.int64)
    share = (at - before)[:, None].astype(np.float32)
    magnitude = np.abs(spectrum)
    magnitude = (1 - share) * magnitude[before] + share * magnitude[before + 1]
    phase = np.angle(spectrum)
    expected = 2 * np.pi * hop * np.arange(half + 1) / n_fft
    advance = (phase[1:] - phase[:-1]).astype(np.float64) - expected
    advance = expected + advance - 2 * np.pi * np.round(advance / (2 * np.pi))
    total = np.concatenate([phase[:1].astype(np.float64), phase[:1] + np.cumsum(advance[before[:-1]], axis=0)])
    made = (
        scipy.fft.irfft((magnitude * np.exp(1j * np.mod(total, 2 * np.pi))).astype(np.complex64), n_fft, axis=1)
        * window
    )
    out = np.zeros((len(at) + 3) * hop, np.float32)
    norm = np.zeros_like(out)
    for k in range(4):  # each frame overlaps three others: four passes instead of one for each frame
        out[k * hop : (k + len(at)) * hop] += made[:, k * hop : (k + 1) * hop].reshape(-1)
        norm[k * hop : (k + len(at)) * hop] += np.tile(window[k * hop : (k + 1) * hop] ** 2, len(at))
    out /= np.maximum(norm, 1e-3)
    return out[half : half + length] if len(out) >= half + length else np.pad(out[half:], (0, half + length - len(out)))


EFFECT = Effect("pitch", draw, apply, libraries=("scipy", "soxr"))
