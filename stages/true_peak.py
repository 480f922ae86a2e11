"""True peak: find the peaks of the waveform that samples stand for, between them as well. After ITU-R BS.1770-5, annex 2."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

_TAPS, _BETA = 32, 9.0
"""Of the interpolating filter, a sinc under a Kaiser window. These are the figures of FFmpeg's resampler, by which its `ebur128` measures
true peaks; the standard's example has 12 taps."""

OVERSAMPLING = 8
"""Points of the waveform for each sample. The standard asks for at least 4, which missed up to 0.19 dB of peaks in recordings at 8 kHz, and
more than 0.25 dB in limited noise at 44.1 kHz. With 8 points it was 0.07 dB."""

_BLOCK = 4096
_HOP = _BLOCK - _TAPS + 1
_BLOCKS_AT_ONCE = 8
"""Blocks are convolved by FFT, a few at once, so that they stay in the processor's cache and memory does not grow with the clip."""


def peak_envelope(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the largest magnitude of the waveform, over all channels, from one sample before to one sample after each sample.

    There is silence before and after the clip.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0

    Returns
    -------
    peaks : float32 [samples]
    """
    n = y.shape[1]
    after = np.zeros(n, np.float32)  # the peak between a sample and the next
    spectra = _spectra()
    for channel in y:
        for start in range(0, n, _HOP * _BLOCKS_AT_ONCE):
            stop = min(start + _HOP * _BLOCKS_AT_ONCE, n)
            np.maximum(after[start:stop], _between(channel, start, stop, spectra), out=after[start:stop])
    peaks: npt.NDArray[np.float32] = np.abs(y[0]) if len(y) == 1 else np.max(np.abs(y), axis=0)
    np.maximum(peaks, after, out=peaks)
    np.maximum(peaks[1:], after[:-1], out=peaks[1:])
    return peaks


def true_peak(y: npt.NDArray[np.float32]) -> float:
    """Return the largest magnitude of a clip's waveform, over all channels, full scale 1.0; 0 for digital silence. See `peak_envelope`.

    Parameters
    ----------
    y : float32 [channels, samples], at least one sample
    """
    return float(peak_envelope(y).max())


def true_peak_dbtp(y: npt.NDArray[np.float32]) -> float:
    """Return a clip's true peak in dB relative to full scale, -inf for digital silence. See `true_peak`."""
    peak = true_peak(y)
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def _between(
    y: npt.NDArray[np.float32], start: int, stop: int, spectra: npt.NDArray[np.complex64]
) -> npt.NDArray[np.float32]:
    """Return the largest magnitude between each sample of a range and the next: float32 [stop - start]. y : float32 [samples]"""
    from scipy import fft  # type: ignore[import-untyped] # here, since few commands need it

    before = _TAPS // 2 - 1
    n_blocks = -(-(stop - start) // _HOP)
    padded = np.zeros(n_blocks * _HOP + _TAPS - 1, np.float32)
    first = max(0, start - before)
    part = y[first : start - before + len(padded)]
    padded[first - (start - before) :][: len(part)] = part
    blocks = np.lib.stride_tricks.sliding_window_view(padded, _BLOCK)[::_HOP]
    spectrum = fft.rfft(blocks, axis=1)
    largest = np.zeros((n_blocks, _HOP), np.float32)
    for filter_spectrum in spectra:
        points = fft.irfft(spectrum * filter_spectrum, _BLOCK, axis=1)[:, :_HOP]
        np.maximum(largest, np.abs(points, out=points), out=largest)
    return largest.reshape(-1)[: stop - start]


@cache
def _spectra() -> npt.NDArray[np.complex64]:
    """Return the spectra of the filters for the points 1/8, 2/8, ... after a sample: complex64 [`OVERSAMPLING` - 1, bins]."""
    from scipy import fft

    offsets = np.arange(_TAPS) - (_TAPS // 2 - 1) - np.arange(1, OVERSAMPLING)[:, None] / OVERSAMPLING
    window = np.i0(_BETA * np.sqrt(np.maximum(0, 1 - (offsets / (_TAPS // 2)) ** 2)))
    filters = np.sinc(offsets) * window
    filters /= filters.sum(axis=1, keepdims=True)
    # The conjugate correlates instead of convolving: point n is the sum over k of filter[k] y[n + k].
    spectra: npt.NDArray[np.complex64] = np.conj(fft.rfft(filters, _BLOCK, axis=1)).astype(np.complex64)
    return spectra
