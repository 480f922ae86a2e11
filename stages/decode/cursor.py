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
    """Returns stretches of a reader's frames in ascending order and decodes each frame at most once.

    max_s : longest allowed recording, None: no limit. The length that the reader declares counts, or else the decoded length
    total : length of the recording in frames once its end was reached, else None
    read : number of frames decoded so far
    remarks : pairs of a code of clipmill.schemas.remarks and a detail

    Raises
    ------
    DecodeError : recording_too_long, from the constructor or `take`
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
            reader.n_frames = None  # the header is not trusted
        if reader.n_frames is not None:
            self._check_length(reader.n_frames)
        self.remarks: list[tuple[str, str]] = []
        self._at = 0
        self._kept = np.empty((0, reader.n_channels), np.float32)
        self._kept_start = 0
        self.total: int | None = 0 if reader.n_frames == 0 else None
        self.read = 0

    def take(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the frames [start, stop) as float32 [frames, channels], fewer at the recording's end. `start` must not decrease.

        Raises
        ------
        DecodeError : corrupt, truncated, recording_too_long
        """
        if self._reader.n_frames is not None:
            stop = max(start, min(stop, self._reader.n_frames))
        kept_stop = self._kept_start + len(self._kept)
        overlap = self._kept[start - self._kept_start :] if start < kept_stop else self._kept[:0]
        if len(overlap) >= stop - start:
            return overlap[: stop - start]
        fresh_start = start + len(overlap)
        if fresh_start > self._at:
            self._advance(fresh_start)
        out = np.empty((stop - start, self._reader.n_channels), np.float32)
        filled = len(overlap)
        out[:filled] = overlap
        while filled < len(out) and self.total is None and self._at >= fresh_start:
            # In blocks: libsndfile clears all memory that it was given but did not fill.
            filled += self._read(out[filled : filled + _BLOCK_FRAMES])
        # At the end of the recording keep only what was decoded, not the memory for the rest.
        self._kept = out if filled == len(out) else out[:filled].copy()
        self._kept_start = start
        return self._kept

    def length_before(self, stop_s: float) -> int | None:
        """Decode up to a point in time and keep nothing; return the recording's length in frames if it ends before that, else None."""
        self._discard(math.ceil(stop_s * self._reader.sample_rate_hz))
        return self.total

    def _advance(self, frame: int) -> None:
        if self._reader.exact_seek:
            # The header is not trusted to be right, but nothing can follow the length that it declares.
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
        n_read = self._reader.read_into(out)
        self._alive()
        self._at += n_read
        self.read += n_read
        if n_read:
            self._check_length(self._at)
        if n_read < len(out):
            self.total = self._at
            self._check_end()
        return n_read

    def _check_end(self) -> None:
        """Check that the recording ended where it should. `keep_truncated` excuses an early end, but no damage."""
        problem, declared = self._reader.problem, self._declared
        at_end = self._is_truncated or (declared is not None and 0 < declared - self._at <= self._block_frames)
        if problem is not None and not (self._keep_truncated and at_end):
            raise DecodeError("corrupt", f"{problem}, after {self._at} frames")
        shortage = None
        if declared is not None and self._at < declared:
            shortage = f"the header declares {declared} frames, but only {self._at} could be decoded"
            if not self._keep_truncated:
                raise DecodeError("truncated", shortage)
        if shortage or self._is_truncated:
            self.remarks.append(("truncated_kept", shortage or problem or f"{self._at} frames could be decoded"))

    def _check_length(self, n_frames: int) -> None:
        """Raise DecodeError if a recording of at least this many frames is too long."""
        length_s = n_frames / self._reader.sample_rate_hz
        if self._max_s is not None and length_s > self._max_s:
            raise rejection_of_length(length_s if self._reader.n_frames == n_frames else None, self._max_s)


def rejection_of_length(length_s: float | None, max_s: float) -> DecodeError:
    """Return the rejection of a recording that is over the limit. length_s : None if its length is not known"""
    length = "it is" if length_s is None else f"it lasts {length_s:.1f} s,"
    return DecodeError("recording_too_long", f"{length} longer than the {max_s:g} s that limits.max_recording_s allows")
