"""Measure the level of whole recordings as they are decoded, for `level: {of: recording}`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from clipmill.stages.measures.lufs import LoudnessMeter


class RecordingLevel:
    """Measures what the stage `level` brings to its target: a peak or a level in dBFS, or a loudness in LUFS.

    to : peak | rms | lufs
    n_channels : of the samples that `add` takes
    """

    def __init__(self, to: str, sample_rate_hz: int, n_channels: int) -> None:
        self._to = to
        self._meter = LoudnessMeter(sample_rate_hz, n_channels) if to == "lufs" else None
        self._peak, self._energy, self._n = 0.0, 0.0, 0

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples. y : float32 [channels, samples]"""
        if self._meter is not None:
            self._meter.add(y)
        elif self._to == "peak":
            self._peak = max(self._peak, float(np.abs(y).max(initial=0.0)))
        else:
            wide = y.astype(np.float64).reshape(-1)
            self._energy, self._n = self._energy + float(np.dot(wide, wide)), self._n + wide.size

    def level(self) -> float | None:
        """Return the level of all samples so far, None if they have none, as digital silence has none."""
        if self._meter is not None:
            return self._meter.lufs()
        power = self._peak**2 if self._to == "peak" else self._energy / max(1, self._n)
        return 10 * math.log10(power) if power > 0 and math.isfinite(power) else None
