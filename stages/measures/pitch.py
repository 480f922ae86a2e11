"""Measure the pitch of clips, and how much of them is voiced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.fft
import soxr

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure
from clipmill.stages.measures.frame_power import mean_of_channels

LOWEST_HZ, HIGHEST_HZ = 50.0, 600.0
HOP_S = 0.01
MAX_APERIODICITY = 0.45
"""Frames are voiced up to this value of the normalised difference: 0 for a periodic signal, seldom below 0.6 for noise."""

VOICED_RANGE_DB = 35.0
"""Frames further below the loud ones are unvoiced, so hum in pauses is no voice."""

QUIETEST_DBFS = -80.0

_RATE_HZ = 4000
_FINE = 2
_N_LAGS = int(_FINE * _RATE_HZ / LOWEST_HZ)
"""Lags are counted in steps of 1 / _FINE of a sample."""

_N = 216
_WIDTH = _N - _N_LAGS // _FINE - 1
_HOP = int(HOP_S * _RATE_HZ)
_FIRST_LAG = int(_FINE * _RATE_HZ / HIGHEST_HZ)
_OCTAVE_TOLERANCE = 0.08
_BLOCK = 128

Floats = npt.NDArray[np.float32]


def compute_pitch(y: Floats, sample_rate_hz: int) -> Sequence[float | None]:
    """Return the median pitch of a clip, and the share of its frames that are voiced.

    Clips are resampled to 4 kHz, and frames of 54 ms every 10 ms compared with themselves at lags of up to 20 ms by the cumulative mean
    normalised difference function of YIN (de Cheveigné and Kawahara 2002, "YIN, a fundamental frequency estimator for speech and music",
    eq. 8). The period is the first of its minima that is within 0.08 of the lowest, refined by the minimum at its largest multiple. Tones
    above 550 Hz whose harmonics near 2 kHz are stronger than all others can be read an octave low.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0; the pitch is that of the mean of the channels

    Returns
    -------
    pitch_hz : median over voiced frames, 50 to 600; None if there is none
    voiced_share : 0 to 1; voiced are frames whose lowest normalised difference is at most 0.45, and that are neither below -80 dBFS nor more
        than 35 dB below the loud ones (95th percentile). None for clips shorter than 54 ms
    """
    x = mean_of_channels(y)
    if len(x) * _RATE_HZ < _N * sample_rate_hz:
        return (None, None)
    # The resampler takes a clip for silence beyond its ends, so an offset would give steps there.
    x = soxr.resample(x - x.mean(dtype=np.float32), sample_rate_hz, _RATE_HZ)
    frames = np.lib.stride_tricks.sliding_window_view(x, _N)[::_HOP]
    results = [_periods(frames[at : at + _BLOCK]) for at in range(0, len(frames), _BLOCK)]
    periods, aperiodicity, power = (np.concatenate(values) for values in zip(*results, strict=True))
    power[~np.isfinite(power)] = 0
    loud = np.quantile(power, 0.95)
    pitch = _FINE * _RATE_HZ / periods
    voiced = (aperiodicity <= MAX_APERIODICITY) & (pitch >= LOWEST_HZ) & (pitch <= HIGHEST_HZ)
    voiced &= power > max(10 ** (QUIETEST_DBFS / 10), loud * 10 ** (-VOICED_RANGE_DB / 10))
    return (float(np.median(pitch[voiced])) if voiced.any() else None, float(voiced.mean()))


@np.errstate(over="ignore", invalid="ignore")
def _periods(frames: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the period in lags, its normalised difference and the power of each frame: float32 [frames]. frames : [frames, samples]."""
    frames = frames - frames.mean(axis=1, keepdims=True)
    difference = _differences(frames)
    sums = np.cumsum(difference, axis=1)
    scale = np.arange(_N_LAGS + 2, dtype=np.float32) / np.maximum(sums, np.float32(1e-30))
    normalised = np.asarray(difference * scale, np.float32)
    normalised[sums[:, -1] <= 0] = 1
    inner = normalised[:, _FIRST_LAG:-1]
    is_minimum = (inner <= normalised[:, _FIRST_LAG - 1 : -2]) & (inner < normalised[:, _FIRST_LAG + 1 :])
    minima = np.where(is_minimum, inner, np.float32(np.inf))
    lowest = minima.min(axis=1, keepdims=True)
    at = (minima <= lowest + _OCTAVE_TOLERANCE).argmax(axis=1) + _FIRST_LAG
    period = at + _vertex(normalised, at)
    n_periods = np.maximum(1, ((_N_LAGS - 1) / period).astype(np.int64))
    far = np.clip(np.rint(n_periods * period).astype(np.int64), 2, _N_LAGS - 1)
    near = np.stack([_at(difference, far + step) for step in (-1, 0, 1)])
    far = np.clip(far + near.argmin(axis=0) - 1, 1, _N_LAGS)
    refined = (far + _vertex(difference, far)) / n_periods
    period = np.where(np.abs(refined - period) < 1 / n_periods, refined, period).astype(np.float32)
    return period, _at(normalised, at), np.einsum("ij,ij->i", frames, frames) / _N


def _differences(frames: Floats) -> Floats:
    """Return the squared difference between each frame and itself at lags from 0 on: float32 [frames, 2 + _N_LAGS]."""
    # Lagged samples end within the frame, so a transform of its length needs no padding. A longer inverse interpolates.
    short = frames.copy()
    short[:, _WIDTH:] = 0
    spectra = scipy.fft.rfft(frames, axis=1) * scipy.fft.rfft(short, axis=1).conj()
    products = scipy.fft.irfft(spectra, _FINE * _N, axis=1)[:, : _N_LAGS + 2] * np.float32(_FINE)
    squares = frames * frames
    energy = np.cumsum(squares[:, _WIDTH:], axis=1) - np.cumsum(squares[:, : _N - _WIDTH], axis=1)
    lagged = np.zeros_like(products)
    lagged[:, 2::2] = energy[:, : _N_LAGS // 2]
    lagged[:, 1:-1:2] = (lagged[:, 0:-2:2] + lagged[:, 2::2]) / 2
    lagged[:, -1] = lagged[:, -2]
    difference = lagged - 2 * products
    difference += 2 * squares[:, :_WIDTH].sum(axis=1, keepdims=True)
    difference[:, 0] = 0
    return np.asarray(np.maximum(difference, 0), np.float32)


def _at(values: Floats, at: npt.NDArray[np.int64]) -> Floats:
    """Return one value of each row: float32 [rows]."""
    return np.asarray(np.take_along_axis(values, at[:, None], axis=1)[:, 0], np.float32)


def _vertex(values: Floats, at: npt.NDArray[np.int64]) -> Floats:
    """Return where the parabola through a minimum and its neighbours is lowest, relative to it: float32 [rows], -0.5 to 0.5."""
    before, here, after = _at(values, at - 1), _at(values, at), _at(values, at + 1)
    curvature = before - 2 * here + after
    shift = 0.5 * (before - after) / np.where(curvature > 0, curvature, np.float32(np.inf))
    return np.asarray(np.clip(shift, -0.5, 0.5), np.float32)


MEASURE = Measure(
    name="pitch",
    columns=(
        column("pitch_hz", pa.float64(), "median pitch of voiced frames, null if there is none", "Hz"),
        column("voiced_share", pa.float64(), "share of frames that are voiced, 0 to 1"),
    ),
    compute=compute_pitch,
    libraries=("soxr",),
)
