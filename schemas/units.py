"""Convert between seconds, samples, 16-bit PCM and decibels. No other module does."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FULL_SCALE = 32768
"""Full scale of 16-bit PCM. A float sample of 1.0 stands for this value."""


SATURATED = (FULL_SCALE - 1) / FULL_SCALE
"""A float sample of at least this magnitude is at full scale: 16-bit PCM has no larger positive value."""


def to_samples(seconds: float, sample_rate_hz: int) -> int:
    """Return the index of the sample nearest to a point in time; ties go up.

    Parameters
    ----------
    seconds : time from the start, >= 0
    sample_rate_hz : > 0
    """
    return math.floor(seconds * sample_rate_hz + 0.5)


def resampled_length(n_frames: int, source_rate_hz: int, target_rate_hz: int) -> int:
    """Return the number of frames at another rate, rounded to the nearest; ties go up, as in soxr."""
    return (2 * n_frames * target_rate_hz + source_rate_hz) // (2 * source_rate_hz)


def to_pcm16(y: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], int]:
    """Round float samples to 16-bit PCM, and clip those beyond full scale.

    A 16-bit recording decoded to float32 (value / 32768) is restored bit for bit.

    Parameters
    ----------
    y : float32, any shape, nominal range [-1, 1)

    Returns
    -------
    pcm : int16, same shape; ties are rounded to even
    clipped_samples : number of samples beyond [-32768, 32767], which were set to the nearest end
    """
    scaled = np.rint(y * np.float32(FULL_SCALE))
    clipped_samples = int(np.count_nonzero((scaled > 32767) | (scaled < -32768)))
    np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype(np.int16), clipped_samples


def level_dbfs(samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> float:
    """Return the level of a clip in dB relative to full scale, 20 log10(rms / full scale).

    The formula is that of pydub's ``AudioSegment.dBFS``, over all channels, but the rms is not rounded to a whole number
    first (pydub truncates it, an error of up to 0.03 dB at -40 dBFS). Digital silence and empty clips give -inf.

    Parameters
    ----------
    samples : int16 (full scale 32768) or float32 (full scale 1.0), any shape

    Returns
    -------
    level : <= 0 for int16; a full-scale square wave is 0, a full-scale sine -3.01
    """
    if samples.size == 0:
        return -math.inf
    wide = samples.ravel().astype(np.float64)
    mean_square = float(np.dot(wide, wide)) / wide.size
    if mean_square == 0.0:
        return -math.inf
    full_scale = float(FULL_SCALE) if samples.dtype == np.int16 else 1.0
    return 10.0 * math.log10(mean_square / (full_scale * full_scale))
