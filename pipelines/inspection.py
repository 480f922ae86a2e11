"""Looking at a dataset: what a snapshot holds, what is being built, what was rejected and why."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq

from schemas.layout import (
    BUILD_FILE,
    SNAPSHOTS,
    committed_keys,
    read_commit,
    read_snapshot,
    snapshot_name,
    snapshot_numbers,
)
from schemas.reasons import REASONS
from schemas.storage import Root

_N_EXAMPLES = 3


def show(root: Root, number: int | None = None) -> dict[str, Any]:
    """Return what a snapshot holds: totals by split and label, columns, files."""
    snapshot = read_snapshot(root, number)
    files: dict[str, int] = {}
    columns: list[str] = []
    for key in snapshot.commits:
        for output in read_commit(root, key).outputs:
            if output.format == "manifest":
                continue
            files[output.format] = files.get(output.format, 0) + 1
            if output.format == "parquet" and not columns:
                with contextlib.closing(root.open_read(output.path)) as stream:
                    columns = [f"{f.name}: {f.type}" for f in pq.ParquetFile(stream).schema_arrow]
    labels = {
        label: {"clips": n, "seconds": round(snapshot.seconds.by_label.get(label, 0.0), 3)}
        for label, n in sorted(snapshot.seconds.clips_by_label.items())
    }
    return {
        "root": root.uri(""),
        "name": snapshot.name,
        "snapshot": snapshot.number,
        "snapshots": snapshot_numbers(root),
        "created": snapshot.created,
        "clips": snapshot.counts.clips_kept,
        "seconds": round(snapshot.seconds.kept_s, 3),
        "bytes": snapshot.bytes_stored,
        "splits": snapshot.by_split,
        "labels": labels,
        "fields": snapshot.fields,
        "files": files,
        "columns": columns,
        "counts": asdict(snapshot.counts),
        "recordings_listed": snapshot.recordings_listed,
        "recordings_without_annotations": snapshot.recordings_without_annotations,
        "manifest": root.uri(f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/manifest.parquet"),
    }


def clip_rows(root: Root, number: int | None, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of a snapshot's manifest."""
    snapshot = read_snapshot(root, number)
    with contextlib.closing(root.open_read(f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/manifest.parquet")) as stream:
        batch = next(pq.ParquetFile(stream).iter_batches(batch_size=max(1, limit)), None)
        rows: list[dict[str, Any]] = batch.to_pylist() if batch is not None else []
        return rows[:limit]


def status(root: Root) -> dict[str, Any]:
    """Return how far the last build is, and what is published."""
    numbers = snapshot_numbers(root)
    found: dict[str, Any] = {"root": root.uri(""), "snapshots": numbers, "build": None}
    if numbers:
        last = read_snapshot(root)
        found["published"] = {
            "snapshot": last.number, "created": last.created, "clips": last.counts.clips_kept,
            "seconds": round(last.seconds.kept_s, 3), "shards": len(last.commits),
        }  # fmt: skip
    if root.exists(BUILD_FILE):
        note = json.loads(root.read_bytes(BUILD_FILE))
        there = committed_keys(root)
        n_there = sum(key in there for key in note["keys"])
        found["build"] = {
            "started": note["at"],
            "host": note["host"],
            "pid": note["pid"],
            "finished": note["finished"],
            "running": None
            if note["host"] != socket.gethostname()
            else not note["finished"] and _is_running(note["pid"]),
            "shards_planned": len(note["keys"]),
            "shards_committed": n_there,
            "recordings_listed": note["recordings"],
        }
    return found


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def failures(root: Root, number: int | None = None) -> dict[str, Any]:
    """Return a snapshot's rejections by reason, with examples and what to do about each."""
    snapshot = read_snapshot(root, number)
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    with contextlib.closing(
        root.open_read(f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/rejections.parquet")
    ) as stream:
        for batch in pq.ParquetFile(stream).iter_batches():
            for row in batch.to_pylist():
                group = groups.setdefault((row["reason"], row["kind"]), {"count": 0, "examples": []})
                group["count"] += 1
                if len(group["examples"]) < _N_EXAMPLES:
                    group["examples"].append(row)
    found = []
    for (code, kind), group in sorted(groups.items(), key=lambda g: (-g[1]["count"], g[0])):
        reason = REASONS.get(code)
        found.append(
            {
                "reason": code,
                "kind": kind,
                "count": group["count"],
                "meaning": reason.meaning if reason else "",
                "remedy": reason.remedy if reason else "",
                "examples": group["examples"],
            }
        )
    return {
        "snapshot": snapshot.number,
        "rejected": sum(g["count"] for g in found),
        "reasons": found,
        "dropped": snapshot.counts.dropped,
    }
