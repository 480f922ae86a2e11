"""Hear a whole recording before clips are cut from it: for cuts at silences or around speech, and for the level of recordings.

Nothing of this pass is kept but the state of what listens and the list of cuts, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.audio_config import Channels
from clipmill.schemas.units import to_samples
from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.cursor import Cursor
from clipmill.stages.decode.readers import Reader
from clipmill.stages.downmix import channel_numbers, mono
from clipmill.stages.spans import Range

_BLOCK_FRAMES = 1 << 17


class Listener(Protocol):
    """What takes a recording's samples block by block: float32 [channels, samples], full scale 1.0."""

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples."""
        ...


class ActivityListener(Listener, Protocol):
    """What finds out where something is heard.

    remarks : after `clips_in`, pairs of a code of `clipmill.schemas.remarks` and a detail
    """

    @property
    def remarks(self) -> Sequence[tuple[str, str]]:
        """Return the remarks."""
        ...

    def clips_in(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the clips within a range, after the last samples: samples, half-open, ascending and disjoint."""
        ...


class LevelListener(Listener, Protocol):
    """What measures a level."""

    def level(self) -> float | None:
        """Return the level, None if there is none."""
        ...


@dataclass(frozen=True)
class FirstPass:
    """What to listen for in the recordings of a source.

    activity : makes what finds out where something is heard, given the sample rate in Hz
    level : makes what measures the level, given the sample rate in Hz and the number of channels
    channels : of the recordings that are used
    """

    channels: Channels = "mono"
    activity: Callable[[int], ActivityListener] | None = None
    level: Callable[[int, int], LevelListener] | None = None


@dataclass(frozen=True)
class Heard:
    """What a first pass found.

    activities : by channel, where clips are; one for all channels unless each has clips of its own; empty: not asked for
    levels : of the recording, or of each of its channels if each has clips of its own; None: not asked for
    sample_rate_hz, n_frames : of the recording
    """

    activities: list[ActivityListener]
    levels: list[float | None] | None
    sample_rate_hz: int
    n_frames: int

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """Return pairs of a code of `clipmill.schemas.remarks` and a detail."""
        return [remark for activity in self.activities for remark in activity.remarks]

    def parts(self, ranges: list[Range]) -> list[Range]:
        """Return the clips within ranges, sorted by start. A range in which nothing is heard has one part of no length."""
        rate_hz = self.sample_rate_hz
        parts: list[Range] = []
        for r in ranges:
            start = min(to_samples(r.start_s, rate_hz), self.n_frames)
            stop = self.n_frames if r.end_s is None else min(to_samples(r.end_s, rate_hz), self.n_frames)
            own: list[Range] = []
            for lane, activity in enumerate(self.activities):
                channel = lane if len(self.activities) > 1 else None
                for a, b in (activity.clips_in(start, stop) if stop > start else []) or [(start, start)]:
                    own.append(Range(r.index, a / rate_hz, b / rate_hz, len(own), channel))
            parts += own
        return sorted(parts, key=lambda r: (r.start_s, r.index, r.part))


def hear(
    first: FirstPass,
    reader: Reader,
    container: Container,
    keep_truncated: bool,
    alive: Callable[[], None],
    max_s: float | None,
) -> Heard | None:
    """Decode a recording from its start to its end, and return what is heard, None if it has no samples.

    Raises
    ------
    DecodeError : the recording is damaged, truncated or too long
    """
    rate_hz = reader.sample_rate_hz
    cursor = Cursor(reader, keep_truncated, container, alive, max_s)
    activities: list[ActivityListener] = []
    meters: list[LevelListener] = []
    at = 0
    while True:
        block = cursor.take(at, at + _BLOCK_FRAMES)
        if not len(block):
            break
        at += len(block)
        lanes = _lanes(block, first.channels)
        if first.activity is not None:
            activities = activities or [first.activity(rate_hz) for _ in lanes]
            for activity, lane in zip(activities, lanes, strict=True):
                activity.add(lane.T)
        if first.level is not None:
            meters = meters or [first.level(rate_hz, lane.shape[1]) for lane in lanes]
            for meter, lane in zip(meters, lanes, strict=True):
                meter.add(lane.T)
        if cursor.total is not None and at >= cursor.total:
            break
    if at == 0:
        return None
    return Heard(activities, [meter.level() for meter in meters] if meters else None, rate_hz, at)


def _lanes(block: npt.NDArray[np.float32], channels: Channels) -> list[npt.NDArray[np.float32]]:
    """Return what clips are made of: each channel if each has clips of its own, otherwise all or the mix of them.

    block : float32 [frames, channels]; each of the returned ones is too
    """
    if channels == "each":
        return [block[:, [i]] for i in range(block.shape[1])]
    if channels == "keep" or block.shape[1] == 1:
        return [block]
    numbers = channel_numbers(channels)
    present = None if numbers is None else [number for number in numbers if number < block.shape[1]]
    chosen = np.ascontiguousarray(block[:, present]) if present else block
    return [mono(chosen)[:, None] if chosen.shape[1] > 1 else chosen]
