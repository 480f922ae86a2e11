"""Find the columns of times by what their numbers are, where no name tells: pairs that rise within recordings and fit their lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.proposals.cell_sample import CellSample, Column
from clipmill.stages.annotations.times import EITHER, clock_seconds, number
from clipmill.stages.decode.header_length import HeaderLength

Floats = npt.NDArray[np.float64]
_MOST_COLUMNS = 12
_FEWEST_STEPS = 3
_NEARLY_ALL = 0.95
_RISING, _APART, _FITTING = 0.8, 0.5, 0.9
_LEAST_COVER = 0.1
_TOLERANCE_S = 0.05
_OTHERS = frozenset(
    "score confidence probability prob freq frequency hz khz db dbfs snr age year month day id index idx nr no number lat lon latitude"
    " longitude channel fold rank size bytes".split()
)
"""Words in names of columns whose numbers are no times."""


@dataclass(frozen=True)
class TimePair:
    """Two columns that are times. role : of the second one, `end` or `duration`; because : evidence"""

    start: Column
    second: Column
    role: str
    because: str


@dataclass(frozen=True)
class _Rows:
    """The rows of recordings of known length, those of a recording together.

    numbers : by column and row, NaN where a cell is none
    is_next : for each row but the first, whether it is of the same recording as the row before
    groups : indices of the rows of each recording; lengths : of these recordings
    """

    numbers: dict[int, Floats]
    is_next: npt.NDArray[np.bool_]
    groups: list[npt.NDArray[np.intp]]
    lengths: list[HeaderLength]


def find_time_pair(
    sample: CellSample,
    columns: Sequence[Column],
    owners: Sequence[str | None],
    lengths: Mapping[str, HeaderLength],
    start: Column | None = None,
) -> TimePair | None:
    """Return the two columns that are most probably times, None if no pair is.

    The first rises from row to row of a recording. The second is greater in each row and rises too, which is an end, or else is a
    duration. What they end at lies within nearly all recordings, in seconds, milliseconds or samples, and reaches some way into them.

    Parameters
    ----------
    columns : that could be times
    owners : recording of each row, None if it names none
    lengths : of recordings
    start : the first column, if its name shows it
    """
    numeric = [column for column in columns if column.is_numeric and (column is start or not _is_other(column.name))]
    numeric = numeric[:_MOST_COLUMNS]
    rows = _rows(sample, numeric, owners, lengths)
    if rows is None:
        return None
    numeric = [column for column in numeric if _can_be_times(rows, rows.numbers[column.at])]
    found: list[tuple[tuple[float, ...], TimePair]] = []
    for first, second in permutations(numeric, 2):
        if (start is None or first is start) and first.is_clock == second.is_clock:
            found += _judged(rows, first, second)
    return max(found, key=lambda one: one[0])[1] if found else None


def _is_other(name: str) -> bool:
    words = "".join(c if c.isalnum() else " " for c in name.lower()).split()
    return any(word in _OTHERS for word in words)


def _rows(
    sample: CellSample, columns: Sequence[Column], owners: Sequence[str | None], lengths: Mapping[str, HeaderLength]
) -> _Rows | None:
    known = [(owner, i) for i, owner in enumerate(owners) if owner is not None and owner in lengths]
    known.sort()  # rows of a recording keep their order
    if len(known) < 2:
        return None
    names = [owner for owner, _ in known]
    is_next = np.array([a == b for a, b in pairwise(names)])
    if is_next.sum() < _FEWEST_STEPS:
        return None
    numbers = {
        column.at: np.array([_number(sample.rows[i], column.at) for _, i in known], np.float64) for column in columns
    }
    groups = np.split(np.arange(len(known)), np.flatnonzero(~is_next) + 1)
    return _Rows(numbers, is_next, groups, [lengths[names[group[0]]] for group in groups])


def _number(row: Sequence[str], at: int) -> float:
    cell = row[at] if at < len(row) else ""
    found = clock_seconds(cell)
    found = number(cell, EITHER) if found is None else found
    return float("nan") if found is None else found


def _can_be_times(rows: _Rows, numbers: Floats) -> bool:
    """Return whether nearly all cells are numbers, and they do not count the rows of a recording."""
    steps = np.diff(numbers)[rows.is_next]
    return bool(np.isnan(numbers).mean() <= 1 - _NEARLY_ALL and not np.all(steps == 1))


def _judged(rows: _Rows, first: Column, second: Column) -> list[tuple[tuple[float, ...], TimePair]]:
    """Return the pair with what it is worth, nothing if it cannot be times."""
    has_both = ~np.isnan(rows.numbers[first.at]) & ~np.isnan(rows.numbers[second.at])
    a, b = (np.where(has_both, rows.numbers[column.at], 0.0) for column in (first, second))
    steps = np.diff(a)[rows.is_next]
    if a.min() < 0 or b[has_both].min() <= 0 or np.mean(steps > 0) < _RISING:
        return []
    is_end = bool(np.all((b > a)[has_both])) and float(np.mean(np.diff(b)[rows.is_next] > 0)) >= _RISING
    if not is_end and bool(np.mean(np.diff(b)[rows.is_next] > 0) >= _RISING):
        return []  # both rise, and the second is not after the first
    ends = b if is_end else a + b
    apart = float(np.mean((a[1:] >= ends[:-1] - 1e-6)[rows.is_next]))
    cover = _cover(rows, ends, first.is_clock)
    if apart < _APART or cover < _LEAST_COVER:
        return []
    role = "end" if is_end else "duration"
    n = int(has_both.sum())
    because = (
        f"no name shows the times, but numbers do: {first.where!r} rises within recordings, "
        + (f"{second.where!r} is greater in all of {n:,} rows" if is_end else f"with {second.where!r} as duration")
        + f", and the ends lie within {len(rows.groups):,} recordings and reach {min(cover, 1):.0%} of their length in the median"
    )
    worth = (round(apart, 1), float(is_end), float(second.at == first.at + 1), cover)
    return [(worth, TimePair(first, second, role, because))]


def _cover(rows: _Rows, ends: Floats, is_clock: bool) -> float:
    """Return how far the ends reach in their recordings, in the unit in which they reach furthest without leaving them; 0 in none."""
    last = np.array([ends[group].max() for group in rows.groups])
    seconds = np.array([length.seconds for length in rows.lengths])
    rates = np.array([float(length.sample_rate_hz or 1) for length in rows.lengths])
    best = 0.0
    for per_s in (1.0,) if is_clock else (1.0, 1e3, rates):
        reached = last / per_s
        if np.mean(reached <= seconds + _TOLERANCE_S) >= _FITTING:
            best = max(best, float(np.median(reached / seconds)))
    return best
