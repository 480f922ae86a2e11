"""Gather what a report tells of a snapshot, as plain data. Nothing is drawn or written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import shards_of
from clipmill.pipelines.dataset.inspection import failures, show
from clipmill.pipelines.dataset.measured import dropped_clips
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.read.near_duplicates import NearDuplicates, find_near_duplicates
from clipmill.pipelines.reports.balance import LabelBalance, Shared, label_balance, shared
from clipmill.pipelines.reports.clip_table import ClipTable, read_clips
from clipmill.pipelines.reports.column_spread import Spread, spreads
from clipmill.pipelines.reports.drift import Drift, drift, other_number

SAMPLED = 200_000
"""Clips up to which all of them are looked at; of a larger snapshot so many are."""
_EXAMPLES = 3
_VALUES = 8
_FIELDS = 30


@dataclass(frozen=True)
class FieldValues:
    """What a field of the corpus holds: its number of different values, of clips without one, and the most frequent with their clips."""

    n_values: int
    n_missing: int
    most: Sequence[tuple[str, int]]
    mean_length: float


@dataclass(frozen=True)
class Facts:
    """What a report tells of a snapshot.

    published : the snapshot
    clips : its clips, or a sample of them
    shown : what `clipmill show --json` prints
    failed : what `clipmill failures --json` prints, for this snapshot
    sources : clips, seconds and recordings by source, of the clips that were read
    balance, common : of labels and splits
    spreads : of columns of numbers
    fields : values of the corpus's fields
    dropped_examples : by rule, rows of clips that were dropped by what was measured of them
    change : since an earlier snapshot; None if there is none
    alike : recordings that sound alike; None if they were not looked for
    """

    published: Published
    clips: ClipTable
    shown: Mapping[str, Any]
    failed: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, float]]
    balance: LabelBalance
    common: Shared
    spreads: Sequence[Spread]
    fields: Mapping[str, FieldValues]
    dropped_examples: Mapping[str, Sequence[Mapping[str, Any]]]
    change: Drift | None
    alike: NearDuplicates | None


def gather(
    published: Published, against: int | None = None, seed: int = 0, near_duplicates: bool = False, most: int = SAMPLED
) -> Facts:
    """Return what a report tells of a snapshot.

    Parameters
    ----------
    against : number of the snapshot to compare with; None: the last one before this, if there is one
    seed : of samples
    near_duplicates : look for recordings that sound alike, for which all clips are decoded
    most : clips to look at, about

    Raises
    ------
    ConfigError : there is no snapshot to compare with by this number
    ClipmillError : a record of the snapshot is missing or damaged
    """
    number = published.snapshot.number
    other = other_number(published, against)
    clips = read_clips(published, most, seed)
    return Facts(
        published=published,
        clips=clips,
        shown=show(published.root, number),
        failed=failures(published.root, number, n_examples=_EXAMPLES),
        sources=_sources(clips),
        balance=label_balance(published.snapshot),
        common=shared(published, clips),
        spreads=spreads(published, clips),
        fields={
            name: _values(clips, name)
            for name in published.snapshot.fields[:_FIELDS]
            if name in clips.table.column_names
        },
        dropped_examples=_dropped(published),
        change=drift(published, clips, other, most, seed) if other is not None else None,
        alike=find_near_duplicates(published) if near_duplicates else None,
    )


def gather_briefly(published: Published, clips: ClipTable) -> Facts:
    """Return of what a report tells only what became of recordings and clips, for which no further clip is looked at.

    Raises
    ------
    ClipmillError : a record of the snapshot is missing or damaged
    """
    return Facts(
        published=published,
        clips=clips,
        shown={"versions": {}, "measured": {}},
        failed=failures(published.root, published.snapshot.number, n_examples=_EXAMPLES),
        sources=_sources(clips),
        balance=label_balance(published.snapshot),
        common=Shared((0, []), {}, {}),
        spreads=(),
        fields={},
        dropped_examples=_dropped(published),
        change=None,
        alike=None,
    )


def _sources(clips: ClipTable) -> dict[str, dict[str, float]]:
    table = clips.table
    sums = table.group_by("source", use_threads=False).aggregate(
        [("duration_s", "sum"), ("clip_id", "count"), ("recording_id", "count_distinct")]
    )
    return {
        row["source"]: {
            "clips": row["clip_id_count"],
            "seconds": row["duration_s_sum"] or 0.0,
            "recordings": row["recording_id_count_distinct"],
        }
        for row in sorted(sums.to_pylist(), key=lambda row: str(row["source"]))
    }


def _values(clips: ClipTable, name: str) -> FieldValues:
    column = clips.table[name]
    counts = Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column.drop_null()).to_pylist()})
    lengths = pc.utf8_length(column.drop_null()).to_numpy()
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_VALUES]
    return FieldValues(len(counts), column.null_count, most, float(np.mean(lengths)) if len(lengths) else 0.0)


def _dropped(published: Published) -> dict[str, list[dict[str, Any]]]:
    """Return a few of the clips that were dropped by each rule, of those that shards list; shards are read until there are enough."""
    found: dict[str, list[dict[str, Any]]] = {}
    wanted = {rule: min(n, _EXAMPLES) for rule, n in published.snapshot.counts.dropped.items()}
    for shard in shards_of(published.root, published.parts) if wanted else ():
        if (table := dropped_clips(published.root, shard)) is None:
            continue
        for rule in pc.unique(table["rule"]).to_pylist():
            own = found.setdefault(rule, [])
            if len(own) < wanted.get(rule, 0):
                rows = table.filter(pc.equal(table["rule"], rule)).slice(0, wanted[rule] - len(own))
                own += rows.to_pylist()
        if all(len(found.get(rule, ())) >= n for rule, n in wanted.items()):
            break
    return found
