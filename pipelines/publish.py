"""Publish: from committed shards to a snapshot, whole or not at all."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.plan import Plan
from schemas.config_file import ConfigFile
from schemas.layout import (
    SNAPSHOTS,
    Commit,
    Counts,
    OutputFile,
    Seconds,
    Snapshot,
    snapshot_name,
    snapshot_numbers,
    snapshot_path,
)
from schemas.storage import Root
from schemas.tables import REJECTIONS, manifest_schema

_ROWS = 50_000


@dataclass(frozen=True)
class Draft:
    """A snapshot before it has a number. rejections : of the plan, to be joined by those of the commits."""

    snapshot: Snapshot
    commits: list[Commit]
    rejections: list[dict[str, object]]

    def over_limit(self, max_rejected_share: float) -> str | None:
        """Return why the limit forbids publishing, None when it does not."""
        c = self.snapshot.counts
        shares = {
            "recordings": (c.recordings_rejected, self.snapshot.recordings_listed),
            "annotations": (c.annotations_rejected, self.snapshot.annotations_read),
            "clips": (c.clips_rejected, c.clips_candidates),
        }
        for what, (rejected, total) in shares.items():
            if rejected > max_rejected_share * total:
                return (
                    f"{rejected} of {total} {what} are rejected, {rejected / total:.2%};"
                    f" limits.max_rejected_share allows {max_rejected_share:.2%}"
                )
        return None


def draft_snapshot(file: ConfigFile, plan: Plan, commits: list[Commit]) -> Draft:
    """Sum up commits and what the plan itself left out."""
    commits = sorted(commits, key=lambda c: (c.split, c.bucket))
    by_reason: dict[str, int] = {}
    for row in plan.rejections:
        by_reason[str(row["reason"])] = by_reason.get(str(row["reason"]), 0) + 1
    counts = Counts(
        recordings_rejected=plan.recordings_rejected, annotations_rejected=plan.annotations_rejected, rejected=by_reason
    )
    seconds = Seconds()
    by_split: dict[str, dict[str, float]] = {}
    for commit in commits:
        counts += commit.counts
        seconds += commit.seconds
        side = by_split.setdefault(commit.split, {"clips": 0, "seconds": 0.0, "shards": 0})
        side["clips"] += commit.counts.clips_kept
        side["seconds"] += commit.seconds.kept_s
        side["shards"] += 1
    snapshot = Snapshot(
        number=0,
        name=file.config.name,
        parent=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commits=sorted(c.key for c in commits),
        counts=counts,
        seconds=seconds,
        by_split=by_split,
        recordings_listed=plan.recordings_listed,
        recordings_without_annotations=plan.recordings_without_annotations,
        annotations_read=plan.annotations_read,
        plan_digest=plan.digest,
        config=file.public,
        fields=plan.field_names,
        bytes_stored=sum(o.size_bytes for c in commits for o in c.outputs if o.format != "manifest"),
    )
    return Draft(snapshot, commits, plan.rejections)


def publish(root: Root, draft: Draft) -> Snapshot:
    """Write manifest and rejections, then the snapshot's own file, by which it appears.

    Another builder may take a number first; then the next one is tried.
    """
    numbers = snapshot_numbers(root)
    parent = numbers[-1] if numbers else None
    number = (parent or 0) + 1
    while True:
        snapshot = replace(draft.snapshot, number=number, parent=parent)
        folder = f"{SNAPSHOTS}/{snapshot_name(number)}"
        try:
            _write_manifest(root, f"{folder}/manifest.parquet", draft)
            _write_rejections(root, f"{folder}/rejections.parquet", draft)
        except FileExistsError:
            number += 1  # another builder's, or what a killed one left: never written over
            continue
        if root.create_bytes(snapshot_path(number), snapshot.to_json()):
            return snapshot
        number += 1


def main_output(commit: Commit) -> OutputFile:
    """Return the file that a manifest names for a shard's clips: Parquet when there is one."""
    order = {"parquet": 0, "webdataset": 1}
    return min((o for o in commit.outputs if o.format in order), key=lambda o: order[o.format])


def _write_manifest(root: Root, path: str, draft: Draft) -> None:
    schema = manifest_schema(draft.snapshot.fields)
    with root.write(path, replace=False) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for commit in draft.commits:
            part = next(o for o in commit.outputs if o.format == "manifest")
            with contextlib.closing(root.open_read(part.path)) as source:
                table = pq.read_table(source)
            shard = pa.array([main_output(commit).path] * table.num_rows, pa.string())
            writer.write_table(table.append_column("shard", shard).cast(schema), row_group_size=_ROWS)


def _write_rejections(root: Root, path: str, draft: Draft) -> None:
    with root.write(path, replace=False) as stream, pq.ParquetWriter(stream, REJECTIONS, compression="zstd") as writer:
        writer.write_table(pa.Table.from_pylist(list(draft.rejections), schema=REJECTIONS))
        for commit in draft.commits:
            if commit.rejections:
                writer.write_table(pa.Table.from_pylist(commit.rejections, schema=REJECTIONS))
