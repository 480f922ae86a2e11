"""Describe what was measured of clips: how the values are distributed, and what thresholds would drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.index_parts import IndexPart, shards_of
from clipmill.schemas.columns import Column, measured_fields
from clipmill.schemas.index import Shard
from clipmill.schemas.records import Commit
from clipmill.schemas.tables import AUGMENTED_FROM
from clipmill.schemas.thresholds import Thresholds, is_number
from clipmill.stages.storage.checked import read_checked
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root
from clipmill.stages.write.ledger import originals

_NOTES = "_note"
"""What the names of columns of notes end in."""
SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""The shares of clips whose values a distribution gives: its smallest value, 1 %, ..., its greatest."""


def dropped_clips(root: Root, shard: Shard | Commit) -> pa.Table | None:
    """Return the clips that a shard dropped by what was measured of them, None if there are none.

    Raises
    ------
    ClipmillError : the table is missing or damaged
    """
    output = shard.output("dropped")
    if output is None:
        return None
    with legible(root, output.path):
        return read_parquet(read_checked(root, output))


def measured_names(columns: Sequence[Column]) -> list[str]:
    """Return the names of the columns of numbers that stages have measured. columns : descriptions in a snapshot"""
    return [field.name for field in measured_fields(columns) if is_number(field.type)]


def note_names(columns: Sequence[Column]) -> list[str]:
    """Return the names of the columns of text in which stages note what they did. columns : descriptions in a snapshot"""
    texts = [field.name for field in measured_fields(columns) if pa.types.is_string(field.type)]
    return [name for name in texts if name.endswith(_NOTES)]


def count_notes(parts: Iterable[IndexPart], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many clips have each note, by column. Clips without a note are not counted."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for part in parts if names else ():
        clips = _clips(part, names)
        for name in names:
            if name in clips.column_names:
                counts[name].update(clips[name].drop_null().to_pylist())
    return {name: dict(sorted(count.items())) for name, count in counts.items() if count}


def distributions(root: Root, parts: Sequence[IndexPart], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return how the values of columns are distributed over all clips of which they were measured, kept or dropped by them.

    Returns
    -------
    distributions : by column: `known`, `unknown` (null or NaN; not measured does not count), `dropped` (clips that `keep` dropped,
        which are among these) and `values` at `SHARES`
    """
    if not names:
        return {}
    values: dict[str, list[Any]] = {name: [] for name in names}
    n_dropped: Counter[str] = Counter()
    for part in parts:
        clips = originals(_clips(part, [*names, AUGMENTED_FROM]))
        for name in names:
            values[name].append(_floats(clips[name]) if name in clips.column_names else np.empty(0))
    dropping = [part for part in parts if pc.any(pc.greater(part.table("shards", ["clips_dropped"])[0], 0)).as_py()]
    for shard in shards_of(root, dropping):
        if (dropped := dropped_clips(root, shard)) is None:
            continue
        for name in names:
            if name in dropped.column_names:
                known = dropped.filter(pc.invert(_lists(dropped["not_measured"], name)))
                values[name].append(_floats(known[name]))
                n_dropped[name] += known.num_rows
    return {
        name: _distribution(np.concatenate([np.empty(0), *parts]), n_dropped[name]) for name, parts in values.items()
    }


def _clips(part: IndexPart, names: Sequence[str]) -> pa.Table:
    """Return the columns of a part's clips that are there, of those with these names."""
    return part.table("manifest", [name for name in names if name in part.schema.names])


def _lists(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return which rows of a column of lists contain a name."""
    return pa.array([name in (names or ()) for names in column.to_pylist()], pa.bool_())


def _floats(column: pa.ChunkedArray) -> Any:
    return column.to_numpy().astype(np.float64)


def _distribution(values: Any, n_dropped: int) -> dict[str, Any]:
    known = np.sort(values[~np.isnan(values)])
    places = [round(share * (len(known) - 1)) for share in SHARES] if len(known) else []
    finite = [float(known[i]) if np.isfinite(known[i]) else None for i in places]
    return {"known": len(known), "unknown": len(values) - len(known), "dropped": n_dropped, "values": finite}


@dataclass(frozen=True)
class Forecast:
    """What thresholds would do to a dataset.

    kept, dropped : clips, of those that were measured; dropped by rule
    kept_s : seconds of the clips that would be kept
    regained : clips among those that would be kept that `keep` drops now
    lost : clips among those that would be dropped that are kept now
    unknown : clips that were dropped before the columns were measured, so that nothing is known of them
    by_split : kept, dropped and unknown by split
    """

    kept: int
    kept_s: float
    dropped: dict[str, int]
    regained: int
    lost: int
    unknown: int
    by_split: dict[str, dict[str, int]]


def forecast(root: Root, parts: Sequence[IndexPart], where: Thresholds) -> Forecast:
    """Return what thresholds would drop of a dataset if they took the place of its stages `keep`.

    Raises
    ------
    ClipmillError : a record is missing or damaged
    """
    kept_s = 0.0
    sums: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    by_split: dict[str, Counter[str]] = {}
    for part in parts:
        clips = originals(part.table("manifest"))
        found = where.rule_of(clips)
        rules.update(found.drop_null().to_pylist())
        n_kept, n_lost = found.null_count, len(found) - found.null_count
        kept_s += float(pc.sum(clips["duration_s"].filter(pc.is_null(found))).as_py() or 0.0)
        by_split.setdefault(part.split, Counter()).update(kept=n_kept, dropped=n_lost)
        sums.update(lost=n_lost)
    for shard in shards_of(root, parts):
        split: Counter[str] = Counter()
        n_listed = n_regained = n_unlisted = 0
        if (dropped := dropped_clips(root, shard)) is not None:
            n_listed = dropped.num_rows
            names = [name for name in where.columns if name not in dropped.column_names]
            is_known = pc.invert(
                pa.array(
                    [bool(names) or bool({*row} & {*where.columns}) for row in dropped["not_measured"].to_pylist()]
                )
            )
            known = dropped.filter(is_known)
            n_unlisted = n_listed - known.num_rows
            if known.num_rows:
                found = where.rule_of(known)
                rules.update(found.drop_null().to_pylist())
                n_regained = found.null_count
                kept_s += float(pc.sum(known["duration_s"].filter(pc.is_null(found))).as_py() or 0.0)
                split.update(kept=n_regained, dropped=known.num_rows - n_regained)
        n_unknown = shard.clips_dropped - n_listed + n_unlisted
        split.update(unknown=n_unknown)
        sums.update(regained=n_regained, unknown=n_unknown)
        by_split.setdefault(shard.split, Counter()).update(split)
    return Forecast(
        kept=sum(split["kept"] for split in by_split.values()),
        kept_s=kept_s,
        dropped=dict(sorted(rules.items())),
        regained=sums["regained"],
        lost=sums["lost"],
        unknown=sums["unknown"],
        by_split={name: dict(split) for name, split in sorted(by_split.items())},
    )
