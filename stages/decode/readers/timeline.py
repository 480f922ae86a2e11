"""The clock of a container, beside the samples that are counted: holes, late starts, and ends that come too early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.stages.decode.readers.base import DecodeError

_WITH_CLOCK = frozenset({"mp4", "matroska", "ogg", "mpegts", "mpegps", "flv", "asf", "avi"})
"""Kinds whose packets have times of their own; elsewhere FFmpeg makes them up from what it has counted."""
_WITHOUT_ZERO = frozenset({"mpegts", "mpegps"})
_HOLE_S = 0.05
_LATE_S = 0.1
_SHORT_S = 0.2
_PRIMING_FRAMES, _PRIMING_S = 2, 0.1
_LONGEST_HOLE_S = 3600.0
_DTX_BYTES = 3
"""So few bytes of Opus hold no more than the word that nothing is to be heard."""
_BLOCK_FRAMES = 1 << 16


class Timeline:
    """Follows the times of decoded frames.

    remarks : code and detail of what was found; shared with the reader
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
        self._left_out_s = 0.0
        self._n_frames = self._n_decoded = self._rate = 0

    def before(self, frame: Any, channels: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the silence that stands before a frame, float32 [frames, channels] in pieces; count the frame."""
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
        if self._expected_s is not None:  # a packet of several frames gives a time to the first alone
            self._expected_s += samples / rate
        self._n_frames += samples
        self._n_decoded += 1

    def _missing_s(self, at_s: float, frame_s: float) -> float:
        """Return the seconds of silence to put before a frame; note or refuse the hole."""
        if self._expected_s is None:
            late_s = at_s - self._start_s if self._start_s is not None and self._has_zero else 0.0
            if late_s <= _LATE_S:
                return 0.0
            self._bound(late_s, 0.0)
            filled = self._gaps == "fill"
            self.remarks.append(
                (
                    "late_start",
                    f"the audio starts {late_s:.3f} s after the container's first stream"
                    + ", silence was put there" * filled,
                )
            )
            self._left_out_s = 0.0 if filled else late_s
            return late_s if filled else 0.0
        jump_s = at_s - self._expected_s
        if jump_s <= max(_HOLE_S, 2 * frame_s):
            return 0.0
        if self._n_decoded <= _PRIMING_FRAMES and jump_s <= _PRIMING_S:
            return 0.0  # an encoder's priming, which has no time of its own
        place_s = self._n_frames / self._rate
        self._bound(jump_s, place_s)
        if self._is_opus and self.packet_bytes <= _DTX_BYTES:
            return jump_s  # the encoder said before that nothing was to be heard
        where = f"{jump_s:.3f} s are missing at {place_s:.3f} s"
        if self._gaps == "reject":
            raise DecodeError("timeline_gap", where)
        self._n_holes += 1
        self._missing_total_s += jump_s
        told = {"fill": "filled with silence", "ignore": "what follows was moved forward"}[self._gaps]
        if self._n_holes == 1:
            self._first_hole = f"{where}, {told}"
            self.remarks.append(("timeline_gap", self._first_hole))
        else:
            place = next(i for i, (code, _) in enumerate(self.remarks) if code == "timeline_gap")
            all_ = f"; {self._n_holes} holes, {self._missing_total_s:.3f} s in all"
            self.remarks[place] = ("timeline_gap", self._first_hole + all_)
        if self._gaps == "fill":
            return jump_s
        self._left_out_s += jump_s
        return 0.0

    def _bound(self, seconds: float, place_s: float) -> None:
        if seconds > _LONGEST_HOLE_S:
            raise DecodeError(
                "timeline_gap",
                f"the container's clock jumps by {seconds:.0f} s at {place_s:.3f} s, which is not believed",
            )

    @property
    def is_complete(self) -> bool:
        """Whether all that the container declares has come; False where it declares nothing."""
        return self._declared_s is not None and self._rate > 0 and self._came_s >= self._declared_s - _SHORT_S

    @property
    def _came_s(self) -> float:
        return self._n_frames / self._rate + self._left_out_s

    def shortfall(self) -> str | None:
        """Return what the container declares and did not come, None when nothing is missing."""
        if self._declared_s is None or not self._rate or self.is_complete:
            return None
        return f"the container declares {self._declared_s:.3f} s and {self._came_s:.3f} s could be decoded"


def _earliest_s(container: Any) -> float | None:
    """Return when the first of the container's audio and video streams starts."""
    times = [
        float(s.start_time * s.time_base)
        for s in (*container.streams.audio, *container.streams.video)
        if s.start_time is not None and s.time_base
    ]
    return min(times, default=None)


def _declared_s(container: Any, stream: Any, kind: str) -> float | None:
    """Return how long the track lasts as the container's own tables say, None where they do not."""
    alone = len(container.streams.audio) + len(container.streams.video) == 1
    if kind == "mp4" and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if kind in ("matroska", "flv") and alone and container.duration:
        # From the clock's zero, where Matroska counts from, or from the first packet.
        start_s = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
        return float(container.duration / 1_000_000) - max(0.0, start_s)
    return None
