"""Define the index of a snapshot: tables with a row for each shard, by which readers and builds need not open the shards' records.

A part of the index has these tables, each a file of its own:

shards      what readers and the next build need of each shard
records     each shard's record itself, see `Commit.content`
pcm         the first bytes of the sha256 of each clip's samples, by which equal clips are found
manifest    the clips, one row each
rejections  what was rejected in these shards
remarks     notable things about recordings that were used
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from clipmill.schemas.layout import FORMAT_VERSION, PAYLOAD, commit_path
from clipmill.schemas.records import Commit, Counts, OutputFile, Seconds
from clipmill.schemas.statistics import Statistics
from clipmill.schemas.tables import REJECTIONS

_OUTPUT = pa.struct(
    [
        ("path", pa.string()),
        ("format", pa.string()),
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("rows", pa.int64()),
        ("range_ends", pa.list_(pa.int64())),
        ("range_sha256", pa.list_(pa.string())),
    ]
)
SHARDS = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("bucket", pa.string()),  # the partition
        ("record_sha256", pa.string()),  # of `Commit.content`
        ("record_size_bytes", pa.int64()),  # of its file, without a donor
        ("clips_key", pa.string()),
        ("n_items", pa.int64()),
        ("clips_kept", pa.int64()),
        ("clips_augmented", pa.int64()),
        ("clips_dropped", pa.int64()),
        ("kept_s", pa.float64()),
        ("has_pcm_sha256", pa.bool_()),
        ("versions", pa.string()),  # JSON
        ("outputs", pa.list_(_OUTPUT)),
        ("remarked", pa.list_(pa.string())),  # code and hash of each recording with a remark
    ]
)
RECORDS = pa.schema([("key", pa.string()), ("content", pa.binary())])
PCM = pa.schema(
    [("key", pa.string()), ("hashes", pa.binary())]
)  # uint64 of each clip that is no copy, in the order of the manifest
REMARKS = pa.schema([(name, pa.string()) for name in ("code", "source", "recording_id", "source_uri", "detail")])
SCHEMAS = {"shards": SHARDS, "records": RECORDS, "pcm": PCM, "rejections": REJECTIONS, "remarks": REMARKS}
"""Schemas of the tables by name. That of `manifest` depends on the dataset."""
TABLES = ("shards", "records", "pcm", "manifest", "rejections", "remarks")
SUMS = b"sums"
"""Key of the metadata of the table `shards` that holds the part's sums."""
PCM_HASH_BYTES = 8
_DONOR_BYTES = len(f'"{"0" * 64}"') - len("null")


