"""Inspect a dataset: what it holds, how far its builds are, what was rejected and why."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.index_parts import versions_of
from clipmill.pipelines.dataset.leases import Lease, in_iso, read_leases, read_notes
from clipmill.pipelines.dataset.measured import count_notes, distributions, measured_names, note_names
from clipmill.pipelines.dataset.notes import unfinished_forget
from clipmill.pipelines.dataset.outcomes import remarks_by_code
from clipmill.pipelines.dataset.publish import remark_rows
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_commit,
    read_snapshot,
    snapshot_numbers,
    sound_commits,
)
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.layout import EXTENSIONS, REJECTED_FILE
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.schemas.remarks import REMARKS
from clipmill.schemas.statistics import LENGTH_EDGES_S, Statistics
from clipmill.stages.storage.checked import ChangedBytesError
from clipmill.stages.storage.failures import repair_hint
from clipmill.stages.storage.root import Root

_RECORDS_CHECKED = 16


def show(root: Root, number: int | None = None) -> dict[str, Any]:
    """Return what a snapshot holds, as `clipmill show --json` prints it: totals by split and label, classes by id, columns, files.

    Raises
    ------
    ClipmillError : the snapshot does not exist, or one of its records is missing or damaged
    """
    snapshot = read_snapshot(root, number)
    files: dict[str, int] = {}
    published = Published(root, snapshot)
    for part in published.parts:
        for format in (
            pc.list_flatten(part.table("shards", ["outputs"])["outputs"]).combine_chunks().field("format").to_pylist()
        ):
            if format in EXTENSIONS:
                files[format] = files.get(format, 0) + 1
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
        "statistics": {split: _describe_statistics(s) for split, s in sorted(snapshot.statistics.items())},
        "saturation": describe_saturation(snapshot),
        "duplicates": snapshot.duplicates,
        "fields": snapshot.fields,
        "label_lists": snapshot.label_lists,
        "files": files,
        "columns": published.columns,
        "measured": distributions(root, published.parts, measured_names(published.columns)),
        "clip_notes": count_notes(published.parts, note_names(published.columns)),
        "format_version": snapshot.format_version,
        "versions": versions_of(root, published.parts),
        "classes": published.classes,
        "counts": asdict(snapshot.counts),
        "recordings_listed": snapshot.recordings_listed,
        "recordings_without_annotations": snapshot.recordings_without_annotations,
        "recordings_forgotten": snapshot.recordings_forgotten,
        "limited": snapshot.limited,
        "manifest": published.manifest_uri,
    }


def describe_saturation(snapshot: Snapshot) -> dict[str, Any]:
    """Return the share of samples at full scale by source, and the number of clips for which it is unknown."""
    sources = {source: {**asdict(sums), "share": sums.share} for source, sums in snapshot.saturation.items()}
    return {"sources": sources, "clips_unknown": snapshot.clips_of_unknown_saturation}


def _describe_statistics(statistics: Statistics) -> dict[str, Any]:
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
    """Return the number, or None if it is infinite or not a number, which JSON cannot express (e.g. the level of digital silence)."""
    return value if math.isfinite(value) else None


def clip_rows(root: Root, number: int | None, limit: int) -> list[dict[str, Any]]:
    """Return up to `limit` rows from the start of a snapshot's manifest."""
    rows: list[dict[str, Any]] = []
    for part in Published(root, read_snapshot(root, number)).parts:
        if len(rows) < limit:
            rows += part.table("manifest").slice(0, limit - len(rows)).to_pylist()
    return rows


def status(root: Root) -> dict[str, Any]:
    """Return what is published, and how far running, interrupted and recently ended builds are."""
    numbers = snapshot_numbers(root)
    committed = committed_keys(root)
    state: dict[str, Any] = {"root": root.uri(""), "snapshots": numbers, "published": None}
    if numbers:
        last = read_snapshot(root)
        state["published"] = {
            "snapshot": last.number, "created": last.created, "clips": last.counts.clips_kept,
            "seconds": round(last.seconds.kept_s, 3), "shards": len(last.commits), "accepted": last.accepted,
        }  # fmt: skip
        state["published"]["damage"] = _describe_damage(root, last, committed)
    forget = unfinished_forget(root)
    state["forget"] = {"started": forget[0], "running": forget[1]} if forget is not None else None
    state["builds"] = [_describe_build(lease, committed) for lease in read_leases(root)]
    return state


