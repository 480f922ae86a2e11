"""Publish committed shards as a snapshot, atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.duplicates import find_duplicates
from clipmill.pipelines.dataset.outcomes import clips_of, count_remarked
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.layout import EXTENSIONS, SNAPSHOTS, commit_path, snapshot_name, snapshot_path
from clipmill.schemas.records import Commit, Counts, Seconds, Snapshot
from clipmill.schemas.statistics import Statistics
from clipmill.schemas.tables import PCM_SHA256, REJECTIONS, manifest_schema
from clipmill.stages.storage.patience import patiently
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_of
from clipmill.stages.write.shard_files import HashingStream

_ROWS = 50_000


@dataclass(frozen=True)
class Draft:
    """A snapshot that has no number yet.

    commits : its shards, in their order in the manifest
    rejections : rows of rejections by the plan; those of the commits are added when it is published
    """

    snapshot: Snapshot
    commits: list[Commit]
    rejections: list[dict[str, object]]

    @property
    def tables(self) -> dict[str, Callable[[Root, IO[bytes] | HashingStream, Draft], None]]:
        """The tables of the snapshot: what writes each, by name."""
        duplicates = {"duplicates": _write_duplicates} if self.snapshot.duplicates.get("clips") else {}
        return {"manifest": _write_manifest, "rejections": _write_rejections, **duplicates}


@dataclass(frozen=True)
class Sums:
    """The totals of commits, and of what the plan itself left out. The fields are those of `Snapshot`."""

    counts: Counts
    seconds: Seconds
    by_split: dict[str, dict[str, float]]
    labels: dict[str, dict[str, dict[str, float]]]
    statistics: dict[str, Statistics]
    bytes_stored: int


def sum_up(commits: list[Commit], counts: Counts) -> Sums:
    """Return the totals of commits, added up in their order. counts : counts of the plan, which are included"""
    seconds = Seconds()
    by_split: dict[str, dict[str, float]] = {}
    labels: dict[str, dict[str, dict[str, float]]] = {}
    statistics: dict[str, Statistics] = {}
    for commit in commits:
        counts += commit.counts
        seconds += commit.seconds
        side = by_split.setdefault(commit.split, {"clips": 0, "seconds": 0.0, "shards": 0})
        side["clips"] += commit.counts.clips_kept
        side["seconds"] += commit.seconds.kept_s
        side["shards"] += 1
        if commit.counts.clips_augmented:
            side["augmented"] = side.get("augmented", 0) + commit.counts.clips_augmented
        statistics[commit.split] = statistics.get(commit.split, Statistics()) + commit.statistics
        for label, clips in commit.seconds.clips_by_label.items():
            of_label = labels.setdefault(commit.split, {}).setdefault(label, {"clips": 0, "seconds": 0.0})
            of_label["clips"] += clips
            of_label["seconds"] += commit.seconds.by_label[label]
    counts = replace(counts, remarked=count_remarked(commits))
    stored = sum(o.size_bytes for c in commits for o in c.outputs if o.format in EXTENSIONS)
    return Sums(counts, seconds, by_split, labels, statistics, stored)


def with_duplicates(root: Root, draft: Draft) -> Draft:
    """Return a draft that says how many of its clips are copies of others."""
    counts = find_duplicates(root, draft.commits).counts
    return replace(draft, snapshot=replace(draft.snapshot, duplicates=counts))


def in_order(commits: Iterable[Commit]) -> list[Commit]:
    """Return commits in the order of a snapshot: by split and partition."""
    return sorted(commits, key=lambda c: (c.split, c.bucket))


def publish(root: Root, draft: Draft, parent: int | None) -> Snapshot | None:
    """Write manifest and rejections, then the snapshot's own file, which makes it visible.

    parent : number of the newest snapshot, None if there is none

    Returns
    -------
    the snapshot, or None if another build published one in the meantime
    """
    number = (parent or 0) + 1
    while True:
        folder = f"{SNAPSHOTS}/{snapshot_name(number)}"
        try:
            files = {
                name: patiently(
                    partial(_write_once, root, f"{folder}/{name}.parquet", draft, write), root.errors, root.is_local
                )
                for name, write in draft.tables.items()
            }
        except FileExistsError:
            if root.exists(snapshot_path(number)):
                return None
            number += 1  # another build is about to publish this number, or left it unfinished: never overwrite it
            continue
        snapshot = replace(draft.snapshot, number=number, parent=parent, files=files)
        # What other processes have committed may not be on the disk yet.
        root.sync(path for c in draft.commits for path in (commit_path(c.key), *(o.path for o in c.outputs)))
        return snapshot if root.create_bytes(snapshot_path(number), snapshot.to_json()) else None


def repair(root: Root, snapshot: Snapshot, draft: Draft) -> None:
    """Write a published snapshot's manifest and rejections again if they are missing or damaged. The bytes are the same as before.

    draft : a draft with the content of the snapshot
    """
    for name, write in replace(draft, snapshot=snapshot).tables.items():
        path = f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/{name}.parquet"
        expected = snapshot.files.get(name)
        try:
            if expected is None or sha256_of(root, path) == expected:
                continue
        except FileNotFoundError:
            pass
        with root.write(path) as target:
            write(root, target, draft)
    root.sync()


def _write_once(
    root: Root, path: str, draft: Draft, write: Callable[[Root, IO[bytes] | HashingStream, Draft], None]
) -> str:
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
            write(root, stream, draft)
            digest = stream.sha256
    except FileExistsError:
        if sha256_of(root, path) != digest:
            raise
    return digest


def _write_manifest(root: Root, stream: IO[bytes] | HashingStream, draft: Draft) -> None:
    schema = manifest_schema(draft.snapshot.fields, draft.snapshot.has_channel, measured_fields(draft.snapshot.columns))
    if any(commit.has_pcm_sha256 for commit in draft.commits):
        schema = schema.append(PCM_SHA256)
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for commit in draft.commits:
            table = clips_of(root, commit)
            output = commit.output("parquet", "webdataset")  # the file that a manifest names for a shard's clips
            shard = pa.array([output.path if output else None] * table.num_rows, pa.string())
            table = table.append_column("shard", shard)
            if PCM_SHA256.name in schema.names and not commit.has_pcm_sha256:
                table = table.append_column(PCM_SHA256, pa.nulls(table.num_rows, PCM_SHA256.type))
            writer.write_table(table.select(schema.names).cast(schema), row_group_size=_ROWS)


def _write_duplicates(root: Root, stream: IO[bytes] | HashingStream, draft: Draft) -> None:
    pq.write_table(find_duplicates(root, draft.commits).table, stream, compression="zstd")


def _write_rejections(root: Root, stream: IO[bytes] | HashingStream, draft: Draft) -> None:
    with pq.ParquetWriter(stream, REJECTIONS, compression="zstd") as writer:
        writer.write_table(pa.Table.from_pylist(list(draft.rejections), schema=REJECTIONS))
        for commit in draft.commits:
            if commit.rejections:
                writer.write_table(pa.Table.from_pylist(commit.rejections, schema=REJECTIONS))


def write_rejections(root: Root, path: str, draft: Draft) -> None:
    """Write the rejections of a build that publishes nothing, for `clipmill failures`."""
    with root.write(path) as stream:
        _write_rejections(root, stream, draft)
