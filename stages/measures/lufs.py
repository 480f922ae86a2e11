"""Loudness: measure the integrated loudness of a clip, or of a whole recording in bounded memory.

All figures are those of ITU-R BS.1770-5 (and -4, which equals it here), unless another source is named. The standard gives its filters
for 48 kHz only. At other rates they are those of FFmpeg's `ebur128` (and of libebur128), whose values these are within 0.02 LU: at 16 kHz
they are about 0.1 LU above those of the same sound at 48 kHz, at 8 kHz 0.2 LU, in both programs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure

LOWEST_RATE_HZ = 4000
"""At a lower sample rate the standard's high shelf, at 1,682 Hz, would be at the end of the band or beyond it."""

BLOCK_S = 0.4
"""Length of the blocks whose powers are averaged. A shorter clip has no loudness."""

_HOPS_PER_S, _HOPS_PER_BLOCK = 10, 4
"""Blocks overlap by 75 %."""

_OFFSET = -0.691
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -70.0, -10.0
_SURROUND = 1.41
_WEIGHTS = {5: (1.0, 1.0, 1.0, _SURROUND, _SURROUND), 6: (1.0, 1.0, 1.0, 0.0, _SURROUND, _SURROUND)}
"""By number of channels, in the order of WAV files: left, right, centre, low-frequency effects (in 5.1), surrounds."""

_INAUDIBLE = 1e-20
"""Added to every other sample. In digital silence the filters' state would decay to denormal numbers, which are up to 50 times as slow."""

_SPAN_HOPS = 32
"""How many hops are filtered at once, so that the float64 copy of a long recording stays small."""

# Analog prototypes of the two filters, whose bilinear transforms at 48 kHz have the standard's coefficients. Figures from
# B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", 145th AES Convention, 2018.
_SHELF_HZ, _SHELF_Q = 1681.974450955533, 0.7071752369554196
_SHELF_DB, _SHELF_BAND = 3.999843853973347, 0.4996667741545416
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773


