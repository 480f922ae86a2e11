"""The files of a dataset: where they are, and the records in them as plain data that survives a round trip.

::

    dataset.json                           format version and name, written once
    shards/<split>/<split>-<bucket>-<key12>.parquet | .tar
    commits/<key>.json                     a shard is there when this is; beside it its part of the manifest,
                                           <key>.manifest.parquet, and its recordings, <key>.recordings.parquet
    builds/<id>.json                       what a build set out to do, and its sign of life; see `pipelines.notes`
    builds/rejections.parquet              of the last build that was not published
    retries.json                           which rejected recordings were tried again, and how often
    snapshots/000001.json                  which shards make up the dataset; appears last
    snapshots/000001/manifest.parquet, rejections.parquet
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.errors import ClipmillError
from schemas.keys import FORMAT_VERSION
from schemas.statistics import Saturation, Statistics, summed_saturation
from schemas.storage import Root

DATASET_FILE = "dataset.json"
BUILDS = "builds"
REJECTED_FILE = f"{BUILDS}/rejections.parquet"
RETRIES_FILE = "retries.json"
COMMITS = "commits"
_RECORDS_AT_ONCE = 16
SNAPSHOTS = "snapshots"
OURS = re.compile(
    r"shards/(\w+)/\1-b[01]*-[0-9a-f]{12}\.(parquet|tar)|commits/[0-9a-f]{64}\.(json|(manifest|recordings)\.parquet)"
    r"|snapshots/\d{6}(\.json|/(manifest|rejections)\.parquet)|builds/rejections\.parquet"
)
"""Names that clipmill gives. What is called otherwise was put there by somebody else, and is not touched."""
_LEFT_OUT_EMPTY = frozenset({"saturation", "remarked", "remarks", "has_channel"})
"""Of what came later to records: an old one that is read and written again stays what it was."""
EXTENSIONS = {"parquet": "parquet", "webdataset": "tar"}


def shard_path(split: str, bucket: str, key: str, extension: str) -> str:
    return f"shards/{split}/{split}-{bucket}-{key[:12]}.{extension}"


def commit_path(key: str) -> str:
    return f"{COMMITS}/{key}.json"


def commit_manifest_path(key: str) -> str:
    return f"{COMMITS}/{key}.manifest.parquet"


def commit_recordings_path(key: str) -> str:
    return f"{COMMITS}/{key}.recordings.parquet"


def snapshot_name(number: int) -> str:
    return f"{number:06d}"


def snapshot_path(number: int) -> str:
    return f"{SNAPSHOTS}/{snapshot_name(number)}.json"


@dataclass(frozen=True)
class Counts:
    """Where everything went. `problems` says what does not add up.

    recordings, annotations, clips : by outcome; spans: parts of long recordings, without the one that the recording counts by
    dropped : clips by rule
    rejected : everything rejected, by reason
    remarked : recordings that were used and of which something is worth knowing, by `schemas.remarks`
    """

    recordings_used: int = 0
    recordings_rejected: int = 0
    spans_rejected: int = 0
    annotations_used: int = 0
    annotations_rejected: int = 0
    clips_candidates: int = 0
    clips_kept: int = 0
    clips_rejected: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    remarked: dict[str, int] = field(default_factory=dict)

    @property
    def clips_dropped(self) -> int:
        return sum(self.dropped.values())

    def problems(self) -> list[str]:
        """Return what does not add up, empty when everything does."""
        found = []
        outcome = self.clips_kept + self.clips_dropped + self.clips_rejected
        if outcome != self.clips_candidates:
            found.append(
                f"{self.clips_candidates} candidate clips, but {self.clips_kept} kept + {self.clips_dropped} dropped"
                f" + {self.clips_rejected} rejected = {outcome}"
            )
        total_rejected = (
            self.recordings_rejected + self.spans_rejected + self.annotations_rejected + self.clips_rejected
        )
        if sum(self.rejected.values()) != total_rejected:
            found.append(f"{total_rejected} rejected, but {sum(self.rejected.values())} by reason")
        return found

    def __add__(self, other: Counts) -> Counts:
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__}
        sums: dict[str, Any] = {n: _sum(a, b) if isinstance(a, dict) else a + b for n, (a, b) in pairs.items()}
        return Counts(**sums)


def _sum(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {k: a.get(k, 0) + b.get(k, 0) for k in sorted(a.keys() | b.keys())}


@dataclass(frozen=True)
class Seconds:
    """Audio time: decoded of recordings, stored in clips, and by label."""

    decoded_s: float = 0.0
    kept_s: float = 0.0
    by_label: dict[str, float] = field(default_factory=dict)
    clips_by_label: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Seconds) -> Seconds:
        labels = sorted(self.by_label.keys() | other.by_label.keys())
        return Seconds(
            decoded_s=self.decoded_s + other.decoded_s,
            kept_s=self.kept_s + other.kept_s,
            by_label={k: self.by_label.get(k, 0.0) + other.by_label.get(k, 0.0) for k in labels},
            clips_by_label=_sum(self.clips_by_label, other.clips_by_label),
        )


@dataclass(frozen=True)
class OutputFile:
    """One file of a shard. format : parquet | webdataset | manifest | recordings; rows : clips in it, or recordings."""

    path: str
    format: str
    sha256: str
    size_bytes: int
    rows: int


@dataclass(frozen=True)
class Commit:
    """The record that makes a shard count. Written after the shard's files.

    clips_key : what its clips are a function of; shards that differ in features or file formats alone share it
    donor : key of the shard whose clips it was made from, None when it was made from recordings
    statistics : of its clips and features; without clips when it was made before there were any
    remarks : {code, source, recording_id, source_uri, detail}, one a code and recording that was used
    """

    key: str
    split: str
    bucket: str
    outputs: list[OutputFile]
    counts: Counts
    seconds: Seconds
    rejections: list[dict[str, Any]]
    versions: dict[str, str]
    device: str
    n_items: int
    clips_key: str = ""
    donor: str | None = None
    statistics: Statistics = field(default_factory=Statistics)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    format_version: int = FORMAT_VERSION

    def output(self, *formats: str) -> OutputFile | None:
        """Return the shard's file of the first of the formats that it has."""
        found = {o.format: o for o in self.outputs}
        return next((found[f] for f in formats if f in found), None)

    def is_whole(self, sizes: Mapping[str, int]) -> bool:
        """Return whether all files are there in their full size. sizes : in bytes, by path, of what is there."""
        return all(sizes.get(o.path) == o.size_bytes for o in self.outputs)

    def to_json(self) -> bytes:
        return _to_json(self)

    @classmethod
    def from_json(cls, content: bytes, name: str) -> Commit:
        """Read a record. Raises ClipmillError with `name` when it is not one."""
        try:
            plain = json.loads(content)
            return cls(
                **{
                    **plain,
                    "outputs": [OutputFile(**o) for o in plain["outputs"]],
                    "counts": Counts(**plain["counts"]),
                    "seconds": Seconds(**plain["seconds"]),
                    "statistics": Statistics.from_plain(plain["statistics"]) if "statistics" in plain else Statistics(),
                }
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ClipmillError(f"{name}: not a commit record: {error}") from None


@dataclass(frozen=True)
class Snapshot:
    """One published state of the dataset.

    commits : keys of its shards, sorted
    counts, seconds : sums over the commits; counts include what the plan itself rejected
    recordings_listed, recordings_without_annotations, annotations_read : from the plan
    plan_digest : of what the plan rejected or left out, so that a rebuild can tell whether anything changed
    config : as written by the user, without secrets
    accepted : limits that were exceeded and that the user published over
    files : sha256 of manifest.parquet and rejections.parquet
    labels : clips and seconds by split and label
    statistics : of clips and features by split: sums over the commits
    has_channel : clips have a column `channel`
    """

    number: int
    name: str
    parent: int | None
    created: str
    commits: list[str]
    counts: Counts
    seconds: Seconds
    by_split: dict[str, dict[str, float]]
    recordings_listed: int
    recordings_without_annotations: int
    annotations_read: int
    plan_digest: str
    config: dict[str, Any]
    fields: list[str]
    bytes_stored: int
    accepted: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    has_channel: bool = False
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        return _to_json(self)

    @classmethod
    def from_json(cls, content: bytes, name: str) -> Snapshot:
        try:
            plain = json.loads(content)
            statistics = {split: Statistics.from_plain(s) for split, s in plain.get("statistics", {}).items()}
            sums = {
                "counts": Counts(**plain["counts"]),
                "seconds": Seconds(**plain["seconds"]),
                "statistics": statistics,
            }
            return cls(**{**plain, **sums})
        except (ValueError, TypeError, KeyError) as error:
            raise ClipmillError(
                f"{name}: not a snapshot ({error}); put the file back as it was, or remove it: the next build publishes anew"
            ) from None

    @property
    def saturation(self) -> dict[str, Saturation]:
        """How much of the clips is at full scale, by source."""
        return summed_saturation(self.statistics.values())

    @property
    def clips_of_unknown_saturation(self) -> int:
        return self.counts.clips_kept - sum(sums.clips for sums in self.saturation.values())

    def holds_the_same(self, other: Snapshot) -> bool:
        """Return whether another snapshot has the same shards, and the same left out."""
        return (self.commits, self.plan_digest) == (other.commits, other.plan_digest)

    def problems(self) -> list[str]:
        """Return what does not add up, empty when everything does."""
        found = self.counts.problems()
        c = self.counts
        outcome = c.recordings_used + c.recordings_rejected + self.recordings_without_annotations
        if outcome != self.recordings_listed:
            found.append(
                f"{self.recordings_listed} recordings listed, but {c.recordings_used} used + {c.recordings_rejected} rejected"
                f" + {self.recordings_without_annotations} without annotations = {outcome}"
            )
        if c.annotations_used + c.annotations_rejected != self.annotations_read:
            found.append(
                f"{self.annotations_read} annotations read, but {c.annotations_used} used + {c.annotations_rejected} rejected"
            )
        return found


def _to_json(record: Any) -> bytes:
    plain = asdict(record, dict_factory=_without_nothing)
    return (json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _without_nothing(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if value or name not in _LEFT_OUT_EMPTY}


def snapshot_numbers(root: Root) -> list[int]:
    """Return the numbers of the published snapshots, ascending."""
    stems = [n.removesuffix(".json") for n in root.names(SNAPSHOTS) if n.endswith(".json")]
    return sorted(int(s) for s in stems if s.isdigit())


def read_snapshot(root: Root, number: int | None = None) -> Snapshot:
    """Read a snapshot, the newest by default. Raises ClipmillError when there is none."""
    numbers = snapshot_numbers(root)
    if not numbers:
        raise ClipmillError(f"{root.url}: no snapshot is published here; is it a dataset, and did its build finish?")
    chosen = numbers[-1] if number is None else number
    if chosen not in numbers:
        there = ", ".join(map(str, numbers[-10:]))
        raise ClipmillError(
            f"{root.url}: no snapshot {chosen}; there are {'..., ' if len(numbers) > 10 else ''}{there}"
        )
    return Snapshot.from_json(root.read_bytes(snapshot_path(chosen)), root.uri(snapshot_path(chosen)))


def read_commit(root: Root, key: str) -> Commit:
    """Read a commit record. Raises ClipmillError when it is not there or not readable."""
    try:
        content = root.read_bytes(commit_path(key))
    except FileNotFoundError:
        raise ClipmillError(f"{root.uri(commit_path(key))}: the commit record is missing") from None
    return Commit.from_json(content, root.uri(commit_path(key)))


def sound_commits(root: Root, keys: Iterable[str]) -> dict[str, Commit]:
    """Return those of the shards that are committed and whose files are there in their full size.

    A record that cannot be read, or a file that is missing or cut, is as good as no commit: the shard is to be built anew.
    Contents are not read; `clipmill verify` does that.
    """
    listed = sorted(committed_keys(root) & set(keys))
    sizes = shard_sizes(root) if listed else {}

    def read(key: str) -> Commit | None:
        try:
            return read_commit(root, key)
        except ClipmillError:
            return None

    if root.is_local:
        commits = [read(key) for key in listed]
    else:
        with ThreadPoolExecutor(_RECORDS_AT_ONCE) as pool:  # a store takes its time for each, however small
            commits = list(pool.map(read, listed))
    return {c.key: c for c in commits if c is not None and c.is_whole(sizes)}


def shard_sizes(root: Root) -> dict[str, int]:
    """Return the sizes in bytes of all files of shards and their records, by path."""
    return {**root.sizes("shards"), **root.sizes(COMMITS)}


def sound_commit(root: Root, key: str) -> Commit | None:
    """Return a shard's commit if there is one and its files are there, as `sound_commits` does for many."""
    if not root.exists(commit_path(key)):
        return None
    try:
        commit = read_commit(root, key)
        sound = all(root.size(o.path) == o.size_bytes for o in commit.outputs)
    except (ClipmillError, FileNotFoundError):
        return None
    return commit if sound else None


def committed_keys(root: Root) -> set[str]:
    """Return the keys of all shards that are committed under a root."""
    return {n.removesuffix(".json") for n in root.names(COMMITS) if n.endswith(".json")}


Retries = dict[str, tuple[str, int]]
"""By item id: the version that was rejected, and how often it was tried again."""


def read_retries(root: Root) -> Retries:
    """Return which rejected items were tried again; a file that is not there says none."""
    try:
        plain = json.loads(root.read_bytes(RETRIES_FILE))
        return {str(item): (str(version), int(n)) for item, (version, n) in plain.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ClipmillError(
            f"{root.uri(RETRIES_FILE)}: not a record of retries ({error}); put the file back as it was, or remove it and retry"
            " again: what was retried before is then as if it had not been"
        ) from None


def write_retries(root: Root, retries: Retries) -> None:
    root.write_bytes(RETRIES_FILE, (json.dumps(retries, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def remove_shard(root: Root, commit: Commit) -> None:
    """Remove a shard that no snapshot names: its record first, so that it never counts without its files."""
    for path in (commit_path(commit.key), *(o.path for o in commit.outputs)):
        root.remove(path)


def open_dataset(root: Root, name: str) -> None:
    """Make a root a dataset of this name, or check that it is one.

    Raises
    ------
    ClipmillError : the root holds another dataset, or one of a newer format
    """
    content = json.dumps({"format_version": FORMAT_VERSION, "name": name}, indent=1) + "\n"
    if root.create_bytes(DATASET_FILE, content.encode()):
        return
    other = dataset_name(root)
    if other != name:
        raise ClipmillError(f"{root.url} holds the dataset {other!r}, not {name!r}: choose another output.root or name")


def dataset_name(root: Root) -> str:
    """Return the name of the dataset under a root.

    Raises
    ------
    ClipmillError : it is none, or of a format that this clipmill does not know
    """
    try:
        found = json.loads(root.read_bytes(DATASET_FILE))
        version, name = int(found["format_version"]), str(found["name"])
    except FileNotFoundError:
        raise ClipmillError(
            f"{root.url} is no dataset: there is no {DATASET_FILE}; give the output.root of a build"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ClipmillError(f"{root.uri(DATASET_FILE)}: not a dataset file: {error}") from None
    if version != FORMAT_VERSION:
        raise ClipmillError(f"{root.url}: format version {version}, this clipmill knows {FORMAT_VERSION}")
    return name
