"""Compare a container's clock with the samples that were decoded: find holes, late starts and early ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.stages.decode.readers.base import DecodeError

_WITH_CLOCK = frozenset({"mp4", "matroska", "ogg", "mpegts", "mpegps", "flv", "asf", "avi"})
"""Kinds whose packets have times of their own; for others FFmpeg derives times from the samples that it counted."""
_WITHOUT_ZERO = frozenset({"mpegts", "mpegps"})
_HOLE_S = 0.05
_LATE_S = 0.1
_SHORT_S = 0.2
_PRIMING_FRAMES, _PRIMING_S = 2, 0.1
_LONGEST_HOLE_S = 3600.0
_DTX_BYTES = 3
"""An Opus packet of at most this many bytes only says that silence follows (DTX)."""
_BLOCK_FRAMES = 1 << 16


class Timeline:
    """Follows the times of decoded frames.

    gaps : fill | reject | ignore, what to do at a hole
    remarks : pairs of code and detail; the list is shared with the reader
    packet_bytes : size of the packet that was decoded last
    """

    def __init__(self, container: Any, stream: Any, kind: str, gaps: str) -> None:
        self.remarks: list[tuple[str, str]] = []
        self.packet_bytes = 0
        self._gaps, self._has_clock, self._has_zero = gaps, kind in _WITH_CLOCK, kind not in _WITHOUT_ZERO
        self._is_opus = stream.codec_context is not None and stream.codec_context.name in ("opus", "libopus")
        self._start_s = _earliest_s(container)
        self._declared_s = _declared_s(container, stream, kind)
        self._expected_s: float | None = None
        self._n_holes, self._missing_total_s, self._first_hole = 0, 0.0, ""
        self._ignored_s = 0.0
        self._n_frames = self._n_decoded = self._rate = 0

    def fill_before(self, frame: Any, channels: int) -> Iterator[npt.NDArray[np.float32]]:
        """Count a frame, and yield the silence to put before it, float32 [frames, channels] in pieces.

        Raises
        ------
        DecodeError : timeline_gap
        """
        rate, samples = int(frame.sample_rate), int(frame.samples)
        self._rate = rate
        if self._has_clock and frame.pts is not None and frame.time_base:
            at_s = float(frame.pts * frame.time_base)
            missing_s = self._missing_s(at_s, samples / rate)
            if missing_s > 0.0:
                n = round(missing_s * rate)
                self._n_frames += n
                for done in range(0, n, _BLOCK_FRAMES):
                    yield np.zeros((min(_BLOCK_FRAMES, n - done), channels), np.float32)
            self._expected_s = at_s
        if self._expected_s is not None:  # only the first frame of a packet has a time
            self._expected_s += samples / rate
        self._n_frames += samples
        self._n_decoded += 1

    def _missing_s(self, at_s: float, frame_s: float) -> float:
        """Return the seconds of silence to put before a frame; add a remark on the hole, or reject the recording."""
        if self._expected_s is None:
            late_s = at_s - self._start_s if self._start_s is not None and self._has_zero else 0.0
            if late_s <= _LATE_S:
                return 0.0
            self._check_hole(late_s, 0.0)
            is_filled = self._gaps == "fill"
            self.remarks.append(
                (
                    "late_start",
                    f"the audio starts {late_s:.3f} s after the container's first stream"
                    + ", filled with silence" * is_filled,
                )
            )
            self._ignored_s = 0.0 if is_filled else late_s
            return late_s if is_filled else 0.0
        jump_s = at_s - self._expected_s
        if jump_s <= max(_HOLE_S, 2 * frame_s):
            return 0.0
        if self._n_decoded <= _PRIMING_FRAMES and jump_s <= _PRIMING_S:
            return 0.0  # the encoder's priming, which has no time of its own
        place_s = self._n_frames / self._rate
        self._check_hole(jump_s, place_s)
        if self._is_opus and self.packet_bytes <= _DTX_BYTES:
            return jump_s  # the encoder announced silence
        where = f"{jump_s:.3f} s are missing at {place_s:.3f} s"
        if self._gaps == "reject":
            raise DecodeError("timeline_gap", where)
        self._n_holes += 1
        self._missing_total_s += jump_s
        action = {"fill": "filled with silence", "ignore": "the audio after it moves forward"}[self._gaps]
        if self._n_holes == 1:
            self._first_hole = f"{where}, {action}"
            self.remarks.append(("timeline_gap", self._first_hole))
        else:
            place = next(i for i, (code, _) in enumerate(self.remarks) if code == "timeline_gap")
            total = f"; {self._n_holes} holes, {self._missing_total_s:.3f} s in total"
            self.remarks[place] = ("timeline_gap", self._first_hole + total)
        if self._gaps == "fill":
            return jump_s
        self._ignored_s += jump_s
        return 0.0

    def _check_hole(self, seconds: float, place_s: float) -> None:
        """Raise DecodeError when a hole is too long to be real."""
        if seconds > _LONGEST_HOLE_S:
            raise DecodeError(
                "timeline_gap",
                f"the container's clock jumps by {seconds:.0f} s at {place_s:.3f} s, which cannot be right",
            )

    @property
    def is_complete(self) -> bool:
        """Return whether everything that the container declares was decoded; False if it declares no length."""
        return self._declared_s is not None and self._rate > 0 and self._decoded_s >= self._declared_s - _SHORT_S

    @property
    def _decoded_s(self) -> float:
        return self._n_frames / self._rate + self._ignored_s

    def shortfall(self) -> str | None:
        """Return a message if less was decoded than the container declares, else None."""
        if self._declared_s is None or not self._rate or self.is_complete:
            return None
        return f"the container declares {self._declared_s:.3f} s, but only {self._decoded_s:.3f} s could be decoded"


def _earliest_s(container: Any) -> float | None:
    """Return the start in seconds of the earliest audio or video stream, None if none states it."""
    times = [
        float(s.start_time * s.time_base)
        for s in (*container.streams.audio, *container.streams.video)
        if s.start_time is not None and s.time_base
    ]
    return min(times, default=None)


def _declared_s(container: Any, stream: Any, kind: str) -> float | None:
    """Return the length of the track that the container itself states, None if it does not."""
    is_only_stream = len(container.streams.audio) + len(container.streams.video) == 1
    if kind == "mp4" and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if kind in ("matroska", "flv") and is_only_stream and container.duration:
        # The duration counts from the clock's zero, as in Matroska, or from the first packet.
        start_s = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
        return float(container.duration / 1_000_000) - max(0.0, start_s)
    return None
