"""Compute mel filters and the DCT as matrices, as librosa 0.11 defines them (`librosa.filters.mel`, `scipy.fft.dct`), and Kaldi's filters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch


def hz_to_mel(hz: npt.NDArray[np.float64], scale: str) -> npt.NDArray[np.float64]:
    """Return frequencies in mel.

    slaney: linear up to 1 kHz, then logarithmic (Auditory Toolbox, 1998); htk: 2595 log10(1 + f / 700); kaldi: 1127 ln(1 + f / 700).
    """
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log(1.0 + hz / 700.0)
    linear = hz * 3.0 / 200.0
    return np.where(hz >= 1000.0, 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) / (math.log(6.4) / 27.0), linear)


def mel_to_hz(mel: npt.NDArray[np.float64], scale: str) -> npt.NDArray[np.float64]:
    """Return frequencies in Hz, the inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * (np.exp(mel / 1127.0) - 1.0)
    return np.where(mel >= 15.0, 1000.0 * np.exp((math.log(6.4) / 27.0) * (mel - 15.0)), mel * 200.0 / 3.0)


def mel_filters(
    sample_rate_hz: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, scale: str, norm: str | None
) -> npt.NDArray[np.float32]:
    """Return triangular filters, float32 [n_mels, 1 + n_fft // 2], as `librosa.filters.mel`, or as Kaldi's MelBanks.

    librosa's triangles are straight over frequency. Kaldi's are straight over mel, and leave the bin of half the sample rate out.

    Parameters
    ----------
    fmin, fmax : edges of the lowest and the highest filter in Hz; fmax None: half the sample rate
    scale : slaney | htk | kaldi
    norm : "slaney" gives each filter an area of 1 (in Hz), None a peak of 1
    """
    top = sample_rate_hz / 2 if fmax is None else fmax
    bins = (
        np.linspace(0, sample_rate_hz / 2, 1 + n_fft // 2)
        if n_fft % 2 == 0
        else np.asarray(np.fft.rfftfreq(n_fft, 1 / sample_rate_hz), np.float64)
    )
    low, high = hz_to_mel(np.array([fmin, top]), scale)
    edges = mel_to_hz(np.linspace(low, high, n_mels + 2), scale)
    if scale == "kaldi":
        filters = _kaldi_triangles(float(low), float(high), n_mels, sample_rate_hz, n_fft).astype(np.float64)
    else:
        slopes = edges[:, None] - bins[None, :]
        widths = np.diff(edges)[:, None]
        filters = np.maximum(0.0, np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]))
    if norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


def _kaldi_triangles(low: float, high: float, n_mels: int, sample_rate_hz: int, n_fft: int) -> npt.NDArray[np.float32]:
    """Return triangles between edges in mel, float32 [n_mels, 1 + n_fft // 2].

    They are computed in single precision, as Kaldi and torchaudio do: the sides of a triangle are 20 to 40 mel wide and lie around 2,000
    mel, so that rounding changes the outer weights of a band by up to 1e-3 of their value.
    """
    corners = low + torch.arange(n_mels + 2, dtype=torch.float32)[:, None] * ((high - low) / (n_mels + 1))
    hz = torch.arange(n_fft // 2, dtype=torch.float32)[None, :] * (sample_rate_hz / n_fft)
    mels = 1127.0 * (1.0 + hz / 700.0).log()
    rising = (mels - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mels) / (corners[2:] - corners[1:-1])
    found = torch.minimum(rising, falling).clamp_(min=0.0)
    return torch.nn.functional.pad(found, (0, 1)).numpy()


def dct_matrix(n_in: int, n_out: int) -> npt.NDArray[np.float32]:
    """Return the orthonormal DCT-II as float32 [n_in, n_out]; ``x @ matrix`` gives the first n_out coefficients."""
    k = np.arange(n_out)[None, :]
    n = np.arange(n_in)[:, None]
    matrix = np.cos(np.pi * (n + 0.5) * k / n_in) * math.sqrt(2.0 / n_in)
    matrix[:, 0] = math.sqrt(1.0 / n_in)
    return matrix.astype(np.float32)


class Band(NamedTuple):
    """Hold filters [first, last), which are zero outside the bins [low, high). weights : float32 [bins, filters]."""

    first: int
    last: int
    low: int
    high: int
    weights: torch.Tensor


def bands(filters: npt.NDArray[np.float32], at_once: int) -> list[Band]:
    """Divide filters, float32 [n_mels, bins], into bands, since a triangle covers few bins and most of the matrix is zeros."""
    result = []
    for first in range(0, len(filters), at_once):
        group = filters[first : first + at_once]
        used = np.flatnonzero(group.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        # Start and size are multiples of 16, which fill whole vector registers.
        low, high = low // 16 * 16, min(-(-high // 16) * 16, filters.shape[1])
        result.append(Band(first, first + len(group), low, high, even_columns(group[:, low:high].T)))
    return result


def even_columns(matrix: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return a matrix padded with zero columns to a multiple of 16.

    MKL multiplies by small matrices of odd sizes with a kernel that rounds every other row differently (seen with 5 and 10
    columns), so a frame's result would depend on its place in the block.
    """
    return torch.from_numpy(np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 16))))
