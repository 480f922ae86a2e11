"""Say what librosa's constant-Q transform needs of clips and of their sample rate, before there are clips.

Sources: Schörkhuber and Klapuri, "Constant-Q transform toolbox for music processing", SMC 2010; librosa 0.11, `librosa.core.constantq`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

C1_HZ = 440.0 * 2.0 ** (-45 / 12)
"""The lowest frequency where none is given, as in librosa."""

_HANN_BANDWIDTH = 1.50018310546875
_MAX_LENGTH = 1 << 17
"""Samples of the longest filter at the rate at which it is applied; an octave of them takes some hundred megabytes at most."""


@dataclass(frozen=True)
class ConstantQ:
    """A constant-Q transform with Hann windows, octave by octave from the top, each at half the rate of the one above if that can be.

    sample_rate_hz, hop_length : of the clips
    fmin : lowest frequency in Hz; None: C1
    n_bins, bins_per_octave : how many there are
    tuning : in bins; None: estimated for each clip, at most half a bin
    filter_scale : factor of the filters' lengths
    """

    sample_rate_hz: int
    hop_length: int
    fmin: float | None
    n_bins: int
    bins_per_octave: int
    tuning: float | None
    filter_scale: float = 1.0

    @property
    def problem(self) -> tuple[str, str] | None:
        """Return the kind of problem with these settings and what is wrong: "bins" exceed half the rate, or filters are too "long"."""
        rate_hz = self.sample_rate_hz
        if self._cutoff_hz(0.5) > rate_hz / 2:
            return "bins", (
                f"{self.n_bins} bins from {self._lowest_hz:.4g} Hz reach {self._cutoff_hz(0.5):,.0f} Hz, and clips of {rate_hz} Hz end at"
                f" {rate_hz / 2:g} Hz"
            )
        halved = min(self._n_octaves - 1 + self._n_early(-0.5), _twos(self.hop_length))
        longest = self._longest / 2**halved
        if longest > _MAX_LENGTH:
            return "long", f"the longest filter would have {longest:,.0f} samples; at most {_MAX_LENGTH:,} are possible"
        return None

    @property
    def most_bins(self) -> int:
        """Return how many bins fit below half the sample rate."""
        fitting = self.sample_rate_hz / 2 / (self._cutoff_hz(0.5) / 2 ** ((self.n_bins - 1) / self.bins_per_octave))
        return max(0, 1 + math.floor(math.log2(fitting) * self.bins_per_octave)) if fitting > 0 else 0

    @property
    def min_samples(self) -> int:
        """Return the length of the shortest clip that can be transformed: one sample at the rate of the top octave."""
        return int(2 ** self._n_early(-0.5))

    @property
    def frames(self) -> Mapping[str, Any]:
        """Return what `FrameLayout.of` takes. n_fft : the power of two that holds the longest filter at the clips' rate"""
        return {"n_fft": 1 << max(4, math.ceil(math.log2(self._longest))), "center": True, "fmin": self._lowest_hz}

    @property
    def _lowest_hz(self) -> float:
        return C1_HZ if self.fmin is None else self.fmin

    @property
    def _q(self) -> float:
        ratio = 2.0 ** (2 / self.bins_per_octave)
        return float(self.filter_scale * (ratio + 1) / (ratio - 1))

    @property
    def _longest(self) -> float:
        return self._q * self.sample_rate_hz / self._lowest_hz

    @property
    def _n_octaves(self) -> int:
        return math.ceil(self.n_bins / self.bins_per_octave)

    def _cutoff_hz(self, unknown: float) -> float:
        """Return the upper end of the highest filter. unknown : the tuning, where it is estimated"""
        tuning = unknown if self.tuning is None else self.tuning
        highest_hz = self._lowest_hz * 2.0 ** ((self.n_bins - 1 + tuning) / self.bins_per_octave)
        return float(highest_hz) * (1 + 0.5 * _HANN_BANDWIDTH / self._q)

    def _n_early(self, unknown: float) -> int:
        """Return how often the clip is brought to half its rate before the top octave."""
        by_rate = math.ceil(math.log2(self.sample_rate_hz / 2 / self._cutoff_hz(unknown))) - 2
        return min(max(0, by_rate), max(0, _twos(self.hop_length) - self._n_octaves + 1))


def _twos(n: int) -> int:
    """Return how often a number above 0 can be halved."""
    return (n & -n).bit_length() - 1
