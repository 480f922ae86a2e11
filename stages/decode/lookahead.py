"""Find out where a recording ends before clips of a row that may reach beyond that end are cut.

A row that reaches too far must not yield a clip. Most containers state their length before anything is decoded, and a row that is
cut as one piece is cut only when the end has been seen. In all other cases the recording is decoded a first time up to the end of
the row. Nothing of that pass is kept, so it changes neither the clips nor the memory that decoding takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from clipmill.schemas.config import Segment
from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.cursor import Cursor
from clipmill.stages.decode.readers import DecodeError, Reader
from clipmill.stages.spans import Range, cuts

_ALL_S = 1e8
_ROUNDING_S = 1e-6
"""Far less than a frame, so that a row that ends exactly with its recording is not doubtful."""


def lookahead_end_s(
    ranges: list[Range],
    spec: Segment,
    piece_s: float,
    least_s: float,
    tolerance_s: float,
    label_ends_s: Iterable[float] = (),
    needs_lengths: bool = False,
) -> float | None:
    """Return up to where a recording of unknown length must be decoded before a clip of it is cut, None if it need not be.

    Parameters
    ----------
    ranges : parts of the recording from which clips are cut
    piece_s : longest stretch of windows that are cut together
    least_s : length that the recording has at least, unless it is rejected
    tolerance_s : how far a range may reach beyond the recording's end
    label_ends_s : where the rows end that label clips, infinity for the recording's end
    needs_lengths : whether rows up to the recording's end must have a length
    """
    if spec.mode == "fixed" and spec.crop == "center" and any(r.end_s is None for r in ranges):
        return _ALL_S  # the middle of a range is not known before its end
    doubtful = [
        r.end_s
        for r in ranges
        if r.end_s is not None and r.end_s > least_s + tolerance_s + _ROUNDING_S and _is_late(r, spec, piece_s)
    ]
    finite = [end_s for end_s in label_ends_s if needs_lengths or math.isfinite(end_s)]
    doubtful += [min(end_s, _ALL_S) for end_s in finite if end_s > least_s + tolerance_s + _ROUNDING_S]
    return max(doubtful, default=None)


def _is_late(r: Range, spec: Segment, piece_s: float) -> bool:
    """Return whether a range's first cut needs less than the whole range, so that it would be cut before the end is seen."""
    first = next(cuts([r], spec, lambda: None, piece_s, (0.0, None)))
    return r.end_s is not None and first.need_end_s < r.end_s


def minimum_length_s(container: Container, sample_rate_hz: int, gaps: str) -> float:
    """Return the least length of a recording by its structure, 0 where decoding would accept any length.

    Decoding allows each part to be one more frame short than its tolerance. A row may reach that much further; it is rounding.
    """
    if container.truncated is not None:
        return 0.0
    if container.n_frames is not None and container.kind != "flac":
        return container.n_frames / sample_rate_hz  # counted in the file, not only stated by its header
    length_s = 0.0
    for part in container.parts:
        if part.n_frames is None or (part.hole is not None and gaps == "ignore"):
            break
        length_s += max(0, part.n_frames - part.tolerance) / part.sample_rate_hz
    return length_s


def length_before(
    reader: Reader,
    container: Container,
    keep_truncated: bool,
    until_s: float,
    alive: Callable[[], None],
    max_s: float | None,
) -> int | None:
    """Decode a recording up to a point in time; return its length in frames, None if it does not end before that.

    Decoding errors are ignored here: they appear again when clips are decoded, unless no clip needs the damaged part.
    """
    try:
        cursor = Cursor(reader, keep_truncated, container, alive, max_s)
        return cursor.length_before(until_s)
    except DecodeError:
        return None
