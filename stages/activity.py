"""Find where something is heard in a recording by its energy, as pydub's `detect_nonsilent` does, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_STEPS_PER_S = 1000


class Activity:
    """Finds the stretches of a recording that are not silent, as its samples arrive.

    A window of `min_silence_s` moves over the recording in steps of 1 ms. Where its level, over all channels, is not above
    `below_dbfs`, it is silent; silent windows that touch or overlap are one silence. Everything else is heard. This is the definition of
    ``pydub.silence.detect_nonsilent``, without rounding the rms to a whole number first. The result does not depend on how the
    recording is divided among calls of `add`.

    sample_rate_hz : of the samples
    below_dbfs : level of silence, at most
    min_silence_s : shortest silence, at least 1 ms; shorter ones belong to what is heard around them
    pad_s : of each silence, what stays with the sound before it and with the sound after it; sounds closer than twice that share
        what is between them
    """

    def __init__(self, sample_rate_hz: int, below_dbfs: float, min_silence_s: float, pad_s: float) -> None:
        self._rate_hz = sample_rate_hz
        self._power = 10.0 ** (below_dbfs / 10)
        self._n_steps = max(1, round(min_silence_s * _STEPS_PER_S))
        self._pad = round(pad_s * sample_rate_hz)
        self._rest: npt.NDArray[np.float32] | None = None  # samples of the step that is not complete
        self._channels = 1
        self._totals = np.zeros(1)  # of the energy of all samples before each of the last steps
        self._first = 0  # the step at which the totals begin
        self._silences: list[list[int]] = []  # first step and last step, half-open
        self._n_frames = 0

    def _frame(self, step: npt.NDArray[np.int64] | int) -> npt.NDArray[np.int64]:
        """Return the frame at which a step begins."""
        return np.asarray(step, np.int64) * self._rate_hz // _STEPS_PER_S

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples. y : float32 [channels, samples]"""
        self._channels = y.shape[0]
        self._n_frames += y.shape[1]
        whole = y if self._rest is None else np.concatenate([self._rest, y], axis=1)
        step = self._first + len(self._totals) - 1
        begin = int(self._frame(step))
        last = self._n_frames * _STEPS_PER_S // self._rate_hz
        while int(self._frame(last)) > self._n_frames:
            last -= 1
        if last > step:
            edges = self._frame(np.arange(step, last + 1)) - begin
            power = np.einsum("ij,ij->j", whole[:, : edges[-1]], whole[:, : edges[-1]], dtype=np.float64)
            energy = _sums(power, edges)
            # One after the other from the recording's start, so that every sum is the same however samples arrive.
            self._totals = np.concatenate([self._totals, np.cumsum(np.concatenate([self._totals[-1:], energy]))[1:]])
            self._rest = whole[:, edges[-1] :].copy()
            self._look()
        else:
            self._rest = whole.copy()

    def _look(self) -> None:
        """Add the silent windows that are complete to the silences, and keep what the next windows need."""
        n = len(self._totals) - 1 - self._n_steps
        if n < 0:
            return
        starts = np.arange(self._first, self._first + n + 1)
        frames = self._frame(starts + self._n_steps) - self._frame(starts)
        energy = self._totals[self._n_steps :] - self._totals[: n + 1]
        silent = starts[energy <= self._power * frames * self._channels]
        if len(silent):
            edges = np.flatnonzero(np.diff(silent) > self._n_steps)
            firsts = silent[np.concatenate([[0], edges + 1])]
            lasts = silent[np.concatenate([edges, [len(silent) - 1]])] + self._n_steps
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                if self._silences and first <= self._silences[-1][1]:
                    self._silences[-1][1] = last
                else:
                    self._silences.append([first, last])
        self._totals, self._first = self._totals[n + 1 :], self._first + n + 1

    def finish(self) -> list[tuple[int, int]]:
        """Return where something is heard: frames, half-open, ascending and disjoint, within the recording."""
        silences = [(int(self._frame(a)), int(self._frame(b))) for a, b in self._silences]
        if silences and self._n_frames - silences[-1][1] <= self._rate_hz // _STEPS_PER_S:
            silences[-1] = (silences[-1][0], self._n_frames)  # less than a step is left, of which nothing can be told
        edges = [0, *(edge for silence in silences for edge in silence), self._n_frames]
        heard = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
        return _padded(heard, self._pad, self._n_frames)


def _sums(values: npt.NDArray[np.float64], edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the sums of values between edges, 0 where two edges are equal, as at rates under 1 kHz."""
    if (np.diff(edges) > 0).all():
        sums: npt.NDArray[np.float64] = np.add.reduceat(values, edges[:-1])
        return sums
    whole = np.concatenate([[0.0], np.cumsum(values)])
    return np.diff(whole[edges])


def _padded(heard: list[tuple[int, int]], pad: int, n_frames: int) -> list[tuple[int, int]]:
    """Return stretches with padding on both sides. Where two would overlap, they meet in the middle between them."""
    if not pad:
        return heard
    starts = [max(0, start - pad) for start, _ in heard]
    stops = [min(n_frames, stop + pad) for _, stop in heard]
    for i in range(1, len(heard)):
        if starts[i] < stops[i - 1]:
            starts[i] = stops[i - 1] = (starts[i] + stops[i - 1]) // 2
    return list(zip(starts, stops, strict=True))
