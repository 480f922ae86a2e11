"""Inspect: what a dataset holds, how far a build is, what was rejected and why."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.notes import Note, read_notes, unfinished_forget
from clipmill.pipelines.dataset.outcomes import count_remarked, remarks_of
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_commit,
    read_snapshot,
    snapshot_numbers,
    sound_commits,
)
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.layout import REJECTED_FILE, SNAPSHOTS, snapshot_name
from clipmill.schemas.records import Commit, Snapshot
from clipmill.schemas.remarks import REMARKS
from clipmill.schemas.statistics import LENGTH_EDGES_S, Statistics
from clipmill.stages.storage.failures import repair_hint
from clipmill.stages.storage.root import Root

_LOOKED_AT = 16


def show(root: Root, number: int | None = None) -> dict[str, Any]:
    """Return what a snapshot holds: totals by split and label, classes in the order of their ids, columns, files."""
    snapshot = read_snapshot(root, number)
    files: dict[str, int] = {}
    for key in snapshot.commits:
        for output in read_commit(root, key).outputs:
            if output.format in ("parquet", "webdataset"):
                files[output.format] = files.get(output.format, 0) + 1
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
        "accepted": snapshot.accepted,
        "clips": snapshot.counts.clips_kept,
        "seconds": round(snapshot.seconds.kept_s, 3),
        "bytes": snapshot.bytes_stored,
        "splits": snapshot.by_split,
        "labels": labels,
        "labels_by_split": snapshot.labels,
        "statistics": {split: _told(s) for split, s in sorted(snapshot.statistics.items())},
        "saturation": describe_saturation(snapshot),
        "fields": snapshot.fields,
        "files": files,
        "columns": Published(root, snapshot).columns,
        "classes": Published(root, snapshot).classes,
        "counts": asdict(snapshot.counts),
        "recordings_listed": snapshot.recordings_listed,
        "recordings_without_annotations": snapshot.recordings_without_annotations,
        "recordings_forgotten": snapshot.recordings_forgotten,
        "manifest": root.uri(f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/manifest.parquet"),
    }


def describe_saturation(snapshot: Snapshot) -> dict[str, Any]:
    """Return how much of the clips is at full scale, by source, and of how many clips it is not known."""
    sources = {source: {**asdict(sums), "share": sums.share} for source, sums in snapshot.saturation.items()}
    return {"sources": sources, "clips_unknown": snapshot.clips_of_unknown_saturation}


def _told(statistics: Statistics) -> dict[str, Any]:
    lengths = statistics.lengths
    return {
        "clips": lengths.clips,
        "lengths": {
            "min_s": lengths.min_s,
            "max_s": lengths.max_s,
            "mean_s": lengths.mean_s if lengths.clips else None,
            "std_s": lengths.std_s if lengths.clips else None,
            "edges_s": list(LENGTH_EDGES_S),
            "histogram": lengths.histogram,
        },
        "features": {
            name: {
                "values": sums.n * len(sums.total),
                "mean": finite(sums.mean),
                "std": finite(sums.std),
                "mean_by_bin": [finite(v) for v in sums.mean_by_bin],
                "std_by_bin": [finite(v) for v in sums.std_by_bin],
            }
            for name, sums in statistics.features.items()
            if sums.n
        },
    }


def finite(value: float) -> float | None:
    """Return a number that JSON has; None for the level of digital silence, and statistics of infinite values."""
    return value if math.isfinite(value) else None


def clip_rows(root: Root, number: int | None, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of a snapshot's manifest."""
    snapshot = read_snapshot(root, number)
    path = f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/manifest.parquet"
    with legible(root, path), contextlib.closing(root.open_read(path)) as stream:
        batch = next(pq.ParquetFile(stream).iter_batches(batch_size=max(1, limit)), None)
        rows: list[dict[str, Any]] = batch.to_pylist() if batch is not None else []
        return rows[:limit]


def status(root: Root) -> dict[str, Any]:
    """Return what is published, and how far the builds are that run, were interrupted, or ended last."""
    numbers = snapshot_numbers(root)
    there = committed_keys(root)
    found: dict[str, Any] = {"root": root.uri(""), "snapshots": numbers, "published": None}
    if numbers:
        last = read_snapshot(root)
        found["published"] = {
            "snapshot": last.number, "created": last.created, "clips": last.counts.clips_kept,
            "seconds": round(last.seconds.kept_s, 3), "shards": len(last.commits), "accepted": last.accepted,
        }  # fmt: skip
        found["published"]["damage"] = _damage(root, last, there)
    forget = unfinished_forget(root)
    found["forget"] = {"started": forget[0], "running": forget[1]} if forget is not None else None
    found["builds"] = [_state(note, there) for note in read_notes(root)]
    return found


