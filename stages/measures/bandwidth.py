"""Measure up to which frequency clips hold signal: resampled and lossy-coded audio ends below half its sample rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.fft
from scipy.ndimage import median_filter, uniform_filter1d

from clipmill.schemas.columns import column
from clipmill.schemas.units import FULL_SCALE, SATURATED
from clipmill.stages.measures.declaration import Measure
from clipmill.stages.measures.frame_power import mean_of_channels

WINDOW_S = 0.032
MARGIN_DB = 10.0
"""Above the rounding noise of 16 bit. Dither with a triangular distribution raises that noise by 4.8 dB."""

DROP_DB = 40.0
"""What lies this far below the spectrum an octave lower is the skirt of a filter or a window."""

_ROUNDING_POWER = 1.0 / (12.0 * FULL_SCALE**2)
_SMOOTHED = 3
_LINE_BINS = 17
_BLOCK = 128


def compute_bandwidth(y: npt.NDArray[np.float32], sample_rate_hz: int) -> Sequence[float | None]:
    """Return the highest frequency at which a clip holds signal.

    The mean power spectrum of windows of 32 ms (the square of a Hann window, whose side lobes fall by 30 dB per octave), averaged over 3
    bins, is signal where it is more than 10 dB above the rounding noise of 16-bit samples (a power of 1/12 of a step, spread evenly up to half
    the sample rate) and less than 40 dB below its largest value within an octave downwards.

    Background noise that was recorded is signal, rounding is none. So clips of full bandwidth give half the sample rate, even if speech is
    all that can be heard in them. Copies that were resampled from a lower rate, or decoded from MP3, give the edge of their filter where it
    is steep; a filter of 8 poles is read at about 1.7 times its cutoff, where it attenuates by 40 dB. Rounding that was amplified by more
    than 10 dB later, and the rounding of 8-bit samples, count as signal.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0; the spectrum is that of the mean of the channels

    Returns
    -------
    bandwidth_hz : > 0, at most half the sample rate; its resolution is about 30 Hz. None for clips without samples, digital silence, DC, and
        clips no louder than rounding noise
    """
    x = mean_of_channels(y)
    n = min(len(x), scipy.fft.next_fast_len(max(8, round(WINDOW_S * sample_rate_hz)), real=True))
    if n < _SMOOTHED:
        return (None,)
    spectrum, rounding = _mean_spectrum(x, n)
    smooth = uniform_filter1d(spectrum, _SMOOTHED, mode="nearest")
    bins = np.arange(len(smooth))
    # Rounding of a tone gives lines. One of them has at most the power of all rounding noise.
    level = np.where(
        smooth > rounding * len(smooth) / _SMOOTHED, smooth, median_filter(spectrum, _LINE_BINS, mode="nearest")
    )
    signal = level > rounding * 10 ** (MARGIN_DB / 10)
    signal &= smooth > _largest_below(smooth) * 10 ** (-DROP_DB / 10)
    found = bins[signal & (bins > 0)]
    if not len(found):
        return (None,)
    nyquist_hz = sample_rate_hz / 2
    highest = int(found[-1])
    return (nyquist_hz if highest >= len(bins) - _SMOOTHED else min(nyquist_hz, highest * sample_rate_hz / n),)


def _mean_spectrum(x: npt.NDArray[np.float32], n: int) -> tuple[npt.NDArray[np.float64], float]:
    """Return the mean power of each bin over windows of n samples, float64 [1 + n / 2], and that of rounding noise in a bin."""
    window = (np.hanning(n + 2)[1:-1] ** 2).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(x, n)[:: max(1, n // 2)]
    mean = np.float32(x.mean(dtype=np.float64))
    spectrum = np.zeros(1 + n // 2)
    kept = _unclipped(x, n, len(frames))
    for at in range(0, len(kept), _BLOCK):
        spectra = scipy.fft.rfft((frames[kept[at : at + _BLOCK]] - mean) * window, axis=1)
        spectrum += np.einsum("ij,ij->j", spectra.real, spectra.real) + np.einsum(
            "ij,ij->j", spectra.imag, spectra.imag
        )
    rounding = _ROUNDING_POWER * float(np.dot(window, window.astype(np.float64)))
    return spectrum / len(kept), rounding


def _unclipped(x: npt.NDArray[np.float32], n: int, n_frames: int) -> npt.NDArray[np.int64]:
    """Return the windows without samples at full scale, int64 [windows]; all of them if there is none. Clipping adds frequencies."""
    starts = np.arange(n_frames) * max(1, n // 2)
    if max(float(x.max()), -float(x.min())) < SATURATED:
        return starts // max(1, n // 2)
    n_clipped = np.concatenate([[0], np.cumsum(np.abs(x) >= SATURATED)])
    kept = np.flatnonzero(n_clipped[starts + n] == n_clipped[starts])
    return kept if len(kept) else np.arange(n_frames)


def _largest_below(smooth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the largest value of a spectrum within an octave below each bin: float64 [bins]."""
    bins = np.arange(len(smooth))
    starts = (bins + 1) // 2
    # A sparse table: the maximum over [start, bin] is that of two runs whose length is a power of 2.
    levels = np.floor(np.log2(bins - starts + 1)).astype(np.int64)
    largest = np.empty_like(smooth)
    runs = smooth
    for level in range(int(levels.max()) + 1):
        if level:
            half = 1 << (level - 1)
            runs = np.maximum(runs[:-half], runs[half:])
        chosen = levels == level
        largest[chosen] = np.maximum(runs[starts[chosen]], runs[bins[chosen] - (1 << level) + 1])
    return largest


MEASURE = Measure(
    name="bandwidth",
    columns=(column("bandwidth_hz", pa.float64(), "highest frequency that holds signal, null for silence", "Hz"),),
    compute=compute_bandwidth,
)
