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
from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.cursor import Cursor
from clipmill.stages.decode.readers import Reader
from clipmill.stages.downmix import channel_numbers, mono

_BLOCK_FRAMES = 1 << 17


class Listener(Protocol):
    """What takes a recording's samples block by block: float32 [channels, samples], full scale 1.0."""

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples."""
        ...


class ActivityListener(Listener, Protocol):
    """What finds out where something is heard.

    remarks : after `finish`, pairs of a code of `clipmill.schemas.remarks` and a detail
    """

    @property
    def remarks(self) -> Sequence[tuple[str, str]]:
        """Return the remarks."""
        ...

    def finish(self) -> list[tuple[int, int]]:
        """Return where something is heard, in samples, half-open, ascending and disjoint."""
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

    active_s : start and end in seconds of where something is heard; None: not asked for
    levels : of the recording, or of each of its channels if each has clips of its own; None: not asked for
    n_frames : length of the recording
    remarks : pairs of a code of `clipmill.schemas.remarks` and a detail
    """

    active_s: list[tuple[float, float]] | None
    levels: list[float | None] | None
    n_frames: int
    remarks: Sequence[tuple[str, str]] = ()


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
    activity = first.activity(rate_hz) if first.activity is not None else None
    meters: list[LevelListener] = []
    at = 0
    while True:
        block = cursor.take(at, at + _BLOCK_FRAMES)
        if not len(block):
            break
        at += len(block)
        used = _used(block, first.channels)
        if activity is not None:
            activity.add(used.T)
        if first.level is not None:
            lanes = (
                [used[:, [i]] for i in range(used.shape[1])]
                if first.channels == "each"
                else [_mixed(used, first.channels)]
            )
            meters = meters or [first.level(rate_hz, lane.shape[1]) for lane in lanes]
            for meter, lane in zip(meters, lanes, strict=True):
                meter.add(lane.T)
        if cursor.total is not None and at >= cursor.total:
            break
    if at == 0:
        return None
    active = None if activity is None else [(start / rate_hz, stop / rate_hz) for start, stop in activity.finish()]
    levels = None if first.level is None else [meter.level() for meter in meters]
    return Heard(active, levels, at, activity.remarks if activity is not None else ())


def _used(block: npt.NDArray[np.float32], channels: Channels) -> npt.NDArray[np.float32]:
    """Return the channels that clips are made of. block : float32 [frames, channels]"""
    numbers = channel_numbers(channels)
    present = None if numbers is None else [number for number in numbers if number < block.shape[1]]
    return block[:, present] if present else block


def _mixed(block: npt.NDArray[np.float32], channels: Channels) -> npt.NDArray[np.float32]:
    """Return what clips are made of: float32 [frames, channels]."""
    return block if channels in ("keep", "each") or block.shape[1] == 1 else mono(block)[:, None]