def _describe_damage(root: Root, last: Snapshot, committed: set[str]) -> str | None:
    """Return which commit records of a snapshot are missing or damaged, None if none are. Existence is checked for all, contents for a few."""
    if missing := [key for key in last.commits if key not in committed]:
        is_or_are = "is" if len(missing) == 1 else "are"
        return f"{len(missing):,} of {counted(len(last.commits), 'shard record')} {is_or_are} missing: {repair_hint(root.url)}"
    for key in last.commits[:: max(1, len(last.commits) // _RECORDS_CHECKED)]:
        try:
            read_commit(root, key)
        except ClipmillError as error:
            return f"{error}; {repair_hint(root.url)}"
    return None


def _describe_build(lease: Lease, committed: set[str]) -> dict[str, Any]:
    if (note := lease.note) is None:
        what = "may be running" if lease.is_alive else "has ended; the next build removes the note"
        return {
            "state": "unreadable", "message": f"{lease.path} cannot be read: its build {what}{lease.until if lease.is_alive else ''}",
            "started": in_iso(lease.modified_s), "last_sign": in_iso(lease.modified_s), "host": "", "pid": 0,
            "shards_planned": 0, "shards_committed": 0, "recordings_listed": 0, "progress": "", "numbers": None,
        }  # fmt: skip
    state = note.outcome if note.outcome is not None else "running" if lease.is_alive else "interrupted"
    return {
        "state": state,
        "message": note.message,
        "started": note.started,
        "last_sign": note.beat,
        "host": note.host,
        "pid": note.pid,
        "shards_planned": len(note.keys),
        "shards_committed": sum(key in committed for key in note.keys),
        "recordings_listed": note.recordings,
        "progress": note.progress,
        "numbers": note.numbers or None,
    }


def failures(root: Root, number: int | None = None, reason: str | None = None, n_examples: int = 3) -> dict[str, Any]:
    """Return what was rejected, by reason, each with examples and a remedy; also rules that dropped clips, and remarks.

    number : number of a snapshot; None: the last build, published or not
    reason : return only this reason, or this code of remarks
    n_examples : how many examples of each reason

    Raises
    ------
    ClipmillError : the snapshot does not exist, or its table of rejections is missing or damaged
    """
    from clipmill.pipelines.chain import (
        known_reasons,  # imported here because it loads the decoders, which `show` and `status` do not need
    )

    of, dropped, remarked, remark_rows, rows = _rejections(root, number)
    words = _words(root, number)
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if reason is not None and row["reason"] != reason:
            continue
        group = groups.setdefault((row["reason"], row["kind"]), {"count": 0, "examples": []})
        group["count"] += 1
        if len(group["examples"]) < n_examples:
            group["examples"].append(row)
    reasons = []
    for (code, kind), group in sorted(groups.items(), key=lambda g: (-g[1]["count"], g[0])):
        known = known_reasons().get(code)
        description = words.get(code, [])
        reasons.append(
            {
                "reason": code,
                "kind": kind,
                "count": group["count"],
                "meaning": known.meaning if known else "".join(description[:1]),
                "remedy": known.remedy if known else "".join(description[1:2]),
                "examples": group["examples"],
            }
        )
    counts = {code: n for code, n in remarked.items() if reason in (None, code)}
    remarks = describe_remarks(counts, remark_rows, n_examples)
    rejected = sum(g["count"] for g in reasons)
    return {
        "of": of,
        "reason": reason,
        "rejected": rejected,
        "reasons": reasons,
        "dropped": dropped,
        "remarks": remarks,
        "words": words,
    }


def describe_remarks(
    remarked: Mapping[str, int], remarks: Iterable[dict[str, Any]], n_examples: int = 3
) -> list[dict[str, Any]]:
    """Return the remarks on recordings that were used, by code, each with examples and a remedy, the most frequent first.

    remarked : number of recordings by code
    remarks : rows of them; as many are read as the examples need
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    needed = {code: min(count, n_examples) for code, count in remarked.items()}
    for row in remarks if remarked else ():
        rows.setdefault(row["code"], {}).setdefault(row["recording_id"], row)
        if all(len(rows.get(code, ())) >= n for code, n in needed.items()):
            break
    examples = {
        code: [{k: v for k, v in row.items() if k != "code"} for row in islice(rows.get(code, {}).values(), n_examples)]
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


_Rows = Iterator[dict[str, Any]]


def _rejections(root: Root, number: int | None) -> tuple[str, dict[str, int], dict[str, int], _Rows, _Rows]:
    """Return a name for the build or snapshot, its dropped clips by rule, its remarks by code, the rows of these, its rejections."""
    notes = read_notes(root)
    last = notes[-1] if notes and number is None else None
    if last is not None and last.outcome == "not_published" and root.exists(REJECTED_FILE):
        commits = _in_order(sound_commits(root, last.keys).values())
        of = f"the build of {last.started}, which was not published"
        return of, {}, _count_remarked(commits), _remarks(commits), _rows(root, last.rejections_sha256)
    numbers = snapshot_numbers(root)
    if last is not None and not numbers:
        commits = _in_order(sound_commits(root, last.keys).values())
        rows = (row for commit in commits for row in commit.rejections)
        of = f"{len(commits):,} of {counted(len(last.keys), 'shard')} of the build of {last.started}, not finished"
        return of, {}, _count_remarked(commits), _remarks(commits), rows
    published = Published(root, read_snapshot(root, number))
    counts = published.snapshot.counts
    remarks = remark_rows(published.parts) if counts.remarked else iter(())
    return (
        f"snapshot {published.snapshot.number}",
        counts.dropped,
        counts.remarked,
        remarks,
        published.iter_rejections(),
    )


def _remarks(commits: Iterable[Commit]) -> _Rows:
    return (row for commit in commits for row in commit.remarks)


def _count_remarked(commits: Iterable[Commit]) -> dict[str, int]:
    return {code: len(rows) for code, rows in sorted(remarks_by_code(_remarks(commits)).items())}


def _words(root: Root, number: int | None) -> dict[str, list[str]]:
    """Return meaning and remedy of rules and reasons of other packages' stages, as the snapshot records them; empty without a snapshot."""
    return read_snapshot(root, number).words if snapshot_numbers(root) else {}


def _in_order(commits: Iterable[Commit]) -> list[Commit]:
    return sorted(commits, key=lambda c: (c.split, c.bucket))


def _rows(root: Root, sha256: str) -> Iterator[dict[str, Any]]:
    """Yield what a build rejected that was not published. sha256 : of the file; empty if the build's note is older than this"""
    with legible(root, REJECTED_FILE):
        content = root.read_bytes(REJECTED_FILE)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ChangedBytesError("it does not have the sha256 that the build's note names")
        file = pq.ParquetFile(io.BytesIO(content), pre_buffer=False)
        if not {"reason", "kind"} <= set(file.schema_arrow.names):
            raise ValueError("it is not a table of rejections")
        for batch in file.iter_batches(use_threads=False):
            yield from batch.to_pylist()


_ENOUGH_S = 1.0
"""Seconds of work from which on a build says how fast this machine is."""


def last_rate(root: Root) -> float | None:
    """Return the seconds of audio that the last build decoded in a second of work; None if none did enough to go by."""
    for note in reversed(read_notes(root)):
        try:
            rate, work_s = note.numbers["rates"]["decoded_x_realtime"], note.numbers["seconds"]["work"]
        except (KeyError, TypeError):
            continue
        if isinstance(rate, int | float) and isinstance(work_s, int | float) and rate > 0 and work_s >= _ENOUGH_S:
            return float(rate)
    return None
