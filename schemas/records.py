"""Define the records of a dataset: a commit accounts for a shard, a snapshot for a published state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clipmill.schemas.errors import BadRecordError, ClipmillError, describe_bad_record
from clipmill.schemas.index_part import Part
from clipmill.schemas.keys import OLD_CLIP_ID_BITS
from clipmill.schemas.layout import FORMAT_VERSION
from clipmill.schemas.record_parsing import parse
from clipmill.schemas.seal import sealed, unsealed
from clipmill.schemas.statistics import Saturation, Statistics, sum_saturation

_OMITTED_IF_EMPTY = frozenset(
    {
        "saturation", "remarked", "remarks", "has_channel", "recordings_forgotten", "recordings_dropped", "annotations_dropped",
        "annotations_ignored", "noted", "classes", "columns", "side_changes", "words", "config_digest", "clips_digest",
        "annotations_merged", "label_lists", "has_pcm_sha256", "duplicates", "clips_augmented", "range_ends", "range_sha256", "parts",
        "limited", "audio_key", "audio_digest",
    }
)  # fmt: skip
"""Fields that were added to records later. An old record that is read and written again keeps its bytes."""
_SCALARS = (str, int, float, type(None))


@dataclass(frozen=True)
class Counts:
    """Count the outcomes of recordings, annotations and clips. `problems` checks the sums.

    recordings, annotations, clips : by outcome
    spans : parts of long recordings, without the part by which the recording itself is counted
    dropped : clips, by rule
    rejected : everything rejected, by reason
    remarked : recordings used that have a remark, by the codes of `clipmill.schemas.remarks`
    clips_augmented : changed copies of kept clips, which are stored beside them and are not candidates
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
    clips_augmented: int = 0

    @property
    def clips_stored(self) -> int:
        """Return the number of clips in the shards: those that were kept, and copies of them."""
        return self.clips_kept + self.clips_augmented

    @property
    def clips_dropped(self) -> int:
        """Return the number of dropped clips, over all rules."""
        return sum(self.dropped.values())

    def problems(self) -> list[str]:
        """Return which sums do not agree, as sentences; empty when all agree."""
        problems = []
        outcome = self.clips_kept + self.clips_dropped + self.clips_rejected
        if outcome != self.clips_candidates:
            problems.append(
                f"{self.clips_candidates} candidate clips, but {self.clips_kept} kept + {self.clips_dropped} dropped"
                f" + {self.clips_rejected} rejected = {outcome}"
            )
        total_rejected = (
            self.recordings_rejected + self.spans_rejected + self.annotations_rejected + self.clips_rejected
        )
        if sum(self.rejected.values()) != total_rejected:
            problems.append(f"{total_rejected} rejected, but {sum(self.rejected.values())} by reason")
        return problems

    def __add__(self, other: Counts) -> Counts:
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__}
        sums: dict[str, Any] = {n: _sum(a, b) if isinstance(a, dict) else a + b for n, (a, b) in pairs.items()}
        return Counts(**sums)


