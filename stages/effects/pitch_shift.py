"""Pitch: raise or lower copies by semitones; their length stays.

A phase vocoder stretches the clip, and resampling brings it back to its length, as in ``librosa.effects.pitch_shift``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.fft

from clipmill.schemas.config.augment_config import Span
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform
from clipmill.stages.effects.speed import resampled

_WINDOW_S = 0.064
"""A window is the power of two nearest to it in ratio: 1024 samples at 16 kHz. It holds some periods of a low voice."""

_OVERLAP = 4
_FRAMES = 128
"""Output frames that are computed together, which bounds the memory."""
_TINY = 1e-30
"""Products of two magnitudes below it count as silence: their phase is not exact in float32."""


def draw(rng: np.random.Generator, settings: Span, noises: Noises) -> Drawn:
    """Draw the number of semitones."""
    return {"semitones": uniform(rng, settings)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples with another pitch."""
    factor = 2.0 ** (drawn["semitones"] / 12)
    if factor == 1:
        return y
    n_fft = 1 << max(4, round(math.log2(_WINDOW_S * sample_rate_hz)))
    return np.concatenate([resampled(stretch(x, 1 / factor, n_fft)[None], factor, y.shape[1]) for x in y])


def stretch(y: npt.NDArray[np.float32], rate: float, n_fft: int) -> npt.NDArray[np.float32]:
    """Change the duration of a signal by a phase vocoder (Flanagan and Golden, 1966), with the definitions of librosa's ``time_stretch``.

    A bin's phase advances between output frames as it does between the input frames around the same time. Only phasors are multiplied,
    which needs no angles and no unwrapping.

    Parameters
    ----------
    y : float32 [samples]
    rate : > 1 is shorter
    n_fft : length of the Hann window, a multiple of 4

    Returns
    -------
    y : float32 [round(samples / rate)]
    """
    hop = n_fft // _OVERLAP
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    n_frames = 1 + len(y) // hop
    steps = np.arange(0, n_frames, rate)
    whole = steps.astype(np.int64)
    share = (steps - whole).astype(np.float32)[:, None]
    # The last step interpolates towards a frame beyond the end, which is silent, as in librosa.
    padded = np.pad(y, (n_fft // 2, n_fft // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    out = np.zeros((len(steps) + _OVERLAP - 1, hop), np.float32)
    weight = np.zeros_like(out)
    phase: npt.NDArray[np.complex128] | None = None
    for start in range(0, len(steps), _FRAMES):
        stop = min(start + _FRAMES, len(steps))
        first, last = whole[start], whole[stop - 1] + 2
        spectra = scipy.fft.rfft(frames[first:last] * window, axis=1, workers=1)
        spectra = np.pad(spectra, ((0, last - first - len(spectra)), (0, 0)))
        magnitudes = np.sqrt(np.square(spectra.real) + np.square(spectra.imag))
        at = whole[start:stop] - first
        if phase is None:
            phase = _unit(spectra[0], magnitudes[0]).astype(np.complex128)
        advances = _unit(spectra[1:] * spectra[:-1].conj(), magnitudes[1:] * magnitudes[:-1])[at]
        phases = np.multiply.accumulate(np.concatenate([phase[None], advances], dtype=np.complex128), axis=0)
        phase = phases[-1]
        level = magnitudes[at] + share[start:stop] * (magnitudes[at + 1] - magnitudes[at])
        pieces = scipy.fft.irfft(phases[:-1].astype(np.complex64) * level, n_fft, axis=1, workers=1) * window
        for k in range(_OVERLAP):
            out[start + k : stop + k] += pieces[:, k * hop : (k + 1) * hop]
            weight[start + k : stop + k] += np.square(window[k * hop : (k + 1) * hop])
    signal = out.reshape(-1) / np.maximum(weight.reshape(-1), np.finfo(np.float32).tiny)
    n = math.floor(len(y) / rate + 0.5)
    signal = signal[n_fft // 2 : n_fft // 2 + n]
    return np.pad(signal, (0, n - len(signal)))


def _unit(values: npt.NDArray[np.complex64], magnitudes: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    """Return complex numbers divided by their magnitudes, and 1 for those without a phase."""
    ones = np.ones_like(values)
    np.divide(values, magnitudes, out=ones, where=magnitudes > _TINY)
    return ones


EFFECT = Effect("pitch", draw, apply, libraries=("scipy", "soxr"))
