"""Where a recording ends, when a row may reach beyond it and the end would be seen only after clips of the row were cut.

A row that reaches too far gives no clip. Most containers tell their length before anything is decoded, and a row that is
cut in one go ends with the piece in which the end is seen. For what is left, the recording is decoded a first time up to
the end of the row, and nothing of it is kept: neither what is decoded for clips nor memory changes by it.
"""

from __future__ import annotations

from collections.abc import Callable

from clipmill.schemas.config import Segment
from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.cursor import Cursor
from clipmill.stages.decode.readers import DecodeError, Reader
from clipmill.stages.spans import Range, cuts

_ROUNDING_S = 1e-6
"""Far less than a frame, so that a row that ends with its recording is in no doubt."""


def lookahead_end_s(
    ranges: list[Range], spec: Segment, piece_s: float, least_s: float, tolerance_s: float
) -> float | None:
    """Return up to where a recording whose length is not known is to be looked at before a clip of it is cut.

    Parameters
    ----------
    ranges : from which clips are cut
    piece_s : longest stretch of windows that are cut together
    least_s : the recording is at least so long, or it is rejected
    tolerance_s : how far a range may reach beyond the recording's end

    Returns
    -------
    until_s : None where nothing is in doubt
    """
    doubtful = [
        r.end_s
        for r in ranges
        if r.end_s is not None and r.end_s > least_s + tolerance_s + _ROUNDING_S and _is_late(r, spec, piece_s)
    ]
    return max(doubtful, default=None)


def _is_late(r: Range, spec: Segment, piece_s: float) -> bool:
    """Return whether a range's first cut needs less than the whole range, so that the end is seen behind it or never."""
    first = next(cuts([r], spec, lambda: None, piece_s, (0.0, None)))
    return r.end_s is not None and first.need_end_s < r.end_s


def minimum_length_s(container: Container, sample_rate_hz: int, gaps: str) -> float:
    """Return how long a recording is at least by its structure, 0 where that says nothing that decoding makes sure of.

    A part may lack one frame more before decoding calls it damaged: a row may reach so much further, which is rounding.
    """
    if container.truncated is not None:
        return 0.0
    if container.n_frames is not None and container.kind != "flac":
        return container.n_frames / sample_rate_hz  # counted from the bytes that are there, not only stated
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
    """Decode a recording up to a point in time; return its length in frames, None when it does not end before that.

    What is wrong with the recording is not told here: decoding for clips comes to it, or does not need what is damaged.
    """
    try:
        cursor = Cursor(reader, keep_truncated, container, alive, max_s)
        return cursor.length_before(until_s)
    except DecodeError:
        return None