def _sum(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {k: a.get(k, 0) + b.get(k, 0) for k in sorted(a.keys() | b.keys())}


@dataclass(frozen=True)
class Seconds:
    """Sum the seconds of audio that were decoded and stored, and the clips and seconds of each label.

    by_label, clips_by_label : a clip with several labels counts for each of them, one without any for the empty text
    """

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
    """Describe one file of a shard.

    format : parquet | webdataset | features | manifest | recordings | dropped
    rows : its clips or recordings
    range_ends, range_sha256 : where each range of a shard stops, in bytes, and its sha256, so that a part of the file can be checked; a range
        is part of one row group or of the footer. Empty for tables of records, and for shards that are older than ranges
    """

    path: str
    format: str
    sha256: str
    size_bytes: int
    rows: int
    range_ends: list[int] = field(default_factory=list)
    range_sha256: list[str] = field(default_factory=list)


@dataclass(frozen=True, repr=False)
class Commit:
    """Record a shard that is complete. Written after the shard's files.

    bucket : the shard's partition of the hash space: ``b`` and the bits that its members' hashes begin with
    clips_key : key of everything that its clips depend on; shards that differ only in features or file formats share it
    donor : key of the shard whose clips were used, None when the recordings were read
    statistics : of its clips and features; without clips in records that are older than statistics
    remarks : {code, source, recording_id, source_uri, detail}, one for each code and recording that was used
    config_digest, clips_digest : of the configuration, the parts of `key` and `clips_key`; empty in older records
    audio_key : key of all that its audio file depends on, where features lie beside it: shards that differ in these alone share the file.
        Empty where features lie in the shard
    audio_digest : of the configuration, the part of `audio_key`
    has_pcm_sha256 : its part of the manifest has a column with the sha256 of each clip's samples; false in older records
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
    config_digest: str = ""
    clips_digest: str = ""
    has_pcm_sha256: bool = False
    audio_key: str = ""
    audio_digest: str = ""
    format_version: int = FORMAT_VERSION

    def __repr__(self) -> str:
        return f"Commit({self.key[:12]}, {self.split}, {self.counts.clips_kept} clips)"

    def output(self, *formats: str) -> OutputFile | None:
        """Return the shard's file in the first of these formats that it has, None when it has none of them."""
        outputs = {o.format: o for o in self.outputs}
        return next((outputs[f] for f in formats if f in outputs), None)

    def is_whole(self, sizes: Mapping[str, int]) -> bool:
        """Return whether all files exist with their full sizes. sizes : of the existing files, in bytes, by path."""
        return all(sizes.get(o.path) == o.size_bytes for o in self.outputs)

    def problems(self) -> list[str]:
        """Return what in the record does not agree, as sentences; empty when all agrees."""
        rows = {"recordings": self.n_items}
        problems = self.counts.problems()
        for output in self.outputs:
            expected = rows.get(output.format, self.counts.clips_stored)
            if output.format != "dropped" and output.rows != expected:
                problems.append(f"{output.path} has {output.rows} rows, but by the counts there are {expected}")
        return problems

    def to_json(self) -> bytes:
        """Return the record as the file `commits/<key>.json`."""
        return sealed(_plain(self))

    @property
    def content(self) -> bytes:
        """What the record says of the shard, as JSON: all but its `donor`, which is how it came about.

        The sha256 of these bytes is by what a snapshot names the record, so it does not depend on the order of nights.
        """
        plain = _plain(replace(self, donor=None))
        del plain["donor"], plain["format_version"]
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes | str, name: str) -> Commit:
        """Read a record. Raises ClipmillError, which names `name`, when the content is not what was written."""
        try:
            return cls._of_plain(unsealed(content.encode() if isinstance(content, str) else content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ClipmillError(
                f"{name}: not a commit record ({describe_bad_record(error)})", code="root.damaged"
            ) from None

    @classmethod
    def from_content(cls, content: bytes) -> Commit:
        """Return the record with this `content`. Raises ValueError, KeyError or TypeError when it is not that of a record."""
        return cls._of_plain(json.loads(content))

    @classmethod
    def _of_plain(cls, plain: dict[str, Any]) -> Commit:
        statistics = Statistics.from_plain(plain["statistics"]) if "statistics" in plain else Statistics()
        sums = {
            "outputs": [parse(OutputFile, o, f"outputs[{i}]") for i, o in enumerate(plain["outputs"])],
            "counts": parse(Counts, plain["counts"], "counts"),
            "seconds": parse(Seconds, plain["seconds"], "seconds"),
            "statistics": statistics,
        }
        return parse(cls, {**plain, **sums})


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Record one published state of the dataset.

    commits : keys of its shards, sorted
    counts, seconds : sums over the commits; counts include the plan's own rejections
    recordings_listed, recordings_without_annotations, annotations_read : from the plan
    plan_digest : of what the plan rejected or left out, by which a rebuild detects changes
    config : as written by the user, without secrets
    accepted : exceeded limits that the user accepted
    files : sha256 of manifest.parquet, rejections.parquet and, if there are any, duplicates.parquet
    labels : clips and seconds by split and label
    statistics : of clips and features by split: sums over the commits
    has_channel : clips have a column `channel`
    recordings_forgotten : listed, but excluded for good by `clipmill forget`
    recordings_dropped : listed, but with a label that the configuration drops, or only such rows; by label
    annotations_dropped : rows with a label that the configuration drops, by label
    annotations_ignored : rows of a table whose recording does not exist, where the configuration says to ignore them, and rows that name
        a recording and no event
    annotations_merged : rows that became one with another row of equal times, where clips can have several labels
    label_lists : the columns of clips that can have several labels, `labels` and `events`
    noted : how annotations were interpreted, as counts by the codes of `clipmill.schemas.annotation_notes`
    classes : labels in the order of their ids; see `clipmill.pipelines.dataset.classes`
    columns : of the shards: name, type, unit, meaning, shape and resolved settings; see `clipmill.schemas.columns`
    words : meanings of rules and reasons that stages of other packages declare, with the remedies of reasons
    side_changes : recordings that moved to another split since the last snapshot, by "train to test"
    duplicates : numbers of clips with the samples of others; see `clipmill.pipelines.dataset.duplicates.Duplicates`
    clip_id_bits : width of the hash in the ids of its clips
    limited : of a build that was to read only a few recordings: how many it was asked to (`asked`) and did read (`recordings`), and the
        recordings and annotations that it left out for that; empty in a whole dataset
    parts : files of its index and manifest, sorted by split and prefix; empty in snapshots of format version 1
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
    recordings_forgotten: int = 0
    recordings_dropped: dict[str, int] = field(default_factory=dict)
    annotations_dropped: dict[str, int] = field(default_factory=dict)
    annotations_ignored: int = 0
    annotations_merged: int = 0
    label_lists: list[str] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    side_changes: dict[str, int] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    limited: dict[str, int] = field(default_factory=dict)
    clip_id_bits: int = OLD_CLIP_ID_BITS
    format_version: int = FORMAT_VERSION

    def __repr__(self) -> str:
        return f"Snapshot({self.number} of {self.name}, {self.counts.clips_kept} clips in {len(self.commits)} shards)"

    def to_json(self) -> bytes:
        """Return the record as the file `snapshots/<number>.json`."""
        return sealed(_plain(self))

    @classmethod
    def from_json(cls, content: bytes, name: str) -> Snapshot:
        """Read a record. Raises ClipmillError, which names `name`, when the content is not one."""
        try:
            plain = unsealed(content)
            if (version := int(plain.get("format_version", 1))) > FORMAT_VERSION:
                raise ClipmillError(
                    f"{name}: format version {version}, but this clipmill reads versions up to {FORMAT_VERSION}; install a newer clipmill",
                    code="root.newer_format",
                )
            statistics = {split: Statistics.from_plain(s) for split, s in plain.get("statistics", {}).items()}
            sums = {
                "counts": parse(Counts, plain["counts"], "counts"),
                "seconds": parse(Seconds, plain["seconds"], "seconds"),
                "statistics": statistics,
                "parts": [parse(Part, Part.nested(p), f"parts[{i}]") for i, p in enumerate(plain.get("parts", []))],
                "format_version": version,
            }
            snapshot = parse(cls, {**plain, **sums})
            if not all(key.isalnum() for key in snapshot.commits):
                raise BadRecordError("commits contains an invalid key")
            return snapshot
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ClipmillError(
                f"{name}: not a snapshot ({describe_bad_record(error)}); restore the file, or remove it, and the next build publishes again",
                code="root.damaged",
            ) from None

    @property
    def saturation(self) -> dict[str, Saturation]:
        """Return how many samples are at full scale, by source."""
        return sum_saturation(self.statistics.values())

    @property
    def clips_of_unknown_saturation(self) -> int:
        """Return the number of clips in shards that are older than the count of saturated samples."""
        return self.counts.clips_kept - sum(sums.clips for sums in self.saturation.values())

    def has_same_content(self, other: Snapshot) -> bool:
        """Return whether another snapshot has the same shards and left out the same."""
        return (self.commits, self.plan_digest) == (other.commits, other.plan_digest)

    def has_same_request(self, other: Snapshot) -> bool:
        """Return whether the other snapshot's configuration has the same splits and classes."""
        return all(self.config.get(key) == other.config.get(key) for key in ("split", "classes"))

    @property
    def recording_outcomes(self) -> dict[str, int]:
        """Return the listed recordings by outcome. Rare outcomes are left out when they did not occur."""
        rare = {"dropped by label": sum(self.recordings_dropped.values()), "forgotten": self.recordings_forgotten}
        rare["left out by the limit"] = self.limited.get("recordings_left_out", 0)
        return {
            "used": self.counts.recordings_used,
            "rejected": self.counts.recordings_rejected,
            "without annotations": self.recordings_without_annotations,
            **{outcome: n for outcome, n in rare.items() if n},
        }

    @property
    def annotation_outcomes(self) -> dict[str, int]:
        """Return the annotations read by outcome. Rare outcomes are left out when they did not occur."""
        rare = {
            "merged": self.annotations_merged,
            "dropped by label": sum(self.annotations_dropped.values()),
            "ignored": self.annotations_ignored,
            "left out by the limit": self.limited.get("annotations_left_out", 0),
        }
        return {
            "used": self.counts.annotations_used,
            "rejected": self.counts.annotations_rejected,
            **{outcome: n for outcome, n in rare.items() if n},
        }

    def problems(self) -> list[str]:
        """Return which sums do not agree, as sentences; empty when all agree."""
        problems = self.counts.problems()
        for name, total, parts in (
            ("recordings listed", self.recordings_listed, self.recording_outcomes),
            ("annotations read", self.annotations_read, self.annotation_outcomes),
        ):
            if sum(parts.values()) != total:
                terms = " + ".join(f"{n} {outcome}" for outcome, n in parts.items())
                problems.append(f"{total} {name}, but {terms} = {sum(parts.values())}")
        return problems


def _plain(record: Any) -> Any:
    """Return a record, or a part of one, as plain data that shares its lists and dictionaries.

    `dataclasses.asdict` copies each number and text by itself, and took most of the time of reading and making an index.
    """
    if isinstance(record, _SCALARS):
        return record
    if isinstance(record, list | tuple):
        return record if all(isinstance(value, _SCALARS) for value in record) else [_plain(value) for value in record]
    if isinstance(record, dict):
        return {name: _plain(value) for name, value in record.items()}
    pairs = ((name, getattr(record, name)) for name in record.__dataclass_fields__)
    return {name: _plain(value) for name, value in pairs if value or name not in _OMITTED_IF_EMPTY}