def k_weighting(sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the K-weighting filter: the high shelf of the head, and the high-pass of the revised low-frequency B-curve.

    Parameters
    ----------
    sample_rate_hz : at least `LOWEST_RATE_HZ`

    Returns
    -------
    sos : float64 [2, 6], second-order sections as in scipy.signal; at 48 kHz the standard's tables 1 and 2

    Raises
    ------
    ValueError : the sample rate is too low
    """
    if sample_rate_hz < LOWEST_RATE_HZ:
        raise ValueError(f"loudness is not defined at {sample_rate_hz} Hz; the lowest rate is {LOWEST_RATE_HZ} Hz")
    k = math.tan(math.pi * _SHELF_HZ / sample_rate_hz)
    high = 10 ** (_SHELF_DB / 20)
    band = high**_SHELF_BAND
    a0 = 1 + k / _SHELF_Q + k * k
    shelf = [
        (high + band * k / _SHELF_Q + k * k) / a0,
        2 * (k * k - high) / a0,
        (high - band * k / _SHELF_Q + k * k) / a0,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / _SHELF_Q + k * k) / a0,
    ]
    k = math.tan(math.pi * _HIGH_PASS_HZ / sample_rate_hz)
    a0 = 1 + k / _HIGH_PASS_Q + k * k
    # Not divided by a0: the standard's table 2 is not, and FFmpeg and libebur128 follow it at every rate.
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / _HIGH_PASS_Q + k * k) / a0]
    return np.array([shelf, high_pass])


class LoudnessMeter:
    """Measure the loudness of a recording that is given in pieces. The result does not depend on how it is divided, to the last bit.

    The state is that of the filters, less than 100 ms of samples, and the energy of every 100 ms: 2.9 MB a channel for ten hours.

    sample_rate_hz : at least `LOWEST_RATE_HZ`
    n_channels : 1 or more. All weigh 1, except in 5 and 6 channels, which are taken for 5.0 and 5.1 in the order of WAV files: there
        surrounds weigh 1.41, and low-frequency effects are left out
    """

    def __init__(self, sample_rate_hz: int, n_channels: int) -> None:
        self._rate_hz = sample_rate_hz
        self._sos = k_weighting(sample_rate_hz)
        self._state = np.zeros((2, n_channels, 2))
        self._held: npt.NDArray[np.float32] = np.empty((n_channels, 0), np.float32)
        self._n_hops = 0
        self._energies: list[npt.NDArray[np.float64]] = []

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Add the next samples. y : float32 [channels, samples], full scale 1.0, of any length"""
        n_held = self._held.shape[1]
        if n_held:
            needed = self._edge(self._n_hops + 1) - self._edge(self._n_hops) - n_held
            first = np.concatenate((self._held, y[:, :needed]), axis=1)
            self._held = first[:, self._take(first) :]
            y = y[:, needed:]
        if y.shape[1]:
            self._held = y[:, self._take(y) :].copy()

    def block_powers(self) -> npt.NDArray[np.float64]:
        """Return the weighted power of each complete block: float64 [n_blocks], full scale 1.0. A block begins every 100 ms.

        Like FFmpeg's `ebur128`, it leaves out samples after the last complete 100 ms.
        """
        if self._n_hops < _HOPS_PER_BLOCK:
            return np.empty(0)
        energies = np.concatenate(self._energies, axis=1)
        n_channels = len(energies)
        weights = np.array(_WEIGHTS.get(n_channels, (1.0,) * n_channels))
        by_hop = np.sum(energies * weights[:, None], axis=0)
        n_blocks = len(by_hop) - _HOPS_PER_BLOCK + 1
        edges = self._edge(np.arange(len(by_hop) + 1, dtype=np.int64))
        total = sum(by_hop[i : i + n_blocks] for i in range(_HOPS_PER_BLOCK))
        powers: npt.NDArray[np.float64] = total / (edges[_HOPS_PER_BLOCK:] - edges[:n_blocks])
        return powers

    def lufs(self) -> float | None:
        """Return the integrated loudness of all samples so far, see `gated_lufs`."""
        return gated_lufs(self.block_powers())

    def _edge(self, hop: npt.NDArray[np.int64] | int) -> Any:
        """Return the first sample of a hop, counted from the start. Hops of a rate that is no multiple of 10 Hz differ by one sample."""
        return (2 * hop * self._rate_hz + _HOPS_PER_S) // (2 * _HOPS_PER_S)

    def _take(self, y: npt.NDArray[np.float32]) -> int:
        """Measure all complete hops of samples that begin with a hop; return the number of samples in them."""
        from scipy import signal  # type: ignore[import-untyped] # here, since few commands need what takes it a second to load

        taken = 0
        while True:
            hops = self._edge(np.arange(self._n_hops, self._n_hops + _SPAN_HOPS + 1, dtype=np.int64))
            edges = hops - hops[0]
            n = int(np.searchsorted(edges, y.shape[1] - taken, "right")) - 1
            if n == 0:
                return taken
            part = y[:, taken : taken + int(edges[n])].astype(np.float64)
            part[:, int(hops[0]) % 2 :: 2] += _INAUDIBLE
            weighted, self._state = signal.sosfilt(self._sos, part, axis=1, zi=self._state)
            self._energies.append(np.add.reduceat(np.square(weighted, out=weighted), edges[:n], axis=1))
            self._n_hops += n
            taken += int(edges[n])


def gated_lufs(powers: npt.NDArray[np.float64]) -> float | None:
    """Return the loudness of the blocks that pass both gates.

    -0.691 + 10 log10(mean power), over the blocks above -70 LUFS that are also above the loudness of all these less 10 LU.

    Parameters
    ----------
    powers : float64 [n_blocks], see `LoudnessMeter.block_powers`

    Returns
    -------
    loudness : LUFS; None when no block is above -70 LUFS
    """
    kept = powers[powers > 10 ** ((_ABSOLUTE_GATE_LUFS - _OFFSET) / 10)]
    if not kept.size:
        return None
    kept = kept[kept > kept.mean() * 10 ** (_RELATIVE_GATE_LU / 10)]
    return _OFFSET + 10 * math.log10(kept.mean())


def block_powers(y: npt.NDArray[np.float32], sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the weighted power of each block of a clip: float64 [n_blocks], none in less than 400 ms. See `LoudnessMeter`.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0
    sample_rate_hz : at least `LOWEST_RATE_HZ`
    """
    meter = LoudnessMeter(sample_rate_hz, len(y))
    meter.add(y)
    return meter.block_powers()


def integrated_lufs(y: npt.NDArray[np.float32], sample_rate_hz: int) -> float | None:
    """Return the integrated loudness of a clip.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0; for the weights of channels see `LoudnessMeter`
    sample_rate_hz : of the clip

    Returns
    -------
    loudness : LUFS; a mono sine of 997 Hz at 0 dBFS has -3.01. None when the clip is shorter than 400 ms, when no block is above
        -70 LUFS, and at sample rates under `LOWEST_RATE_HZ`
    """
    return gated_lufs(block_powers(y, sample_rate_hz)) if sample_rate_hz >= LOWEST_RATE_HZ else None


MEASURE = Measure(
    "lufs",
    (
        column(
            "lufs",
            pa.float64(),
            "integrated loudness after ITU-R BS.1770; null for clips under 0.4 s, or with no block above -70 LUFS",
            "LUFS",
        ),
    ),
    lambda y, sample_rate_hz: (integrated_lufs(y, sample_rate_hz),),
    libraries=("scipy",),
)
