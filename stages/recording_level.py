"""Measure the level of whole recordings as they are decoded, for `level: {of: recording}`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from clipmill.stages.measures.lufs import LoudnessMeter


class RecordingLevel:
    """Measures what the stage `level` brings to its target: a peak or a level in dBFS, or a loudness in LUFS.

    to : peak | rms | lufs
    sample_rate_hz, n_channels : of the samples that `add` takes
    clip_rate_hz : of the clips, for which samples are resampled, since what a low rate leaves out is not heard in them; None: the same
    quality : of soxr, HQ | VHQ | MQ
    """

    def __init__(
        self, to: str, sample_rate_hz: int, n_channels: int, clip_rate_hz: int | None = None, quality: str = "HQ"
    ) -> None:
        rate_hz = clip_rate_hz or sample_rate_hz
        self._to, self._channels = to, n_channels
        self._resampler = (
            soxr.ResampleStream(sample_rate_hz, rate_hz, n_channels, dtype="float32", quality=quality)
            if rate_hz != sample_rate_hz
            else None
        )
        self._meter = LoudnessMeter(rate_hz, n_channels) if to == "lufs" else None
        self._peak, self._energy, self._n = 0.0, 0.0, 0

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples. y : float32 [channels, samples]"""
        self._measure(self._resampled(self._resampler, y, False) if self._resampler is not None else y)

    def _resampled(self, by: Any, y: npt.NDArray[np.float32], last: bool) -> npt.NDArray[np.float32]:
        x = by.resample_chunk(np.ascontiguousarray(y.T), last=last)
        return np.asarray(x, np.float32).reshape(-1, self._channels).T

    def _measure(self, y: npt.NDArray[np.float32]) -> None:
        if self._meter is not None:
            self._meter.add(y)
        elif self._to == "peak":
            self._peak = max(self._peak, float(np.abs(y).max(initial=0.0)))
        else:
            wide = y.astype(np.float64).reshape(-1)
            self._energy, self._n = self._energy + float(np.dot(wide, wide)), self._n + wide.size

    def level(self) -> float | None:
        """Return the level after the last samples, None if there is none, as digital silence has none."""
        if self._resampler is not None:
            self._measure(self._resampled(self._resampler, np.empty((self._channels, 0), np.float32), True))
            self._resampler = None
        if self._meter is not None:
            return self._meter.lufs()
        power = self._peak**2 if self._to == "peak" else self._energy / max(1, self._n)
        return 10 * math.log10(power) if power > 0 and math.isfinite(power) else None
