"""Survey: where under a root recordings are that are to be forgotten, and what goes with them."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.gc import Garbage, find_beside
from clipmill.pipelines.dataset.near_recordings import no_such_recordings
from clipmill.pipelines.dataset.notes import unfinished_forget
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_commit,
    read_forgotten,
    read_retries,
    read_snapshot,
    snapshot_numbers,
)
from clipmill.pipelines.dataset.traces import Names, Needles, origin_of
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.layout import REJECTED_FILE, SNAPSHOTS, commit_path, snapshot_name
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.root import Root

_AT_ONCE = 16
_KEY = re.compile(r"[0-9a-f]{64}")
_CONTENT = re.compile(r"(sha256|etag)-")
_NAMING = ["recording_id", "source", "source_uri", "detail"]
REDACTED = "[forgotten]"


@dataclass
class Survey:
    """What is to be forgotten and where it is.

    recordings : ids, as they stand in the dataset
    absent : ids that were given and of which nothing is here
    shards : that hold one of the recordings, by key; unreadable : of which nothing can be said, and which no snapshot names
    holding : numbers of the snapshots that hold or name one
    last : the newest snapshot if it is one of these, of which another one is to be made
    untouched : keys of its shards that stay as they are
    names : to search for
    garbage : what goes
    twins : other recordings of the same content, by the id of the one that goes
    n_retries : entries of `retries.json` that go
    cut_off : when a `forget` began that was not finished, as text
    """

    forgotten: Forgotten
    recordings: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    shards: dict[str, Commit] = field(default_factory=dict)
    holding: list[int] = field(default_factory=list)
    last: Snapshot | None = None
    untouched: list[str] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    garbage: Garbage = field(default_factory=Garbage)
    twins: dict[str, list[str]] = field(default_factory=dict)
    n_retries: int = 0
    unreadable: set[str] = field(default_factory=set)
    cut_off: str = ""

    @property
    def barred(self) -> set[str]:
        """Keys of shards that are not held for a build that was interrupted."""
        return {*self.shards, *self.unreadable}

    @property
    def is_anything(self) -> bool:
        """Whether there is something to do."""
        new = any(not self.forgotten.holds(r) for r in (*self.recordings, *self.absent))
        return bool(self.cut_off or new or self.recordings or list(self.garbage.paths) or self.garbage.retries)

    def to_dict(self) -> dict[str, Any]:
        return {
            "recordings": self.recordings,
            "absent": self.absent,
            "twins": self.twins,
            "snapshots": self.holding,
            "publishes": self.last is not None,
            "shards": len(self.shards),
            "retries": self.n_retries,
            "files": len(list(self.garbage.paths)),
            "size_bytes": self.garbage.size_bytes,
            "exports": sorted(self.garbage.exports),
        }


class _Tables:
    """The small tables under a root that say which recordings its shards have."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.commits: dict[str, Commit] = {}
        self.unreadable: dict[str, str] = {}  # by key, why
        keys = sorted(k for k in committed_keys(root) if _KEY.fullmatch(k))
        with ThreadPoolExecutor(1 if root.is_local else _AT_ONCE) as pool:
            read = list(pool.map(self._read, keys))
        self.recordings = {key: table for key, table in zip(keys, read, strict=True) if table is not None}

    def _read(self, key: str) -> pa.Table | None:
        try:
            commit = read_commit(self._root, key)
            output = commit.output("recordings", "manifest")
            if output is None:
                raise ClipmillError("it has no manifest")
            columns = ["recording_id", "version"] if output.format == "recordings" else ["recording_id"]
            with legible(self._root, output.path), contextlib.closing(self._root.open_read(output.path)) as stream:
                table = pq.read_table(stream, columns=columns)
        except StorageError:
            raise
        except ClipmillError as error:
            self.unreadable[key] = str(error)
            return None
        self.commits[key] = commit
        return table

    @property
    def ids(self) -> set[str]:
        found: set[str] = set()
        for key, table in self.recordings.items():
            found.update(table["recording_id"].unique().to_pylist())
            found.update(r["recording_id"] for r in self.commits[key].rejections if r["recording_id"])
        return found

    def holding(self, recordings: Sequence[str]) -> dict[str, Commit]:
        wanted, known = pa.array(recordings, pa.string()), set(recordings)
        return {
            key: self.commits[key]
            for key, table in self.recordings.items()
            if pc.any(pc.is_in(table["recording_id"], wanted)).as_py()
            or any(r["recording_id"] in known for r in self.commits[key].rejections)
        }

    def twins(self, recordings: Sequence[str]) -> dict[str, list[str]]:
        """Return other recordings of the same version, where that tells the content."""
        by_version: dict[str, set[str]] = defaultdict(set)
        for table in self.recordings.values():
            if "version" in table.column_names:
                for row in table.to_pylist():
                    if row["version"] and _CONTENT.match(row["version"]):
                        by_version[row["version"]].add(row["recording_id"])
        found: dict[str, set[str]] = defaultdict(set)
        going = set(recordings)
        for same in by_version.values():
            for recording in same & going:
                found[recording] |= same - going
        return {recording: sorted(others) for recording, others in sorted(found.items()) if others}


