"""Publish committed shards as a snapshot, atomically."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.duplicates import find_duplicates
from clipmill.pipelines.dataset.index_parts import IndexPart, StoredPart, in_turn
from clipmill.pipelines.dataset.shard_set import schema_of_manifest
from clipmill.schemas.columns import names_beside
from clipmill.schemas.index import Sums
from clipmill.schemas.index_part import MAX_SHARDS
from clipmill.schemas.layout import BESIDE, SHARDS, SNAPSHOTS, commit_path, snapshot_name, snapshot_path
from clipmill.schemas.records import Counts, Seconds, Snapshot
from clipmill.schemas.statistics import Statistics
from clipmill.schemas.tables import REJECTIONS
from clipmill.stages.storage.patience import patiently
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_of
from clipmill.stages.write.shard_files import HashingStream

_ROWS = 50_000
Stream = IO[bytes] | HashingStream


@dataclass(frozen=True)
class Draft:
    """A snapshot that has no number yet.

    parts : its index, those of the last snapshot where nothing has changed
    rejections : rows of rejections by the plan
    duplicates : rows of `clipmill.pipelines.dataset.duplicates.DUPLICATES`, None while they are not known
    """

    snapshot: Snapshot
    parts: Sequence[StoredPart]
    rejections: list[dict[str, object]]
    duplicates: pa.Table | None = None

    @property
    def tables(self) -> dict[str, Callable[[Stream], None]]:
        """The tables of the snapshot beside its index: what writes each, by name. Small datasets have those of the index as one file each."""
        tables: dict[str, Callable[[Stream], None]] = {}
        if self.rejections:
            tables["left_out"] = partial(_write_rows, self.rejections)
        if self.snapshot.duplicates.get("clips"):
            tables["duplicates"] = self._write_duplicates
        if len(self.snapshot.commits) <= MAX_SHARDS:
            tables |= {"manifest": self._write_manifest, "rejections": self._write_rejections}
        return tables

    def _write_manifest(self, stream: Stream) -> None:
        with pq.ParquetWriter(stream, schema_of_manifest(self.snapshot), compression="zstd") as writer:
            for part in self.parts:
                writer.write_table(part.table("manifest"), row_group_size=_ROWS)

    def _write_rejections(self, stream: Stream) -> None:
        write_rejection_rows(stream, self.rejections, self.parts)

    def _write_duplicates(self, stream: Stream) -> None:
        table = find_duplicates(self.parts).table if self.duplicates is None else self.duplicates
        pq.write_table(table, stream, compression="zstd")


@dataclass(frozen=True)
class Totals:
    """The totals of an index, and of what the plan itself left out. The fields are those of `Snapshot`."""

    counts: Counts
    seconds: Seconds
    by_split: dict[str, dict[str, float]]
    labels: dict[str, dict[str, dict[str, float]]]
    statistics: dict[str, Statistics]
    bytes_stored: int


def sum_up(root: Root, parts: Sequence[IndexPart], counts: Counts) -> Totals:
    """Return the totals of an index. counts : counts of the plan, which are included

    Sums of parts are added in the order of the parts, so they do not depend on the order of nights.
    """
    total = Sums(counts=counts)
    of_split: dict[str, Sums] = {}
    for part, sums in zip(parts, in_turn(root, lambda part: part.sums, parts), strict=True):
        total += sums
        of_split[part.split] = of_split.get(part.split, Sums()) + sums
    by_split: dict[str, dict[str, float]] = {}
    labels: dict[str, dict[str, dict[str, float]]] = {}
    for split, sums in of_split.items():
        side = by_split[split] = {
            "clips": sums.counts.clips_kept, "seconds": sums.seconds.kept_s, "shards": sums.shards,
        }  # fmt: skip
        if sums.counts.clips_augmented:
            side["augmented"] = sums.counts.clips_augmented
        of_label = {
            label: {"clips": clips, "seconds": sums.seconds.by_label[label]}
            for label, clips in sums.seconds.clips_by_label.items()
        }
        if of_label:
            labels[split] = of_label
    counted = replace(total.counts, remarked=count_remarked(root, parts) if total.counts.remarked else {})
    statistics = {split: sums.statistics for split, sums in of_split.items()}
    return Totals(counted, total.seconds, by_split, labels, statistics, total.bytes_stored)


def count_remarked(root: Root, parts: Sequence[IndexPart]) -> dict[str, int]:
    """Return the number of recordings with remarks, by code. Adding up the counts of shards would count long recordings twice."""
    found: dict[str, set[str]] = {}
    for table in in_turn(root, lambda part: part.table("shards", ["remarked"]), parts):
        for name in table["remarked"].combine_chunks().flatten().unique().to_pylist():
            code, _, recording = name.partition(" ")
            found.setdefault(code, set()).add(recording)
    return {code: len(recordings) for code, recordings in sorted(found.items())}


def with_duplicates(draft: Draft) -> Draft:
    """Return a draft that says how many of its clips are copies of others."""
    found = find_duplicates(draft.parts)
    return replace(draft, snapshot=replace(draft.snapshot, duplicates=found.counts), duplicates=found.table)


def publish(root: Root, draft: Draft, parent: int | None) -> Snapshot | None:
    """Write the new parts of the index and the tables, then the snapshot's own file, which makes it visible.

    parent : number of the newest snapshot, None if there is none

    Returns
    -------
    the snapshot, or None if another build published one in the meantime
    """
    parts = [part.part for part in draft.parts]
    number = (parent or 0) + 1
    while True:
        folder = f"{SNAPSHOTS}/{snapshot_name(number)}"
        try:
            files = {
                name: patiently(
                    partial(_write_once, root, f"{folder}/{name}.parquet", write), root.errors, root.is_local
                )
                for name, write in draft.tables.items()
            }
        except FileExistsError:
            if root.exists(snapshot_path(number)):
                return None
            number += 1  # another build is about to publish this number, or left it unfinished: never overwrite it
            continue
        snapshot = replace(draft.snapshot, number=number, parent=parent, files=files, parts=parts)
        # What other processes have committed may not be on the disk yet.
        folders = (SHARDS, BESIDE) if names_beside(snapshot.columns) else (SHARDS,)
        root.sync([commit_path("x"), *(f"{folder}/{split}/x" for folder in folders for split in snapshot.by_split)])
        return snapshot if root.create_bytes(snapshot_path(number), snapshot.to_json()) else None


def repair(root: Root, snapshot: Snapshot, draft: Draft) -> bool:
    """Write files of a published snapshot again that are missing or damaged. Return whether all are as they were.

    draft : a draft with the content of the snapshot
    """
    # Another version of a library may write other bytes: then it takes a new snapshot to name them.
    if [part.part for part in draft.parts] != snapshot.parts:
        return False
    for name, write in replace(draft, snapshot=snapshot).tables.items():
        path = f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/{name}.parquet"
        expected = snapshot.files.get(name)
        try:
            if expected is None or sha256_of(root, path) == expected:
                continue
        except FileNotFoundError:
            pass
        sink = HashingStream(io.BytesIO())
        write(sink)
        if sink.sha256 != expected:
            return False
        with root.write(path) as target:
            write(target)
    root.sync()
    return True


def _write_once(root: Root, path: str, write: Callable[[Stream], None]) -> str:
    """Write a file unless it exists, and return its sha256.

    The same draft always gives the same bytes, so a file left by a killed build, or written by another one meanwhile, can be used.

    Raises
    ------
    FileExistsError : the file exists with another content
    """
    digest = ""
    try:
        with root.write(path, replace=False) as target:
            stream = HashingStream(target)
            write(stream)
            digest = stream.sha256
    except FileExistsError:
        if sha256_of(root, path) != digest:
            raise
    return digest


def _write_rows(rows: list[dict[str, Any]], stream: Stream) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=REJECTIONS), stream, compression="zstd")


def write_rejection_rows(stream: Stream, rows: list[dict[str, Any]], parts: Sequence[IndexPart]) -> None:
    """Write a table of rejections: those of a plan, then those of the shards."""
    with pq.ParquetWriter(stream, REJECTIONS, compression="zstd") as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=REJECTIONS))
        for part in parts:
            table = part.table("rejections")
            if table.num_rows:
                writer.write_table(table)


def write_rejections(root: Root, path: str, draft: Draft) -> str:
    """Write the rejections of a build that publishes nothing, for `clipmill failures`. Return the sha256 of the file."""
    with root.write(path) as target:
        stream = HashingStream(target)
        write_rejection_rows(stream, draft.rejections, draft.parts)
        return stream.sha256


def remark_rows(parts: Sequence[IndexPart]) -> Iterator[dict[str, Any]]:
    """Yield the remarks on recordings that were used, in the order of the index."""
    for part in parts:
        yield from part.table("remarks").to_pylist()
