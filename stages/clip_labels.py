"""Tell the labels of a clip, and when each is heard in it, from the annotation rows that overlap it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.label_config import ByOverlap, From
from clipmill.schemas.units import to_samples

_OPEN_END = 1 << 62
# Rows that overlap each other are listed by each other's clips, which takes the square of their number in memory.
_MOST, _MOST_PER_S = 1000, 100
Times = tuple[float | None, float | None]


class TooManyEventsError(Exception):
    """More rows overlap a clip than it may list."""


@dataclass(frozen=True)
class Labelling:
    """Configure how the clips of a source get their lists of labels.

    has_lists : whether its clips can have several labels; the others have their one label as a list
    has_events : whether its rows have times
    by_overlap : how much a label must cover, if rows label the clips that they overlap; None: rows cut clips, and any overlap counts
    none : label of clips that rows do not label, None if they have none
    drops_none : whether these clips are dropped
    """

    has_lists: bool = False
    has_events: bool = False
    by_overlap: ByOverlap | None = None
    none: str | None = None
    drops_none: bool = False

    @classmethod
    def of(cls, config: Config, source: Source) -> Labelling | None:
        """Return how a source's clips are labelled, None where no clip of the dataset can have several labels."""
        if not config.label_lists:
            return None
        label = source.label
        if not isinstance(label, From) or not label.makes_lists:
            return cls()
        return cls(
            True, source.has_events, label.by_overlap, label.none, label.none is not None and label.none in label.drop
        )


class ClipLabels:
    """Labels the clips of one chunk.

    events : rows of `clipmill.schemas.tables.EVENT` in seconds, all that overlap any clip of the chunk
    sample_rate_hz : of the clips
    total : length of the recording in samples, None while unknown; rows that reach too far beyond it are left out
    tolerance_s : how far a row may reach beyond the recording's end
    """

    def __init__(
        self,
        labelling: Labelling,
        events: Sequence[Mapping[str, Any]],
        sample_rate_hz: int,
        total: int | None,
        tolerance_s: float,
    ) -> None:
        self._labelling, self._rate_hz = labelling, sample_rate_hz
        self._events = [e for e in events if not is_beyond((e["start"], e["end"]), total, sample_rate_hz, tolerance_s)]
        self._starts = np.array([to_samples(e["start"] or 0.0, sample_rate_hz) for e in self._events], np.int64)
        end = total if total is not None else _OPEN_END
        self._ends = np.array(
            [min(end, to_samples(e["end"], sample_rate_hz)) if e["end"] is not None else end for e in self._events],
            np.int64,
        )
        # The length of a row is its own, even where a tolerated bit of it is beyond the recording's end.
        self._lengths = (
            np.array(
                [to_samples(e["end"], sample_rate_hz) if e["end"] is not None else end for e in self._events], np.int64
            )
            - self._starts
        )
        self._channels = np.array([e["channel"] or 0 for e in self._events], np.int64)
        bounds = labelling.by_overlap
        self._least = (
            max(1, to_samples(bounds.min_s, sample_rate_hz))
            if bounds is not None and bounds.min_s is not None
            else None
        )
        self._share = Fraction(repr(bounds.min_share)) if bounds is not None and bounds.min_share is not None else None

    def of(self, start: int, stop: int, lane: int | None) -> tuple[list[str], list[dict[str, Any]] | None]:
        """Return a clip's labels, sorted, and what is heard when in it; None where rows have no times.

        start, stop : of the clip in the recording, in samples, half-open, without padding
        lane : its channel, counted from 0, None for all

        Raises
        ------
        TooManyEventsError : more is heard in it than a clip may list
        """
        first, last = np.maximum(self._starts, start), np.minimum(self._ends, stop)
        is_heard = last > first
        if lane is not None:
            is_heard &= (self._channels == 0) | (self._channels == lane + 1)
        if (n := int(np.count_nonzero(is_heard))) > _MOST:
            seconds = (stop - start) / self._rate_hz
            if n > (most := _MOST + int(_MOST_PER_S * seconds)):
                raise TooManyEventsError(f"{n:,} rows overlap {seconds:.1f} s; at most {most:,} are listed")
        heard = [
            (self._events[i], int(first[i]), int(last[i]), int(self._lengths[i])) for i in np.flatnonzero(is_heard)
        ]
        labels = sorted({label for e, *_ in heard for label in e["labels"]})
        if self._least is not None or self._share is not None:
            labels = [label for label in labels if self._suffices([h for h in heard if label in h[0]["labels"]])]
        if not labels and self._labelling.none is not None:
            labels = [self._labelling.none]
        return labels, self._list(heard, start) if self._labelling.has_events else None

    def _suffices(self, heard: list[tuple[Mapping[str, Any], int, int, int]]) -> bool:
        """Return whether the rows of a label cover enough of a clip, or enough of one of them lies in it."""
        if self._share is not None and any(
            last - first >= math.ceil(self._share * length) for _, first, last, length in heard
        ):
            return True
        if self._least is None:
            return False
        covered = end = 0
        for first, last in sorted((first, last) for _, first, last, _ in heard):
            covered += max(0, last - max(first, end))
            end = max(end, last)
        return covered >= self._least

    def _list(self, heard: list[tuple[Mapping[str, Any], int, int, int]], start: int) -> list[dict[str, Any]]:
        times = {
            ((first - start) / self._rate_hz, (last - start) / self._rate_hz, label)
            for e, first, last, _ in heard
            if e["start"] is not None or e["end"] is not None  # otherwise it is a label of the recording
            for label in e["labels"]
        }
        return [
            {"label": label, "onset_s": onset_s, "offset_s": offset_s} for onset_s, offset_s, label in sorted(times)
        ]


def is_beyond(times: Times, total: int | None, sample_rate_hz: int, tolerance_s: float) -> bool:
    """Return whether a row reaches further beyond a recording's end than is tolerated.

    times : start and end in seconds, None for those of the recording
    total : length of the recording in samples, None while unknown
    """
    if total is None:
        return False
    start, end = to_samples(times[0] or 0.0, sample_rate_hz), times[1]
    stop = to_samples(end, sample_rate_hz) if end is not None else total
    return start >= total or stop - total > max(1, to_samples(tolerance_s, sample_rate_hz))


class EventsOfItem:
    """The events of an item of the plan.

    events : rows of `clipmill.schemas.tables.EVENT`, None if its clips have one label at most
    seconds : length of their unit of time
    """

    def __init__(self, events: Sequence[Mapping[str, Any]] | None, seconds: float) -> None:
        self._events = [
            {**e, **{name: e[name] * seconds if e[name] is not None else None for name in ("start", "end")}}
            for e in events or ()
        ]
        self._starts = np.array([e["start"] or 0.0 for e in self._events], np.float64)
        self._ends = np.array([e["end"] if e["end"] is not None else math.inf for e in self._events], np.float64)
        self._are_there = events is not None

    @property
    def ends_s(self) -> list[float]:
        """Return where events end, infinity for those without an end."""
        return [float(end) for end in self._ends]

    def between(self, start_s: float, stop_s: float) -> list[dict[str, Any]] | None:
        """Return the events that may be heard in a stretch of the recording; None if its clips have one label at most."""
        if not self._are_there:
            return None
        return [self._events[i] for i in np.flatnonzero((self._starts <= stop_s) & (self._ends >= start_s))]
