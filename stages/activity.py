"""Find where a recording is not silent, by the level of a sliding window. Silences are those of pydub's `detect_silence`.

A window of `min_silence_s` moves over the recording in steps of 1 ms, and is quiet if its level is below `below_dbfs`. A silence is the
union of quiet windows that overlap or touch, so it has at least `min_silence_s`. Everything else is active.
"""

from __future__ import annotations

import math
from array import array

import numpy as np
import numpy.typing as npt

from clipmill.schemas.units import to_samples

STEPS_PER_S = 1000
"""Steps of the window in a second, as pydub's default."""

_BLOCK_FRAMES = 1 << 14  # squares of one block stay in the processor's cache
_BATCH_STEPS = 4096
_LARGEST_SUM_BITS = 62


class Activity:
    """Collect the levels of a recording that arrives in pieces, and return its active intervals.

    Parameters
    ----------
    sample_rate_hz : at least 1000, so that each step has a sample
    below_dbfs : a window is quiet if its level is below; the level is that of `clipmill.schemas.units.level_dbfs`, over all channels
    min_silence_s : length of the window, rounded to 1 ms, at least 1 ms. A shorter recording has no silence
    pad_s : silence to keep before and after each interval, rounded to 1 ms. A silence shorter than twice this is divided in its middle

    Raises
    ------
    ValueError : the sample rate is below 1000 Hz

    Notes
    -----
    Step k begins at sample ``k * sample_rate_hz // 1000``. A last step of at least half a millisecond counts as full, as if zeros
    followed; a shorter one belongs to whatever precedes it.

    pydub compares an rms that is rounded down to a whole number of 16-bit steps, and counts a window whose rms equals the threshold as
    quiet. Levels here are not rounded. Results are equal if the threshold is a whole number k of 16-bit steps here and ``k - 0.5`` there.

    Squares are rounded to integers in a unit that a window of the loudest samples cannot overflow, and samples that alone make a window
    loud are limited before. So sums are exact, and the result does not depend on how the recording was divided. The squares of 16-bit
    samples are whole numbers of that unit, except in windows of many millions of samples at a threshold near full scale.

    Memory is that of two windows' steps and of 16 bytes a silence.
    """

    def __init__(self, sample_rate_hz: int, below_dbfs: float, min_silence_s: float, pad_s: float = 0.0) -> None:
        if sample_rate_hz < STEPS_PER_S:
            raise ValueError(f"the sample rate is {sample_rate_hz} Hz; expected at least {STEPS_PER_S} Hz")
        self._rate_hz = sample_rate_hz
        self._quiet_below = 10.0 ** (below_dbfs / 10)
        self._window = max(1, to_samples(min_silence_s, STEPS_PER_S))
        self._pad = to_samples(pad_s, STEPS_PER_S)
        self._channels = 0
        self._unit = self._ceiling = 0.0
        self._frames = 0
        self._steps = 0  # complete ones
        self._open_step = 0  # sum of the squares of the step that is not complete
        self._pending: list[npt.NDArray[np.int64]] = []
        self._n_pending = 0
        self._first_window = 0
        self._recent = np.empty(0, np.int64)  # sums of the steps before the pending ones that windows still need
        self._edges = array("q")  # of silences in steps: start, stop, start, ... ; the last silence is open
        self._last_quiet = -1

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Add the next piece of the recording.

        Parameters
        ----------
        y : float32 [channels, samples], full scale 1.0, of any length. Samples that are not finite count as loud

        Raises
        ------
        ValueError : the number of channels changed
        """
        if not self._channels:
            self._begin(y.shape[0])
        if y.shape[0] != self._channels:
            raise ValueError(f"the piece has {y.shape[0]} channels, those before have {self._channels}")
        for start in range(0, y.shape[1], _BLOCK_FRAMES):
            self._add_block(y[:, start : start + _BLOCK_FRAMES])

    def finish(self) -> list[tuple[int, int]]:
        """Return the active intervals of the recording, after its last piece.

        Returns
        -------
        intervals : (start_sample, stop_sample), half-open, padded, in order, without overlap, within the recording. None if the
            recording is silent throughout
        """
        n_steps = max(self._steps, round(STEPS_PER_S * self._frames / self._rate_hz))
        if n_steps > self._steps:
            self._take(np.array([self._open_step]))
            self._steps, self._open_step = n_steps, 0
        self._detect()
        if self._last_quiet >= 0:
            self._edges.append(self._last_quiet + self._window)
            self._last_quiet = -1
        # The active intervals are what lies between silences.
        edges = np.array([0, *self._edges, n_steps], np.int64).reshape(-1, 2)
        edges = edges[edges[:, 1] > edges[:, 0]]
        starts, stops = edges[:, 0] - self._pad, edges[:, 1] + self._pad
        overlap = stops[:-1] > starts[1:]
        middles = (stops[:-1] + starts[1:]) // 2
        stops[:-1][overlap] = starts[1:][overlap] = middles[overlap]
        starts = np.maximum(starts, 0) * self._rate_hz // STEPS_PER_S
        stops = np.where(stops < n_steps, stops * self._rate_hz // STEPS_PER_S, self._frames)
        return list(zip(starts.tolist(), stops.tolist(), strict=True))

    def _begin(self, channels: int) -> None:
        """Choose the unit of squares: the largest sum of a window is its number of samples, squared, times the threshold."""
        self._channels = channels
        n_samples = channels * (self._window * self._rate_hz // STEPS_PER_S + 1)
        largest = n_samples * n_samples * self._quiet_below
        self._unit = 2.0 ** (_LARGEST_SUM_BITS - math.ceil(math.log2(largest)))
        self._ceiling = math.ceil(n_samples * self._quiet_below * self._unit)

    def _add_block(self, y: npt.NDArray[np.float32]) -> None:
        first, stop = self._frames, self._frames + y.shape[1]
        squares = np.square(y, dtype=np.float64)
        squares *= self._unit
        np.fmin(squares, self._ceiling, out=squares)  # of NaN and a number, the number
        values = np.rint(squares, out=squares).astype(np.int64)
        frames = values[0] if self._channels == 1 else values.sum(axis=0)
        n_steps = ((stop + 1) * STEPS_PER_S - 1) // self._rate_hz  # those whose last sample lies before `stop`
        edges = np.arange(self._steps + 1, n_steps + 1, dtype=np.int64) * self._rate_hz // STEPS_PER_S - first
        is_complete = bool(edges.size and edges[-1] == y.shape[1])
        sums = np.add.reduceat(frames, np.concatenate([[0], edges[:-1] if is_complete else edges]))
        sums[0] += self._open_step
        self._open_step = 0 if is_complete else int(sums[-1])
        self._frames, self._steps = stop, n_steps
        self._take(sums if is_complete else sums[:-1])

    def _take(self, sums: npt.NDArray[np.int64]) -> None:
        self._pending.append(sums)
        self._n_pending += len(sums)
        if self._n_pending >= max(self._window, _BATCH_STEPS):
            self._detect()

    def _detect(self) -> None:
        """Find the quiet windows that end in the pending steps."""
        steps = np.concatenate([self._recent, *self._pending])
        self._pending, self._n_pending = [], 0
        n_windows = len(steps) - self._window + 1
        self._recent = steps[max(0, n_windows) :].copy()
        if n_windows < 1:
            return
        sums = np.concatenate([[0], np.cumsum(steps)])  # may wrap around; differences do not
        sums = sums[self._window :] - sums[: -self._window]
        first = self._first_window
        self._first_window += n_windows
        starts = np.arange(first, first + n_windows, dtype=np.int64)
        n_samples = (starts + self._window) * self._rate_hz // STEPS_PER_S - starts * self._rate_hz // STEPS_PER_S
        limits = np.ceil((self._channels * self._quiet_below * self._unit) * n_samples)
        self._join(starts[sums < limits.astype(np.int64)])

    def _join(self, quiet: npt.NDArray[np.int64]) -> None:
        """Join quiet windows to silences. quiet : their first steps, in order"""
        if not quiet.size:
            return
        if self._last_quiet < 0:
            self._edges.append(int(quiet[0]))
        else:
            quiet = np.concatenate([[self._last_quiet], quiet])
        gaps = np.flatnonzero(np.diff(quiet) > self._window)
        self._edges.frombytes(np.stack([quiet[gaps] + self._window, quiet[gaps + 1]], axis=1).tobytes())
        self._last_quiet = int(quiet[-1])
