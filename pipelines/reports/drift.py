"""Compare a snapshot with an earlier one: how far shares of labels and values of columns have moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.dataset.diff import Diff, diff
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.reports.clip_table import ClipTable, read_clips
from clipmill.pipelines.reports.column_spread import number_columns
from clipmill.schemas.errors import ConfigError

MOST_COMPARED = 500_000
"""Clips of the two snapshots up to which each recording and clip is compared."""
_LEFT_OUT = ("start_s", "n_samples", "n_channels", "sample_rate_hz")


@dataclass(frozen=True)
class Shift:
    """How far the values of a column have moved.

    distance : greatest difference of the two cumulative distributions, 0 to 1 (the statistic of Kolmogorov and Smirnov)
    medians : before and after
    """

    name: str
    unit: str
    distance: float
    medians: tuple[float, float]


@dataclass(frozen=True)
class Drift:
    """What has changed since another snapshot.

    number, created : of the other snapshot
    changes : recordings and clips that came, went or changed; None if there are too many to compare
    labels : by label, its share of all labels before and after, those that moved furthest first
    moved_share : the share of labels that would have to change for the shares to be what they were: half the sum of all differences
    shifts : by column, the furthest first
    columns : names of columns that only the older and only the newer snapshot has
    """

    number: int
    created: str
    changes: Diff | None
    labels: Sequence[tuple[str, float, float]]
    moved_share: float
    shifts: Sequence[Shift]
    columns: tuple[list[str], list[str]]


def other_number(published: Published, against: int | None) -> int | None:
    """Return the number of the snapshot to compare with: the last one before this, or the one asked for; None if there is none.

    Raises
    ------
    ConfigError : the snapshot asked for does not exist, or is this one
    """
    number = published.snapshot.number
    numbers = snapshot_numbers(published.root)
    if against is None:
        return max((n for n in numbers if n < number), default=None)
    if against == number or against not in numbers:
        there = ", ".join(str(n) for n in numbers if n != number) or "no others"
        raise ConfigError(
            f"--against {against}: give the number of another snapshot than {number}; there are {there}", code="usage"
        )
    return against


def drift(published: Published, clips: ClipTable, number: int, most: int, seed: int) -> Drift:
    """Return what has changed since another snapshot.

    number : of that snapshot
    most : clips of it to read, about; seed : of the sample

    Raises
    ------
    ClipmillError : a record of that snapshot is missing or damaged
    """
    before = Published(published.root, read_snapshot(published.root, number))
    old, new = before.snapshot, published.snapshot
    is_small = old.counts.clips_stored + new.counts.clips_stored <= MOST_COMPARED
    shares = _label_shares(old.seconds.clips_by_label, new.seconds.clips_by_label)
    own, others = ({column["name"]: column for column in number_columns(each)} for each in (published, before))
    earlier = read_clips(before, most, seed)
    shifts = [
        _shift(column, earlier.numbers(name), clips.numbers(name))
        for name, column in own.items()
        if name in others and name not in _LEFT_OUT and earlier.table.num_rows and clips.table.num_rows
    ]
    return Drift(
        number=number,
        created=old.created,
        changes=diff(published.root, number, new.number) if is_small else None,
        labels=shares,
        moved_share=sum(abs(a - b) for _, b, a in shares) / 2,
        shifts=sorted((s for s in shifts if s is not None), key=lambda s: (-s.distance, s.name)),
        columns=(_missing(before, published), _missing(published, before)),
    )


def _missing(have: Published, lack: Published) -> list[str]:
    there = {column["name"] for column in lack.columns}
    return [column["name"] for column in have.columns if column["name"] not in there]


def _label_shares(old: dict[str, int], new: dict[str, int]) -> list[tuple[str, float, float]]:
    before, after = sum(old.values()) or 1, sum(new.values()) or 1
    shares = [(label, old.get(label, 0) / before, new.get(label, 0) / after) for label in old.keys() | new.keys()]
    return sorted(shares, key=lambda s: (-abs(s[2] - s[1]), s[0]))


def _shift(column: dict[str, Any], old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> Shift | None:
    old, new = np.sort(old[~np.isnan(old)]), np.sort(new[~np.isnan(new)])
    if not len(old) or not len(new):
        return None
    points = np.unique(np.concatenate([old, new]))
    below_old = np.searchsorted(old, points, side="right") / len(old)
    below_new = np.searchsorted(new, points, side="right") / len(new)
    distance = float(np.abs(below_old - below_new).max())
    medians = float(old[len(old) // 2]), float(new[len(new) // 2])
    return Shift(column["name"], str(column.get("unit", "")), distance, medians)
