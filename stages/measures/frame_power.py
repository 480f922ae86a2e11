"""Measure the power of a clip in frames of 20 ms. Measures of silence and noise share it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.units import to_samples

FRAME_S = 0.02


def mean_of_channels(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of the channels: float32 [samples]; a view if there is one channel. y : float32 [channels, samples]."""
    mean: npt.NDArray[np.float32] = y[0] if len(y) == 1 else y.mean(axis=0, dtype=np.float32)
    return mean


def frame_power(
    x: npt.NDArray[np.float32], sample_rate_hz: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the mean square of each 20-ms frame of a clip, full scale 1.0. Frames do not overlap.

    Parameters
    ----------
    x : float32 [samples], at least one
    sample_rate_hz : > 0; a frame has the number of samples nearest to 20 ms, at least one

    Returns
    -------
    power : float64 [frames]; the last frame can be shorter than the others, and its mean is over the samples that it has
    lengths : int64 [frames], the samples of each frame
    """
    n = max(1, to_samples(FRAME_S, sample_rate_hz))
    n_whole = len(x) // n
    frames = x[: n_whole * n].reshape(n_whole, n)
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64)
    lengths = np.full(n_whole, n)
    rest = x[n_whole * n :]
    if len(rest):
        power = np.append(power, np.einsum("i,i->", rest, rest, dtype=np.float64))
        lengths = np.append(lengths, len(rest))
    return power / lengths, lengths