def _damage(root: Root, last: Snapshot, there: set[str]) -> str | None:
    """Say which records of a snapshot's shards are missing or damaged, of those that are looked at: all names, and a few contents."""
    if missing := [key for key in last.commits if key not in there]:
        return f"{len(missing):,} of {len(last.commits):,} records of its shards are missing: {repair_hint(root.url)}"
    for key in last.commits[:: max(1, len(last.commits) // _LOOKED_AT)]:
        try:
            read_commit(root, key)
        except ClipmillError as error:
            return f"{error}; {repair_hint(root.url)}"
    return None


def _state(note: Note, there: set[str]) -> dict[str, Any]:
    state = note.outcome if note.outcome is not None else "running" if note.is_alive else "interrupted"
    return {
        "state": state,
        "message": note.message,
        "started": note.started,
        "last_sign": note.beat,
        "host": note.host,
        "pid": note.pid,
        "shards_planned": len(note.keys),
        "shards_committed": sum(key in there for key in note.keys),
        "recordings_listed": note.recordings,
        "progress": note.progress,
    }


def failures(root: Root, number: int | None = None, reason: str | None = None, n_examples: int = 3) -> dict[str, Any]:
    """Return what was rejected, by reason, with examples and what to do about each.

    number : of a snapshot; None: the last build, published or not
    reason : only this one, and only this code of remarks
    """
    from clipmill.pipelines.chain import known_reasons  # loads the decoders, which `show` and `status` can do without

    of, dropped, remarked, commits, rows = _rejections(root, number)
    words = _words(root, number)
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if reason is not None and row["reason"] != reason:
            continue
        group = groups.setdefault((row["reason"], row["kind"]), {"count": 0, "examples": []})
        group["count"] += 1
        if len(group["examples"]) < n_examples:
            group["examples"].append(row)
    found = []
    for (code, kind), group in sorted(groups.items(), key=lambda g: (-g[1]["count"], g[0])):
        known = known_reasons().get(code)
        told = words.get(code, [])
        found.append(
            {
                "reason": code,
                "kind": kind,
                "count": group["count"],
                "meaning": known.meaning if known else "".join(told[:1]),
                "remedy": known.remedy if known else "".join(told[1:2]),
                "examples": group["examples"],
            }
        )
    asked = {code: n for code, n in remarked.items() if reason in (None, code)}
    remarks = describe_remarks(asked, commits, n_examples)
    rejected = sum(g["count"] for g in found)
    return {
        "of": of,
        "reason": reason,
        "rejected": rejected,
        "reasons": found,
        "dropped": dropped,
        "remarks": remarks,
        "words": words,
    }


def describe_remarks(
    remarked: Mapping[str, int], commits: Iterable[Commit], n_examples: int = 3
) -> list[dict[str, Any]]:
    """Return what is worth knowing of recordings that were used, by code, with examples and what to do.

    remarked : how many recordings, by code
    """
    found = remarks_of(commits)
    examples = {
        code: [
            {k: v for k, v in row.items() if k != "code"} for row in islice(found.get(code, {}).values(), n_examples)
        ]
        for code in remarked
    }
    return [
        {
            "code": code,
            "count": count,
            "meaning": REMARKS[code].meaning if code in REMARKS else "",
            "remedy": REMARKS[code].remedy if code in REMARKS else "",
            "examples": examples[code],
        }
        for code, count in sorted(remarked.items(), key=lambda item: (-item[1], item[0]))
    ]


_Looked = tuple[str, dict[str, int], dict[str, int], list[Commit], Iterator[dict[str, Any]]]


def _rejections(root: Root, number: int | None) -> _Looked:
    """Return what is looked at, its clips dropped by rule, its remarks by code and the commits that have them, and its rejections."""
    notes = read_notes(root)
    last = notes[-1] if notes and number is None else None
    if last is not None and last.outcome == "not_published" and root.exists(REJECTED_FILE):
        there = _in_order(sound_commits(root, last.keys).values())
        of = f"the build of {last.started}, which was not published"
        return of, {}, count_remarked(there), there, _rows(root, REJECTED_FILE)
    numbers = snapshot_numbers(root)
    if last is not None and not numbers:
        commits = _in_order(sound_commits(root, last.keys).values())
        rows = (row for commit in commits for row in commit.rejections)
        of = f"{len(commits)} of {len(last.keys)} shards of the build of {last.started}, not finished"
        return of, {}, count_remarked(commits), commits, rows
    snapshot: Snapshot = read_snapshot(root, number)
    path = f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/rejections.parquet"
    counts = snapshot.counts
    commits = _in_order(sound_commits(root, snapshot.commits).values()) if counts.remarked else []
    return f"snapshot {snapshot.number}", counts.dropped, counts.remarked, commits, _rows(root, path)


def _words(root: Root, number: int | None) -> dict[str, list[str]]:
    """Return what the snapshot says of rules and reasons of stages of other packages."""
    return read_snapshot(root, number).words if snapshot_numbers(root) else {}


def _in_order(commits: Iterable[Commit]) -> list[Commit]:
    return sorted(commits, key=lambda c: (c.split, c.bucket))


def _rows(root: Root, path: str) -> Iterator[dict[str, Any]]:
    with legible(root, path), contextlib.closing(root.open_read(path)) as stream:
        file = pq.ParquetFile(stream)
        if not {"reason", "kind"} <= set(file.schema_arrow.names):
            raise ValueError("it is not a table of rejections")
        for batch in file.iter_batches():
            yield from batch.to_pylist()