def rejection_rows(root: Root, number: int) -> list[dict[str, Any]]:
    """Return the rows of a snapshot's rejections; none when the file is lost."""
    return _rows(root, _rejections_path(number))


def _rejections_path(number: int) -> str:
    return f"{SNAPSHOTS}/{snapshot_name(number)}/rejections.parquet"


def _rows(root: Root, path: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    try:
        content = root.read_bytes(path)  # whole: a stream of a store says only when it is read that there is no file
    except FileNotFoundError:
        return []
    with legible(root, path):
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(content), columns=columns).to_pylist()
    return rows


def survey(root: Root, given: Sequence[str], also_unknown: bool = False) -> Survey:
    """Find recordings under a root, and what goes when they are forgotten. What was forgotten before and is still here, or here again, is
    found with them.

    given : ids; none: only what was forgotten before
    also_unknown : take ids of which nothing is here too, so that no build brings them in

    Raises
    ------
    ConfigError : an id is of no recording here
    ClipmillError : a record or a table that a snapshot names cannot be read
    """
    forgotten = read_forgotten(root)
    tables = _Tables(root)
    snapshots = {n: read_snapshot(root, n) for n in snapshot_numbers(root)}
    for number, snapshot in snapshots.items():
        if lost := [key for key in snapshot.commits if key not in tables.commits]:
            raise ClipmillError(
                f"nothing can be said of the recordings of {len(lost)} of {len(snapshot.commits)} shards of snapshot {number}, nothing was"
                f" done: {tables.unreadable.get(lost[0]) or f'{root.uri(commit_path(lost[0]))}: the commit record is missing'}; or"
                f" `clipmill gc {root.url} --keep 1 --delete` drops older snapshots",
                code="root.damaged",
            )
    rejections = {n: _rows(root, _rejections_path(n), _NAMING) for n in snapshots}
    held_back = _rows(root, REJECTED_FILE, _NAMING)
    known = tables.ids | {
        r["recording_id"] for rows in (*rejections.values(), held_back) for r in rows if r["recording_id"]
    }
    begun = unfinished_forget(root)
    found = Survey(forgotten, unreadable=set(tables.unreadable), cut_off=begun[0] if begun else "")
    naming = [*(r for rows in rejections.values() for r in rows), *held_back]
    unknown = _choose(found, given, known, also_unknown)
    if unknown:
        raise no_such_recordings(root, unknown, known, lambda near: _addresses(root, tables, naming, near))
    _name(root, found, tables, naming, known)
    needles = Needles(found.names)
    stray = strays_of(found.recordings)
    for number, snapshot in snapshots.items():
        rows = rejections[number]
        if (
            found.shards.keys() & set(snapshot.commits)
            or any(r["recording_id"] in found.recordings or stray(r) for r in rows)
            or redacted(snapshot.config, found.recordings, found.names.uris) != snapshot.config
            or needles.find(snapshot.to_json()) is not None
        ):
            found.holding.append(number)
    numbers = list(snapshots)
    if numbers and numbers[-1] in found.holding:
        found.last = snapshots[numbers[-1]]
        found.untouched = [key for key in found.last.commits if key not in found.shards]
    found.twins = tables.twins(found.recordings)
    found.n_retries = sum(is_of(item, found.recordings) for item in read_retries(root))
    kept = [n for n in numbers if n not in found.holding]
    found.garbage = find_beside(root, kept, found.barred, found.untouched)
    if needles_in_rows(held_back, found.recordings, needles):
        found.garbage.notes[REJECTED_FILE] = root.size(REJECTED_FILE)
    return found


def needles_in_rows(rows: list[dict[str, Any]], recordings: Iterable[str], needles: Needles) -> bool:
    """Return whether rejections name one of the recordings."""
    known = set(recordings)
    return any(r["recording_id"] in known or needles.names_one(r["detail"] or "") for r in rows)


