"""Find out where in a dataset the recordings to be forgotten are, and what must be removed with them."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.gc import Garbage, find_garbage_beyond
from clipmill.pipelines.dataset.kept_parts import kept_files
from clipmill.pipelines.dataset.near_recordings import unknown_recordings_error
from clipmill.pipelines.dataset.notes import unfinished_forget
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_commit,
    read_forgotten,
    read_snapshot,
    snapshot_numbers,
)
from clipmill.pipelines.dataset.traces import Names, Needles, origins_of
from clipmill.pipelines.dataset.tries import read_retries
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.layout import REJECTED_FILE, SNAPSHOTS, commit_path, snapshot_name
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.checked import read_checked
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root

_AT_ONCE = 16
_KEY = re.compile(r"[0-9a-f]{64}")
_CONTENT = re.compile(r"(sha256|etag)-")
_NAME_COLUMNS = ["recording_id", "source", "source_uri", "detail"]
REDACTED = "[forgotten]"


@dataclass
class Survey:
    """What `forget` will remove, and where it is.

    recordings : ids of the recordings, as the dataset spells them
    absent : requested ids that are not in the dataset
    shards : commits of shards that hold one of the recordings, by key
    unreadable : keys of shards that cannot be read, which no snapshot names
    holding : numbers of the snapshots that hold or name one of the recordings
    last : the newest snapshot if it is one of these, and so must be replaced
    untouched : keys of its shards that stay as they are
    names : what to search for
    garbage : files that will be removed
    twins : ids of other recordings with the same content, by the id of the forgotten one
    n_retries : number of entries of `retries.json` that will be removed
    cut_off : when an unfinished `forget` began, as text; empty if there is none
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
    def excluded(self) -> set[str]:
        """Keys of shards that are removed even if an interrupted build could still use them."""
        return {*self.shards, *self.unreadable}

    @property
    def is_new(self) -> bool:
        """Whether there is something to forget that was not forgotten, or not completely."""
        return bool(self.cut_off or self.recordings or any(not self.forgotten.holds(r) for r in self.absent))

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
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
    """The small tables under a root that list the recordings of its shards."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.commits: dict[str, Commit] = {}
        self.unreadable: dict[str, str] = {}  # the reason, by key
        keys = sorted(k for k in committed_keys(root) if _KEY.fullmatch(k))
        with ThreadPoolExecutor(1 if root.is_local else _AT_ONCE) as pool:
            read = list(pool.map(self._read, keys))
        self.recordings = {key: table for key, table in zip(keys, read, strict=True) if table is not None}

    def _read(self, key: str) -> pa.Table | None:
        try:
            commit = read_commit(self._root, key)
            output = commit.output("recordings", "manifest")
            if output is None:
                raise ClipmillError(f"{self._root.uri(commit_path(key))}: the commit record names no manifest")
            columns = ["recording_id", "version"] if output.format == "recordings" else ["recording_id"]
            with legible(self._root, output.path):
                table = read_parquet(read_checked(self._root, output), columns)
        except StorageError:
            raise
        except ClipmillError as error:
            self.unreadable[key] = str(error)
            return None
        self.commits[key] = commit
        return table

    @property
    def ids(self) -> set[str]:
        """Ids of all recordings, used or rejected."""
        ids: set[str] = set()
        for key, table in self.recordings.items():
            ids.update(table["recording_id"].unique().to_pylist())
            ids.update(r["recording_id"] for r in self.commits[key].rejections if r["recording_id"])
        return ids

    def holding(self, recordings: Sequence[str]) -> dict[str, Commit]:
        """Return the commits of shards that hold or reject one of the recordings, by key."""
        wanted, wanted_ids = pa.array(recordings, pa.string()), set(recordings)
        return {
            key: self.commits[key]
            for key, table in self.recordings.items()
            if pc.any(pc.is_in(table["recording_id"], wanted)).as_py()
            or any(r["recording_id"] in wanted_ids for r in self.commits[key].rejections)
        }

    def twins(self, recordings: Sequence[str]) -> dict[str, list[str]]:
        """Return other recordings of the same version, if the version identifies the content."""
        by_version: dict[str, set[str]] = defaultdict(set)
        for table in self.recordings.values():
            if "version" in table.column_names:
                for row in table.to_pylist():
                    if row["version"] and _CONTENT.match(row["version"]):
                        by_version[row["version"]].add(row["recording_id"])
        twins: dict[str, set[str]] = defaultdict(set)
        forgotten = set(recordings)
        for same in by_version.values():
            for recording in same & forgotten:
                twins[recording] |= same - forgotten
        return {recording: sorted(others) for recording, others in sorted(twins.items()) if others}


def _rejections(root: Root, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return rows of a snapshot's rejections, at least those of its plan; those of its shards are in the shards' records."""
    name = "rejections" if "rejections" in snapshot.files or not snapshot.files else "left_out"
    return _rows(root, f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/{name}.parquet", _NAME_COLUMNS)


def _rows(root: Root, path: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    try:
        content = root.read_bytes(path)  # not a stream: that of a store reports a missing file only when it is read
    except FileNotFoundError:
        return []
    with legible(root, path):
        rows: list[dict[str, Any]] = read_parquet(pa.BufferReader(content), columns).to_pylist()
    return rows


def survey(root: Root, ids: Sequence[str], also_unknown: bool = False) -> Survey:
    """Find recordings under a root, and what must be removed to forget them.

    Recordings that were forgotten before and are still, or again, in the dataset are always included.

    ids : of recordings; if empty, only what was forgotten before
    also_unknown : accept ids that are not in the dataset, so that no build adds them

    Raises
    ------
    ConfigError : an id does not belong to a recording of this dataset
    ClipmillError : a record or table that a snapshot names cannot be read
    """
    forgotten = read_forgotten(root)
    tables = _Tables(root)
    snapshots = {n: read_snapshot(root, n) for n in snapshot_numbers(root)}
    for number, snapshot in snapshots.items():
        if lost := [key for key in snapshot.commits if key not in tables.commits]:
            raise ClipmillError(
                f"the recordings of {len(lost)} of {counted(len(snapshot.commits), 'shard')} of snapshot {number} cannot be determined; nothing"
                f" was changed: {tables.unreadable.get(lost[0]) or f'{root.uri(commit_path(lost[0]))}: the commit record is missing'}; or"
                f" `clipmill gc {root.url} --keep 1 --delete` removes older snapshots",
                code="root.damaged",
            )
    rejections = {n: _rejections(root, snapshot) for n, snapshot in snapshots.items()}
    unpublished = _rows(root, REJECTED_FILE, _NAME_COLUMNS)
    known = tables.ids | {
        r["recording_id"] for rows in (*rejections.values(), unpublished) for r in rows if r["recording_id"]
    }
    unfinished = unfinished_forget(root)
    result = Survey(forgotten, unreadable=set(tables.unreadable), cut_off=unfinished[0] if unfinished else "")
    all_rejections = [*(r for rows in rejections.values() for r in rows), *unpublished]
    unknown = _match_ids(result, ids, known, also_unknown)
    if unknown:
        raise unknown_recordings_error(
            root, unknown, known, lambda near: _addresses(root, tables, all_rejections, near)
        )
    _collect_names(root, result, tables, all_rejections, known)
    needles = Needles(result.names)
    is_stray = stray_matcher(result.recordings)
    for number, snapshot in snapshots.items():
        rows = rejections[number]
        if (
            result.shards.keys() & set(snapshot.commits)
            or any(r["recording_id"] in result.recordings or is_stray(r) for r in rows)
            or redact(snapshot.config, result.recordings, result.names.uris) != snapshot.config
            or needles.find(snapshot.to_json()) is not None
        ):
            result.holding.append(number)
    numbers = list(snapshots)
    if numbers and numbers[-1] in result.holding:
        result.last = snapshots[numbers[-1]]
        result.untouched = [key for key in result.last.commits if key not in result.shards]
    result.twins = tables.twins(result.recordings)
    result.n_retries = sum(is_item_of(item, result.recordings) for item in read_retries(root))
    kept = [n for n in numbers if n not in result.holding]
    result.garbage = find_garbage_beyond(root, kept, result.excluded, result.untouched)
    if result.is_new:
        result.garbage.annotations = kept_files(root)
    if name_any(unpublished, result.recordings, needles):
        result.garbage.notes[REJECTED_FILE] = root.size(REJECTED_FILE)
    return result


def name_any(rows: list[dict[str, Any]], recordings: Iterable[str], needles: Needles) -> bool:
    """Return whether one of the rejections names one of the recordings."""
    ids = set(recordings)
    return any(r["recording_id"] in ids or needles.is_in_text(r["detail"] or "") for r in rows)


def _match_ids(result: Survey, ids: Sequence[str], known: set[str], also_unknown: bool) -> list[str]:
    """Find the recordings that ids name, in any Unicode normal form, and those forgotten before. Return the ids that match nothing."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for recording in known:
        by_name[_plain(recording)].append(recording)
    chosen = {recording for recording in known if result.forgotten.holds(recording)}
    unknown: list[str] = []
    for recording in dict.fromkeys(ids):
        if same := by_name.get(_plain(recording)):
            chosen.update(same)
        elif result.forgotten.holds(recording) or (also_unknown and "/" in recording):
            result.absent.append(recording)
        else:
            unknown.append(recording)
    result.recordings = sorted(chosen)
    return unknown


def _plain(recording: str) -> str:
    return recording if recording.isascii() else unicodedata.normalize("NFC", recording)


def _addresses(
    root: Root, tables: _Tables, rejections: list[dict[str, Any]], recordings: Sequence[str]
) -> dict[str, set[str]]:
    """Return the addresses that recordings were read from, by id."""
    addresses: dict[str, set[str]] = defaultdict(set)
    for commit in tables.holding(recordings).values():
        for row in (*_rows_of_manifest(root, commit, recordings), *commit.rejections):
            addresses[row["recording_id"]].add(row["source_uri"])
    for row in rejections:
        addresses[row["recording_id"]].add(row["source_uri"])
    return addresses


def _rows_of_manifest(root: Root, commit: Commit, recordings: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a shard's manifest for clips of these recordings: clip_id, recording_id, source_uri."""
    if (output := commit.output("manifest")) is None:
        return []
    with legible(root, output.path):
        clips = read_parquet(read_checked(root, output), ["clip_id", "recording_id", "source_uri"])
    rows: list[dict[str, Any]] = clips.filter(
        pc.is_in(clips["recording_id"], pa.array(recordings, pa.string()))
    ).to_pylist()
    return rows


def _collect_names(
    root: Root, result: Survey, tables: _Tables, rejections: list[dict[str, Any]], known: set[str]
) -> None:
    """Collect all names of the recordings, and the shards that hold them."""
    names, ids = result.names, set(result.recordings)
    names.ids = ids | set(result.absent)
    names.origins = {origin for recording in names.ids for origin in origins_of(recording)}
    result.shards = tables.holding(result.recordings)
    for commit in result.shards.values():
        names.uris |= {r["source_uri"] for r in commit.rejections if r["recording_id"] in ids and r["source_uri"]}
        clips = _rows_of_manifest(root, commit, result.recordings)
        names.uris.update(row["source_uri"] for row in clips)
        origins = (re.search(r"-([0-9a-f]{12}|[0-9a-f]{32})-\d+(-c\d+)?$", row["clip_id"]) for row in clips)
        names.origins |= {match[1] for match in origins if match}
    names.uris |= {r["source_uri"] for r in rejections if r["recording_id"] in ids and r["source_uri"]}
    others = "\n".join(sorted(known - names.ids))
    for recording in names.ids:
        if recording in others:
            names.others |= {line for line in others.split("\n") if recording in line}
    for uri in names.uris:
        for recording in names.ids:
            path = recording.partition("/")[2]
            if uri.endswith(path):
                names.others |= {uri[: -len(path)] + o.partition("/")[2] for o in names.others if uri[: -len(path)]}


def is_item_of(item: str, recordings: Iterable[str]) -> bool:
    """Return whether an item's id is that of one of the recordings, or of a part of one."""
    return item in recordings or re.sub(r"(@\w+|#\d+)$", "", item) in recordings


def stray_matcher(recordings: Iterable[str]) -> Callable[[dict[str, Any]], bool]:
    """Return a function that says whether a rejection belongs to a table's row for a recording that is no longer in its source."""
    forgotten = Forgotten().with_more(recordings)

    def is_stray(row: dict[str, Any]) -> bool:
        if row["recording_id"] is not None or not forgotten:
            return False
        quoted = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", row["detail"] or "")
        return any(forgotten.names_one(row["source"], a or b) for a, b in quoted)

    return is_stray


def redact(value: Any, recordings: Iterable[str], uris: Iterable[str]) -> Any:
    """Return a configuration with the ids, paths and addresses of recordings replaced, as those in an `exclude`."""
    texts = {*recordings, *uris, *(r.partition("/")[2] for r in recordings)} - {""}
    if not texts:
        return value
    alternatives = "|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])(?:{alternatives})(?![\w/-])")
    return _redact(value, pattern)


def _redact(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(REDACTED, value)
    if isinstance(value, dict):
        return {_redact(k, pattern): _redact(v, pattern) for k, v in value.items()}
    if isinstance(value, list):
        return [_redact(v, pattern) for v in value]
    return value
