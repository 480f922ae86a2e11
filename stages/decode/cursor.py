"""Frames of a recording in ascending order, each decoded at most once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.readers import DecodeError, Reader

_BLOCK_FRAMES = 1 << 17


class Cursor:
    """Serves stretches of frames in ascending order from a reader, decoding each frame at most once.

    max_s : longest recording, None: none is too long. What the reader declares counts, else what was decoded
    total : length of the recording once its end was reached, else None
    read : frames decoded
    remarks : code of clipmill.schemas.remarks and detail

    Raises
    ------
    DecodeError : recording_too_long, here or from `take`
    """

    def __init__(
        self,
        reader: Reader,
        keep_truncated: bool,
        container: Container,
        alive: Callable[[], None],
        max_s: float | None = None,
    ) -> None:
        self._reader, self._keep_truncated, self._alive = reader, keep_truncated, alive
        self._is_truncated, self._block_frames = container.truncated is not None, container.block_frames
        self._declared, self._max_s = reader.n_frames, max_s
        if keep_truncated:
            reader.n_frames = None  # the header's word is not to be believed
        if reader.n_frames is not None:
            self._check_length(reader.n_frames)
        self.remarks: list[tuple[str, str]] = []
        self._at = 0
        self._held = np.empty((0, reader.n_channels), np.float32)
        self._held_start = 0
        self.total: int | None = 0 if reader.n_frames == 0 else None
        self.read = 0

    def take(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return float32 [frames, channels] of [start, stop), fewer at the recording's end. `start` never goes back."""
        if self._reader.n_frames is not None:
            stop = max(start, min(stop, self._reader.n_frames))
        held_stop = self._held_start + len(self._held)
        overlap = self._held[start - self._held_start :] if start < held_stop else self._held[:0]
        if len(overlap) >= stop - start:
            return overlap[: stop - start]
        fresh_start = start + len(overlap)
        if fresh_start > self._at:
            self._advance(fresh_start)
        out = np.empty((stop - start, self._reader.n_channels), np.float32)
        filled = len(overlap)
        out[:filled] = overlap
        while filled < len(out) and self.total is None and self._at >= fresh_start:
            # In blocks: libsndfile clears all of the memory that it was given and did not fill.
            filled += self._read(out[filled : filled + _BLOCK_FRAMES])
        # What ends early would hold on to memory for what did not come.
        self._held = out if filled == len(out) else out[:filled].copy()
        self._held_start = start
        return self._held

    def length_before(self, stop_s: float) -> int | None:
        """Decode up to a point in time, keeping nothing; return the recording's length in frames if it ends before that."""
        self._discard(math.ceil(stop_s * self._reader.sample_rate_hz))
        return self.total

    def _advance(self, frame: int) -> None:
        if self._reader.exact_seek:
            # Where the header's word is not believed, there is still nothing behind what it declares.
            self._at = min(frame, self._reader.n_frames or self._declared or frame)
            self._reader.seek(self._at)
            if self._at < frame and self.total is None:
                self.total = self._at
            return
        self._discard(frame)

    def _discard(self, frame: int) -> None:
        scratch = np.empty((_BLOCK_FRAMES, self._reader.n_channels), np.float32)
        while self._at < frame and self.total is None:
            self._read(scratch[: min(_BLOCK_FRAMES, frame - self._at)])

    def _read(self, out: npt.NDArray[np.float32]) -> int:
        given = self._reader.read_into(out)
        self._alive()
        self._at += given
        self.read += given
        if given:
            self._check_length(self._at)
        if given < len(out):
            self.total = self._at
            self._check_end()
        return given

    def _check_end(self) -> None:
        """See whether the recording ended where it should. Keeping truncated ones excuses an early end, and no damage."""
        problem, declared = self._reader.problem, self._declared
        at_end = self._is_truncated or (declared is not None and 0 < declared - self._at <= self._block_frames)
        if problem is not None and not (self._keep_truncated and at_end):
            raise DecodeError("corrupt", f"{problem}, after {self._at} frames")
        short = None
        if declared is not None and self._at < declared:
            short = f"the header declares {declared} frames and {self._at} could be decoded"
            if not self._keep_truncated:
                raise DecodeError("truncated", short)
        if short or self._is_truncated:
            self.remarks.append(("truncated_kept", short or problem or f"{self._at} frames were there"))

    def _check_length(self, n_frames: int) -> None:
        """Refuse a recording that has so many frames, or more."""
        length_s = n_frames / self._reader.sample_rate_hz
        if self._max_s is not None and length_s > self._max_s:
            raise too_long(length_s if self._reader.n_frames == n_frames else None, self._max_s)


def too_long(length_s: float | None, max_s: float) -> DecodeError:
    """Return the rejection of a recording that is over the limit. length_s : None where it is only known to be longer"""
    found = "it is" if length_s is None else f"it lasts {length_s:.1f} s,"
    return DecodeError("recording_too_long", f"{found} longer than the {max_s:g} s that limits.max_recording_s allows")