def _choose(found: Survey, given: Sequence[str], known: set[str], also_unknown: bool) -> list[str]:
    """Find the ids that are meant: as given, or in another normal form, or forgotten before. Return those that are of nothing here."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for recording in known:
        by_name[_plain(recording)].append(recording)
    chosen = {recording for recording in known if found.forgotten.holds(recording)}
    unknown: list[str] = []
    for recording in dict.fromkeys(given):
        if same := by_name.get(_plain(recording)):
            chosen.update(same)
        elif found.forgotten.holds(recording) or (also_unknown and "/" in recording):
            found.absent.append(recording)
        else:
            unknown.append(recording)
    found.recordings = sorted(chosen)
    return unknown


def _plain(recording: str) -> str:
    return recording if recording.isascii() else unicodedata.normalize("NFC", recording)


def _addresses(
    root: Root, tables: _Tables, rejections: list[dict[str, Any]], recordings: Sequence[str]
) -> dict[str, set[str]]:
    """Return under which addresses recordings were read."""
    found: dict[str, set[str]] = defaultdict(set)
    for commit in tables.holding(recordings).values():
        for row in (*_rows_of_manifest(root, commit, recordings), *commit.rejections):
            found[row["recording_id"]].add(row["source_uri"])
    for row in rejections:
        found[row["recording_id"]].add(row["source_uri"])
    return found


def _rows_of_manifest(root: Root, commit: Commit, recordings: Sequence[str]) -> list[dict[str, Any]]:
    """Return the clips of recordings in a shard."""
    if (output := commit.output("manifest")) is None:
        return []
    with legible(root, output.path), contextlib.closing(root.open_read(output.path)) as stream:
        clips = pq.read_table(stream, columns=["clip_id", "recording_id", "source_uri"])
    rows: list[dict[str, Any]] = clips.filter(
        pc.is_in(clips["recording_id"], pa.array(recordings, pa.string()))
    ).to_pylist()
    return rows


def _name(root: Root, found: Survey, tables: _Tables, rejections: list[dict[str, Any]], known: set[str]) -> None:
    """Collect all that the recordings are called, and the shards that hold them."""
    names, going = found.names, set(found.recordings)
    names.ids = going | set(found.absent)
    names.origins = {origin_of(recording) for recording in names.ids}
    found.shards = tables.holding(found.recordings)
    for commit in found.shards.values():
        names.uris |= {r["source_uri"] for r in commit.rejections if r["recording_id"] in going and r["source_uri"]}
        clips = _rows_of_manifest(root, commit, found.recordings)
        names.uris.update(row["source_uri"] for row in clips)
        origins = (re.search(r"-([0-9a-f]{12})-\d+(-c\d+)?$", row["clip_id"]) for row in clips)
        names.origins |= {match[1] for match in origins if match}
    names.uris |= {r["source_uri"] for r in rejections if r["recording_id"] in going and r["source_uri"]}
    others = "\n".join(sorted(known - names.ids))
    for recording in names.ids:
        if recording in others:
            names.others |= {line for line in others.split("\n") if recording in line}
    for uri in names.uris:
        for recording in names.ids:
            path = recording.partition("/")[2]
            if uri.endswith(path):
                names.others |= {uri[: -len(path)] + o.partition("/")[2] for o in names.others if uri[: -len(path)]}


def is_of(item: str, recordings: Iterable[str]) -> bool:
    """Return whether an item's id is that of a recording, or of a part of it."""
    return item in recordings or re.sub(r"(@\w+|#\d+)$", "", item) in recordings


def strays_of(recordings: Iterable[str]) -> Any:
    """Return what tells whether a rejection is of a table's row that names one of the recordings, which is not in its source any more."""
    forgotten = Forgotten().with_more(recordings)

    def is_one(row: dict[str, Any]) -> bool:
        if row["recording_id"] is not None or not forgotten:
            return False
        quoted = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", row["detail"] or "")
        return any(forgotten.names_one(row["source"], a or b) for a, b in quoted)

    return is_one


def redacted(value: Any, recordings: Iterable[str], uris: Iterable[str]) -> Any:
    """Return a configuration in which recordings are not named: by id, path or address, as in an `exclude`."""
    texts = {*recordings, *uris, *(r.partition("/")[2] for r in recordings)} - {""}
    if not texts:
        return value
    alternatives = "|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])(?:{alternatives})(?![\w/-])")
    return _redacted(value, pattern)


def _redacted(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(REDACTED, value)
    if isinstance(value, dict):
        return {_redacted(k, pattern): _redacted(v, pattern) for k, v in value.items()}
    if isinstance(value, list):
        return [_redacted(v, pattern) for v in value]
    return value
