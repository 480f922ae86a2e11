"""Compute which clips a recording has, and which pieces of it must be decoded for them, without reading audio.

Time is divided into cells of a whole number of seconds from the recording's start. Each cell is resampled separately, from
its samples and a margin on both sides, so that a clip does not depend on the piece of the recording in which it was decoded.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clipmill.schemas.config import Segment
from clipmill.schemas.units import to_samples

CELL_S = 2
"""Length of a cell. Whole seconds are a whole number of samples at every rate. Longer cells decode more than sparse
annotations need, shorter cells resample margins more often (`benchmarks/agreement.py`: 1 s takes 56 % more time than one
piece, 2 s 26 %, 4 s 12 %)."""

_MARGIN_S = 0.02
_ROUNDING_S = 1e-3
"""Decoded beyond a clip whose place follows from rounded times."""


def margin_frames(source_rate_hz: int, target_rate_hz: int) -> int:
    """Return the frames to decode on each side of a cell for the resampler, 0 when the rates are equal.

    The margin is at least 20 ms, with which soxr HQ is within 1e-7 of resampling the whole file. It is a whole number of frames
    at the target rate as well, or the resampler's grid would shift.
    """
    if source_rate_hz == target_rate_hz:
        return 0
    step = source_rate_hz // math.gcd(source_rate_hz, target_rate_hz)
    return math.ceil(_MARGIN_S * source_rate_hz / step) * step


@dataclass(frozen=True)
class Range:
    """Describe the part of a recording from which clips are cut: an annotated range, or all of it.

    index : index in the list of annotations, -1 without annotation
    end_s : None for the end of the recording
    part : number of the range among those of its annotation, or of the recording, if these were divided by what is heard in them
    lane : the channel that it is a range of, None for all
    """

    index: int
    start_s: float
    end_s: float | None
    part: int = 0
    lane: int | None = None


@dataclass(frozen=True)
class Cut:
    """Describe windows [first, last) of a range, counted from 0, and the time that they need."""

    range: Range
    first: int
    last: int
    need_start_s: float
    need_end_s: float


@dataclass(frozen=True)
class Piece:
    """Describe a contiguous piece of a recording, in whole cells [first, last), and the cuts that it contains."""

    first_cell: int
    last_cell: int
    cuts: tuple[Cut, ...]


def first_window_at(start_s: float, spec: Segment) -> int:
    """Return the number of the first window that starts at or after a time and is not skipped by keep_every."""
    first = math.ceil(start_s / spec.hop - 1e-9)
    return math.ceil(first / spec.keep_every) * spec.keep_every


def cuts(
    ranges: list[Range],
    spec: Segment,
    total_s: Callable[[], float | None],
    piece_s: float,
    span: tuple[float, float | None],
) -> Iterator[Cut]:
    """Return an iterator of a recording's cuts, ordered by the time at which they begin.

    Parameters
    ----------
    ranges : sorted by start
    total_s : returns the recording's length, None while unknown; called again before each cut of an open range
    piece_s : length of the longest cut of several windows
    span : start and end of the item's part of the recording; windows that start in it belong to the item
    """
    streams = [_range_cuts(r, spec, total_s, piece_s, span) for r in ranges]
    return heapq.merge(*streams, key=lambda c: (c.need_start_s, c.range.index))


def _range_cuts(
    r: Range, spec: Segment, total_s: Callable[[], float | None], piece_s: float, span: tuple[float, float | None]
) -> Iterator[Cut]:
    if spec.mode == "fixed":
        first_s, stop_s = fixed_range(r.start_s, r.end_s if r.end_s is not None else total_s(), spec)
        yield Cut(r, 0, 1, max(r.start_s, first_s - _ROUNDING_S), stop_s + _ROUNDING_S)
        return
    if spec.mode != "window":
        # One cell more than the longest clip is enough to detect that a clip is too long.
        longest_s = r.start_s + spec.max_clip_s + CELL_S
        if r.end_s is None:
            yield Cut(r, r.part, r.part + 1, r.start_s, longest_s)
        else:
            yield Cut(r, r.part, r.part + 1, r.start_s, r.end_s if r.end_s <= longest_s else r.start_s)
        return
    length, hop = float(spec.length_s or 0), spec.hop
    whole = r.index < 0
    first = first_window_at(span[0], spec) if whole else 0
    stop = first_window_at(span[1], spec) if whole and span[1] is not None else None
    # Windows that are far apart get a cut each. Otherwise a cut has as many windows as fit into a piece.
    apart = spec.keep_every * hop - length > 2 * CELL_S
    together = 1 if apart else max(1, int((piece_s - length) / hop / spec.keep_every)) * spec.keep_every
    stride = spec.keep_every if apart else together
    while stop is None or first < stop:
        end_s = r.end_s if r.end_s is not None else total_s()
        start_s = r.start_s + first * hop
        if end_s is not None and first > 0 and start_s >= end_s:
            break
        if r.end_s is not None and first > 0 and (total := total_s()) is not None and start_s >= total:
            break  # do not enumerate years of windows when an end says so
        last = first + stride if stop is None else min(first + stride, stop)
        need_end_s = r.start_s + ((first if apart else last - 1) * hop) + length
        if end_s is not None:
            need_end_s = max(start_s, min(need_end_s, end_s))
        yield Cut(r, first, last, start_s, need_end_s)
        first = last


def fixed_range(start_s: float, end_s: float | None, spec: Segment) -> tuple[float, float]:
    """Return the time that a clip of fixed length needs of a range. end_s : None while unknown; then the clip is at the start"""
    length_s = float(spec.length_s or 0)
    if end_s is None:
        return start_s, start_s + length_s
    spare_s = max(0.0, end_s - start_s - length_s)
    first_s = start_s + spare_s / 2 if spec.crop == "center" else start_s
    return first_s, min(first_s + length_s, end_s)


def fixed_clip(start: int, end: int, spec: Segment, rate_hz: int) -> Clip:
    """Return the place of a clip of fixed length in a range. start, end : frames at the target rate, half-open"""
    length = to_samples(float(spec.length_s or 0), rate_hz)
    spare = max(0, end - start - length)
    first = start + spare // 2 if spec.crop == "center" else start
    stop = min(first + length, end)
    return Clip(0, first, stop, length - (stop - first))


def pieces(all_cuts: Iterator[Cut], piece_s: float) -> Iterator[Piece]:
    """Group cuts that are close to each other into pieces of about `piece_s` at most, or longer for a single clip."""
    group: list[Cut] = []
    end_s = 0.0
    for cut in all_cuts:
        if group and (
            cut.need_start_s > end_s + CELL_S or max(end_s, cut.need_end_s) - group[0].need_start_s > piece_s
        ):
            yield _piece(group, end_s)
            group = []
        end_s = max(end_s, cut.need_end_s) if group else cut.need_end_s
        group.append(cut)
    if group:
        yield _piece(group, end_s)


def _piece(group: list[Cut], end_s: float) -> Piece:
    first = math.floor(group[0].need_start_s / CELL_S)
    # Slightly beyond the end, since a clip's last sample may be rounded up.
    last = max(first + 1, math.ceil((end_s + 1e-3) / CELL_S))
    return Piece(first, last, tuple(group))


@dataclass(frozen=True)
class Clip:
    """Describe the place of a clip, in frames at the target rate. `n_padded` frames of padding follow `stop`."""

    window: int
    start: int
    stop: int
    n_padded: int


@dataclass(frozen=True)
class Windows:
    """Hold the clips of some windows, and how many candidates each rule dropped."""

    clips: list[Clip]
    n_candidates: int
    dropped: dict[str, int]


def windows(start_s: float, end: int, first: int, last: int, spec: Segment, rate_hz: int) -> Windows:
    """Return the clips among windows [first, last) of a range.

    Parameters
    ----------
    start_s : start of the range
    end : frame at which the range ends, at the target rate
    first, last : numbers of the windows, counted from the range's start
    rate_hz : target rate

    Notes
    -----
    Window k starts at the sample nearest to ``start_s + k * hop`` and has ``length`` samples. Full windows are candidates,
    and so is the first incomplete one if the full windows leave samples of the range uncovered.
    """
    length = to_samples(float(spec.length_s or 0), rate_hz)
    clips: list[Clip] = []
    dropped: dict[str, int] = {}
    n_candidates = 0
    for k in range(first, last):
        start = to_samples(start_s + k * spec.hop, rate_hz)
        if start >= end:
            break
        missing = max(0, start + length - end)
        if missing and k > 0 and to_samples(start_s + (k - 1) * spec.hop, rate_hz) + length >= end:
            break
        n_candidates += 1
        if k % spec.keep_every:
            dropped["keep_every"] = dropped.get("keep_every", 0) + 1
        elif missing and spec.tail == "drop":
            dropped["tail"] = dropped.get("tail", 0) + 1
        else:
            padded = missing if spec.tail in ("pad_zero", "pad_noise") else 0
            clips.append(Clip(k, start, start + length - missing, padded))
    return Windows(clips, n_candidates, dropped)
