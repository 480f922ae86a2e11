"""Pack intervals of speech into clips of bounded length, without cutting speech where that can be avoided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Interval = tuple[int, int]


@dataclass(frozen=True)
class Packed:
    """Hold the clips that speech was packed into.

    clips : (start, stop) in samples, half-open, in order, without overlap
    dropped : (start, stop) of speech that is in no clip, because there is no room to extend it to the shortest length
    n_cuts : places at which speech was cut, because it was longer than the longest clip
    """

    clips: list[Interval]
    dropped: list[Interval]
    n_cuts: int


def pack(
    speech: Sequence[Interval],
    n_samples: int,
    *,
    min_samples: int,
    max_samples: int,
    pad_samples: int,
    max_gap_samples: int,
    cut_at: Callable[[int, int], int],
) -> Packed:
    """Pack intervals of speech into clips.

    Parameters
    ----------
    speech : (start, stop) in samples, half-open, in order, without overlap, not empty, within the recording
    n_samples : length of the recording
    min_samples, max_samples : length of clips, padding included; the longest is at least twice the shortest, which is at least 1
    pad_samples : to keep before and after the speech of a clip, where there is room
    max_gap_samples : intervals are only put into one clip over gaps of at most this length
    cut_at : returns where to cut speech, within a range whose ends it is given and may return; see `Speech.least_probable`

    Raises
    ------
    ValueError : the longest clip is shorter than twice the shortest one

    Notes
    -----
    1. Speech longer than `max_samples` is cut, as often as needed. Each cut is in the second half of the longest clip, and leaves enough
       for a clip on both sides. These cuts are the only ones inside speech.
    2. From the start, each interval joins the clip before it if the gap is short enough and the whole has room for its padding. Parts of
       speech that was cut are not joined again unless they fit.
    3. A clip that its padding does not make long enough joins the nearer neighbour with which it fits into one clip, over a gap of at
       most `min_samples`, even if no room is left for padding.
    4. Clips are padded. A gap shorter than twice the padding is divided in its middle, and speech nearly as long as the longest clip gets
       less.
    5. A clip that is still too short is extended into the silence around it, evenly where there is room on both sides. If there is not
       enough, its speech is dropped.
    """
    if max_samples < 2 * min_samples:
        raise ValueError(
            f"the longest clip has {max_samples} samples; expected at least twice {min_samples}, the shortest"
        )
    parts, n_cuts = _cut(speech, min_samples, max_samples, cut_at)
    room = max_samples - 2 * pad_samples
    spans: list[Interval] = []
    for start, stop in parts:
        if spans and start - spans[-1][1] <= max_gap_samples and stop - spans[-1][0] <= room:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    spans = _join_short(spans, min_samples, max_samples, pad_samples)
    clips, dropped = _extend(_pad(spans, n_samples, max_samples, pad_samples), spans, n_samples, min_samples)
    return Packed(clips, dropped, n_cuts)


def _cut(
    speech: Sequence[Interval], min_samples: int, max_samples: int, cut_at: Callable[[int, int], int]
) -> tuple[list[Interval], int]:
    parts: list[Interval] = []
    n_cuts = 0
    for start, stop in speech:
        while stop - start > max_samples:
            # One sample beyond the half: two parts that follow each other are longer than a clip, and are never joined again.
            cut = cut_at(start + max_samples // 2 + 1, min(start + max_samples, stop - min_samples))
            parts.append((start, cut))
            start, n_cuts = cut, n_cuts + 1
        parts.append((start, stop))
    return parts, n_cuts


def _join_short(spans: Sequence[Interval], min_samples: int, max_samples: int, pad_samples: int) -> list[Interval]:
    spans, i = list(spans), 0
    while i < len(spans):
        options = []
        if spans[i][1] - spans[i][0] + 2 * pad_samples < min_samples:
            options = [
                (spans[k + 1][0] - spans[k][1], k)
                for k in (i - 1, i)
                if 0 <= k < len(spans) - 1 and spans[k + 1][1] - spans[k][0] <= max_samples
            ]
        gap, k = min(options, default=(min_samples + 1, 0))
        if gap > min_samples:
            i += 1
        else:
            spans[k : k + 2] = [(spans[k][0], spans[k + 1][1])]
            i = k
    return spans


def _pad(spans: Sequence[Interval], n_samples: int, max_samples: int, pad_samples: int) -> list[Interval]:
    clips = []
    for i, (start, stop) in enumerate(spans):
        first = (spans[i - 1][1] + start) // 2 if i else 0
        last = (stop + spans[i + 1][0]) // 2 if i + 1 < len(spans) else n_samples
        room = max_samples - (stop - start)
        before, after = min(pad_samples, start - first), min(pad_samples, last - stop)
        after = min(after, max(room // 2, room - before))
        clips.append((start - min(before, room - after), stop + after))
    return clips


def _extend(
    clips: Sequence[Interval], spans: Sequence[Interval], n_samples: int, min_samples: int
) -> tuple[list[Interval], list[Interval]]:
    kept: list[Interval] = []
    dropped: list[Interval] = []
    taken = 0  # up to here, samples are in a clip or are speech
    for i, (start, stop) in enumerate(clips):
        missing = min_samples - (stop - start)
        if missing > 0:
            before = start - taken
            after = (clips[i + 1][0] if i + 1 < len(clips) else n_samples) - stop
            if missing > before + after:
                dropped.append(spans[i])
                taken = spans[i][1]
                continue
            left = min(before, max(missing // 2, missing - after))
            start, stop = start - left, stop + missing - left
        kept.append((start, stop))
        taken = stop
    return kept, dropped