@dataclass(frozen=True)
class Shard:
    """What readers need of a shard: the columns of the table `shards`, which are those of its record.

    bucket : its partition
    record_sha256, record_size_bytes : of `Commit.content`, and of the record's file without a donor
    versions : of the libraries that made it
    """

    key: str
    split: str
    bucket: str
    record_sha256: str
    record_size_bytes: int
    clips_key: str
    n_items: int
    clips_kept: int
    clips_augmented: int
    clips_dropped: int
    kept_s: float
    has_pcm_sha256: bool
    versions: dict[str, str]
    outputs: list[OutputFile]

    @property
    def clips_stored(self) -> int:
        """Return the number of clips in the shard: those that were kept, and copies of them."""
        return self.clips_kept + self.clips_augmented

    def output(self, *formats: str) -> OutputFile | None:
        """Return the shard's file in the first of these formats that it has, None when it has none of them."""
        outputs = {o.format: o for o in self.outputs}
        return next((outputs[f] for f in formats if f in outputs), None)

    @classmethod
    def of(cls, commit: Commit, content: bytes | None = None) -> Shard:
        """Return a record's shard. content : its `Commit.content` if that is at hand"""
        counts = commit.counts
        return cls(
            key=commit.key,
            split=commit.split,
            bucket=commit.bucket,
            record_sha256=record_sha256(commit.content if content is None else content),
            record_size_bytes=record_size_bytes(commit),
            clips_key=commit.clips_key,
            n_items=commit.n_items,
            clips_kept=counts.clips_kept,
            clips_augmented=counts.clips_augmented,
            clips_dropped=counts.clips_dropped,
            kept_s=commit.seconds.kept_s,
            has_pcm_sha256=commit.has_pcm_sha256,
            versions=commit.versions,
            outputs=commit.outputs,
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Shard:
        """Return the shard of a row of the table `shards`."""
        plain = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(
            **{**plain, "versions": json.loads(row["versions"]), "outputs": [OutputFile(**o) for o in row["outputs"]]}
        )


def record_sha256(content: bytes) -> str:
    """Return the digest by which a snapshot names a shard's record. content : see `Commit.content`"""
    return hashlib.sha256(content).hexdigest()


def record_size_bytes(commit: Commit) -> int:
    """Return the size of a record's file if it has no donor."""
    return len(replace(commit, donor=None, format_version=FORMAT_VERSION).to_json())


def has_record(sizes: Mapping[str, int], key: str, size_bytes: int) -> bool:
    """Return whether a shard's record exists in its full size, with a donor or without. sizes : of the existing files, in bytes, by path"""
    return sizes.get(commit_path(key), 0) - size_bytes in (0, _DONOR_BYTES)


def are_whole(shards: pa.Table, sizes: Mapping[str, int], has_sealed_records: bool = True) -> list[bool]:
    """Return which shards' files and records exist in full size, by their rows of the table `shards`.

    sizes : of the existing files, in bytes, by path
    has_sealed_records : False if the records are of format version 1, whose size is not known
    """
    outputs = shards["outputs"].combine_chunks()
    files = outputs.flatten()
    is_there = [
        sizes.get(path) == n
        for path, n in zip(files.field("path").to_pylist(), files.field("size_bytes").to_pylist(), strict=True)
    ]
    ends = outputs.offsets.to_pylist()
    keys, records = shards["key"].to_pylist(), shards["record_size_bytes"].to_pylist()
    return [
        (has_record(sizes, key, n) if has_sealed_records else commit_path(key) in sizes) and all(is_there[start:stop])
        for key, n, start, stop in zip(keys, records, ends[:-1], ends[1:], strict=True)
    ]


def shard_row(commit: Commit, content: bytes) -> dict[str, Any]:
    """Return a record's row of the table `shards`. content : its `Commit.content`"""
    shard = Shard.of(commit, content)
    return {
        **{name: getattr(shard, name) for name in Shard.__dataclass_fields__},
        "versions": json.dumps(shard.versions, sort_keys=True),
        "outputs": [vars(output) for output in shard.outputs],
        "remarked": [
            f"{r['code']} {hashlib.sha256(r['recording_id'].encode()).hexdigest()[:16]}" for r in commit.remarks
        ],
    }


@dataclass(frozen=True)
class Sums:
    """Sum the records of a part. Sums of parts add up in the order of the parts, whatever the order of nights.

    bytes_stored : of the shards' files
    """

    counts: Counts = field(default_factory=Counts)
    seconds: Seconds = field(default_factory=Seconds)
    statistics: Statistics = field(default_factory=Statistics)
    bytes_stored: int = 0
    shards: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.counts + other.counts,
            self.seconds + other.seconds,
            self.statistics + other.statistics,
            self.bytes_stored + other.bytes_stored,
            self.shards + other.shards,
        )

    @classmethod
    def of(cls, commits: Iterable[Commit]) -> Sums:
        """Return the sums of records, added up in their order."""
        total = cls()
        for c in commits:
            stored = sum(o.size_bytes for o in c.outputs if o.format in PAYLOAD)
            total += cls(c.counts, c.seconds, c.statistics, stored, 1)
        return total

    def to_json(self) -> str:
        return json.dumps(self, default=vars, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Sums:
        """Read sums. Raises ValueError, TypeError or KeyError when the text does not hold any."""
        plain = json.loads(text)
        return cls(
            Counts(**plain["counts"]),
            Seconds(**plain["seconds"]),
            Statistics.from_plain(plain["statistics"]),
            plain["bytes_stored"],
            plain["shards"],
        )
