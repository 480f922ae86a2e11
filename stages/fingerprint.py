"""Fingerprint recordings by the peaks of their spectrum, so that copies in other encodings, levels and rates are found.

Peaks of a spectrogram survive lossy coding, and pairs of them, with the time between them, hardly occur by chance: the idea is that of
A. Wang, "An industrial-strength audio search algorithm", 2003. The set of a recording's pairs is summed up by MinHash (A. Broder, "On the
resemblance and containment of documents", 1997): the share of equal numbers in two signatures estimates what their sets have in common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft
import soxr
from scipy.ndimage import maximum_filter

RATE_HZ = 8000
N_NUMBERS = 128
"""Numbers of a signature. The estimate of a similarity s has a standard deviation of sqrt(s (1 - s) / 128), at most 0.044."""

_N_FFT, _HOP = 512, 128
_PEAK_BINS, _PEAK_FRAMES = 13, 11
_FAN_OUT, _MAX_FRAMES = 5, 63
_FLOOR_DB = 60.0
_EMPTY = np.uint32(0xFFFFFFFF)
_RANDOM = np.random.Generator(np.random.Philox(key=np.array([7, 11], np.uint64)))
_FACTORS = _RANDOM.integers(1, 1 << 63, N_NUMBERS, dtype=np.uint64) | np.uint64(1)
_OFFSETS = _RANDOM.integers(0, 1 << 63, N_NUMBERS, dtype=np.uint64)


def pairs_of_peaks(y: npt.NDArray[np.float32], sample_rate_hz: int) -> npt.NDArray[np.uint32]:
    """Return the pairs of neighbouring peaks in a clip: uint32, sorted, each once. A silent clip has none.

    Parameters
    ----------
    y : float32 [channels, samples]
    """
    x = y.mean(axis=0)
    if sample_rate_hz != RATE_HZ:
        x = soxr.resample(x, sample_rate_hz, RATE_HZ)
    if len(x) < _N_FFT:
        return np.empty(0, np.uint32)
    window = np.hanning(_N_FFT + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(x, _N_FFT)[::_HOP] * window
    level_db = 20 * np.log10(np.abs(scipy.fft.rfft(frames, axis=1))[:, 1:] + 1e-9)
    greatest = maximum_filter(level_db, size=(_PEAK_FRAMES, _PEAK_BINS))
    is_peak = (level_db == greatest) & (level_db > max(level_db.max() - _FLOOR_DB, -60))
    at, bins = np.nonzero(is_peak)  # by time
    found = []
    for k in range(1, _FAN_OUT + 1):
        later = at[k:] - at[:-k]
        near = (later > 0) & (later <= _MAX_FRAMES)
        found.append((bins[:-k][near] << 14 | bins[k:][near] << 6 | later[near]).astype(np.uint32))
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint32)


def signature(pairs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the MinHash of a set of pairs: uint32 [N_NUMBERS]. Sets are joined by the minimum of their signatures."""
    least = np.full(N_NUMBERS, _EMPTY, np.uint32)
    for start in range(0, len(pairs), 4096):
        values = pairs[start : start + 4096, None].astype(np.uint64)
        hashed = ((values * _FACTORS + _OFFSETS) >> np.uint64(32)).astype(np.uint32)
        least = np.minimum(least, hashed.min(axis=0))
    return least


def similarity(a: npt.NDArray[np.uint32], b: npt.NDArray[np.uint32]) -> float:
    """Return the estimated share of pairs that two recordings have in common, 0 to 1; 0 where one has none."""
    return float(np.mean((a == b) & (a != _EMPTY)))


def is_empty(of: npt.NDArray[np.uint32]) -> bool:
    """Return whether a signature is that of a recording without pairs."""
    return bool((of == _EMPTY).all())
