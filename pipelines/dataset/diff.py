"""Compare two snapshots. Shards that both name are equal, so only the others are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import StoredPart, shards_of
from clipmill.pipelines.dataset.outcomes import clips_of, recordings_of
from clipmill.pipelines.dataset.records_io import read_snapshot
from clipmill.pipelines.dataset.shard_set import parts_of
from clipmill.pipelines.dataset.sides import SideChanges, changes_between
from clipmill.schemas.index import Shard
from clipmill.schemas.records import Snapshot
from clipmill.schemas.tables import manifest_schema
from clipmill.stages.storage.root import Root

_COMPARED = [n for n in manifest_schema([]).names if n not in ("clip_id", "shard")]


@dataclass
class Change:
    """Names that are only in the newer snapshot, only in the older one, or in both with a difference."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether there is any difference."""
        return bool(self.added or self.removed or self.changed)


@dataclass
class Diff:
    """What changed from snapshot a to snapshot b.

    shards : number of shards by kept, added, removed
    recordings : ids; changed: another version, or used in one snapshot and rejected in the other
    clips : ids; changed: other labels, another split, length, level, or field
    totals : [before, after] by name
    splits, labels : by name, [before, after] of clips and seconds
    config : key, before and after of each value that differs
    side_changes : recordings that moved to another split
    """

    a: int
    b: int
    shards: dict[str, int]
    recordings: Change
    clips: Change
    totals: dict[str, list[float]]
    splits: dict[str, dict[str, list[float]]]
    labels: dict[str, dict[str, list[float]]]
    config: list[dict[str, Any]]
    side_changes: SideChanges

    @property
    def is_empty(self) -> bool:
        """Whether shards and configuration are the same."""
        return not (self.shards["added"] or self.shards["removed"] or self.config)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "same": self.is_empty}


def diff(root: Root, a: int, b: int) -> Diff:
    """Compare two snapshots.

    Raises
    ------
    ClipmillError : a snapshot does not exist, or the record of a shard that differs cannot be read
    """
    old, new = read_snapshot(root, a), read_snapshot(root, b)
    removed, added = _only_in(root, old, new), _only_in(root, new, old)
    return Diff(
        a=a,
        b=b,
        shards={"kept": len(set(old.commits) & set(new.commits)), "added": len(added), "removed": len(removed)},
        recordings=_recordings(root, removed, added),
        clips=_clips(_manifest(root, removed), _manifest(root, added)),
        totals={
            "recordings_listed": [old.recordings_listed, new.recordings_listed],
            "recordings_used": [old.counts.recordings_used, new.counts.recordings_used],
            "recordings_rejected": [old.counts.recordings_rejected, new.counts.recordings_rejected],
            "clips": [old.counts.clips_kept, new.counts.clips_kept],
            "seconds": [old.seconds.kept_s, new.seconds.kept_s],
            "bytes": [old.bytes_stored, new.bytes_stored],
        },
        splits=_sides(_by_split(old), _by_split(new)),
        labels=_sides(_by_label(old), _by_label(new)),
        config=_config(old.config, new.config),
        side_changes=changes_between(root, removed, added),
    )


def _only_in(root: Root, snapshot: Snapshot, other: Snapshot) -> list[Shard]:
    """Return the shards that another snapshot does not have, sorted by key. Parts that both have are not read."""
    keys = set(snapshot.commits) - set(other.commits)
    common = {part.id for part in snapshot.parts} & {part.id for part in other.parts}
    parts = [part for part in parts_of(root, snapshot) if not (isinstance(part, StoredPart) and part.part.id in common)]
    shards = shards_of(root, parts) if keys else ()
    return sorted((shard for shard in shards if shard.key in keys), key=lambda shard: shard.key)


def _recordings(root: Root, removed: list[Shard], added: list[Shard]) -> Change:
    old, new = _outcomes(root, removed), _outcomes(root, added)
    return Change(
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        changed=sorted(r for r in new.keys() & old.keys() if new[r] != old[r]),
    )


def _outcomes(root: Root, commits: list[Shard]) -> dict[str, set[tuple[str, str | None]]]:
    """Return, by recording, the versions of its parts and the reasons they were rejected for."""
    outcomes: dict[str, set[tuple[str, str | None]]] = {}
    for commit in commits:
        for row in recordings_of(root, commit):
            outcomes.setdefault(row["recording_id"], set()).add((row["version"], row["reason"]))
    return outcomes


def _manifest(root: Root, commits: list[Shard]) -> pa.Table:
    tables = [_with_texts(clips_of(root, commit)) for commit in commits]
    if not tables:
        return pa.schema([f for f in manifest_schema([]) if f.name != "shard"]).empty_table()
    return pa.concat_tables(tables, promote_options="default")


def _with_texts(clips: pa.Table) -> pa.Table:
    """Return clips in which lists are texts, by which they are compared: tables cannot be joined with lists in them."""
    for i, column in enumerate(clips.schema):
        if pa.types.is_nested(column.type):
            texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in clips[i].to_pylist()]
            clips = clips.set_column(i, column.name, pa.array(texts, pa.string()))
    return clips


def _clips(old: pa.Table, new: pa.Table) -> Change:
    change = Change(
        added=_not_in(new["clip_id"], old["clip_id"]),
        removed=_not_in(old["clip_id"], new["clip_id"]),
    )
    fields = sorted((set(old.column_names) & set(new.column_names)) - {"clip_id", *_COMPARED})
    columns = [*_COMPARED, *fields]
    both = new.select(["clip_id", *columns]).join(
        old.select(["clip_id", *columns]), keys="clip_id", join_type="inner", right_suffix=" before"
    )
    if both.num_rows:
        differ = [_differ(both[name], both[f"{name} before"]) for name in columns]
        any_differs = differ[0]
        for column in differ[1:]:
            any_differs = pc.or_(any_differs, column)
        change.changed = sorted(both["clip_id"].filter(any_differs).to_pylist())
    return change


def _not_in(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> list[str]:
    missing: list[str] = sorted(ids.filter(pc.invert(pc.is_in(ids, others.combine_chunks()))).to_pylist())
    return missing


def _differ(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a mask of the rows in which two columns differ; two nulls are equal. Columns of different types are compared as text.

    Types differ if a column was a field of the corpus and is now one of clipmill's own.
    """
    if a.type != b.type:
        a, b = a.cast(pa.string()), b.cast(pa.string())
    return pc.fill_null(pc.not_equal(a, b), pc.xor(pc.is_null(a), pc.is_null(b)))


def _by_split(snapshot: Snapshot) -> dict[str, tuple[float, float]]:
    return {name: (side["clips"], side["seconds"]) for name, side in snapshot.by_split.items()}


def _by_label(snapshot: Snapshot) -> dict[str, tuple[float, float]]:
    s = snapshot.seconds
    return {label: (n, s.by_label.get(label, 0.0)) for label, n in s.clips_by_label.items()}


def _sides(
    old: dict[str, tuple[float, float]], new: dict[str, tuple[float, float]]
) -> dict[str, dict[str, list[float]]]:
    sides = {}
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, (0, 0.0)), new.get(name, (0, 0.0))
        sides[name] = {"clips": [before[0], after[0]], "seconds": [round(before[1], 3), round(after[1], 3)]}
    return sides


def _config(old: Any, new: Any) -> list[dict[str, Any]]:
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        {"key": key, "before": before.get(key), "after": after.get(key)}
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of a configuration with their keys; items of a list of sources are keyed by name."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{inner.get('name', i)}]")
    else:
        yield key, value
