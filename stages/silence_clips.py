"""Find the clips of a recording between its silences, for `segment: {mode: silence}`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.stages.activity import Activity

Interval = tuple[int, int]


class SilenceClips:
    """Finds the stretches of a recording that are not silent. The parameters are those of `clipmill.stages.activity.Activity`.

    remarks : none
    """

    def __init__(self, sample_rate_hz: int, below_dbfs: float, min_silence_s: float, pad_s: float) -> None:
        self._activity = Activity(sample_rate_hz, below_dbfs, min_silence_s, pad_s)
        self._heard: list[Interval] | None = None
        self.remarks: list[tuple[str, str]] = []

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples. y : float32 [channels, samples]"""
        self._activity.add(y)

    def clips_in(self, start: int, stop: int) -> list[Interval]:
        """Return the clips within a range, after the last samples: frames, half-open, ascending and disjoint."""
        if self._heard is None:
            self._heard = self._activity.finish()
        return common(self._heard, start, stop)


def common(intervals: list[Interval], start: int, stop: int) -> list[Interval]:
    """Return what intervals have in common with a range. intervals : half-open, ascending and disjoint"""
    return [(max(a, start), min(b, stop)) for a, b in intervals if a < stop and b > start]
