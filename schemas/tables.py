"""Define the Arrow tables that pass through a build, and the rows of the files that it writes.

plan -> Decode -> CHUNKS -> Downmix -> CHUNKS -> Resample -> CHUNKS -> Segment -> CLIPS -> SilenceFilter -> CLIPS -> Features -> CLIPS
-> Images -> CLIPS -> Write
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.label_columns import CLIP_EVENT, EVENTS_COLUMN, LABELS_COLUMN, LIST_FIELDS
from clipmill.schemas.remarks import REMARK

# One annotated range of a recording. The plan has all ranges of a recording, a chunk has those that it contains.
ANNOTATION = pa.struct(
    [
        ("start", pa.float64()),  # in the source's time unit until Decode converts it to seconds; null: from the start
        ("end", pa.float64()),  # null: to the end of the recording
        ("ordinal", pa.int32()),  # distinguishes rows of the recording with equal start and end
        ("label", pa.string()),
        ("fields", pa.list_(pa.string())),  # aligned with the build's field names
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),  # set: the row is rejected, and is kept for the counts
        ("detail", pa.string()),
        ("channel", pa.int32()),  # counted from 1: the channel that the row is about; null: those of `channels`
    ]
)

# What an annotation says about a time of its recording, for clips that have lists of labels.
EVENT = pa.struct(
    [
        ("labels", pa.list_(pa.string())),
        (
            "start",
            pa.float64(),
        ),  # units and nulls as in ANNOTATION; without start and end it is a label of the whole recording
        ("end", pa.float64()),
        ("channel", pa.int32()),  # counted from 1, null: of all channels
    ]
)

# Identity of the recording that a row belongs to. Copied from the plan into every later table.
_ITEM_FIELDS = [
    ("item_id", pa.string()),
    ("item_digest", pa.string()),
    ("recording_id", pa.string()),
    ("source", pa.string()),
    ("path", pa.string()),
    ("source_uri", pa.string()),
    ("label", pa.string()),
    ("fields", pa.list_(pa.string())),
    ("primary", pa.bool_()),  # of the items of one recording, the one by which it is counted
    ("split", pa.string()),
]
ITEM_COLUMNS = [name for name, _ in _ITEM_FIELDS]

PLAN = pa.schema(
    [
        ("bucket", pa.string()),  # the shard's partition of the hash space
        ("key", pa.string()),
        ("clips_key", pa.string()),  # key of what the shard's clips depend on: not features and file formats
        (
            "expected",
            pa.string(),
        ),  # in the first row: the record of a shard that is damaged, see `Commit.content`; its bytes are to be the same
        ("donor", pa.string()),  # set: key of a committed shard with the same clips, which are read from it
        *_ITEM_FIELDS,
        ("size_bytes", pa.int64()),
        ("version", pa.string()),
        ("span_start_s", pa.float64()),
        ("span_end_s", pa.float64()),  # null: to the end of the recording
        ("annotations", pa.list_(ANNOTATION)),
        ("events", pa.list_(EVENT)),  # sorted by start; null: its clips have one label at most
        (
            "reason",
            pa.string(),
        ),  # set: the item is rejected unread, for a reason known before the build or from an earlier try
        ("detail", pa.string()),
        ("excluded", pa.list_(pa.string())),  # ids of clips that `exclude_clips` lists; null: none
    ]
)
"""One row per item, which is a recording or a span of a long one. A shard's plan is the rows with its key, in this order."""

CUT = pa.struct(
    [
        ("annotation", pa.int32()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("start_s", pa.float64()),  # set where recordings are cut by what is heard in them; equal to end_s: nothing is
        ("end_s", pa.float64()),
        ("lane", pa.int32()),  # the channel that the cut is for, null for all
    ]
)
"""Which clips to cut: windows [first, last) of an annotation, given by its index in the chunk's list, or -1 without annotation."""

CHUNKS = pa.schema(
    [
        *_ITEM_FIELDS,
        ("sample_rate_hz", pa.int32()),
        ("n_channels", pa.int32()),
        ("start_s", pa.int64()),  # of the first sample after `lead`; a multiple of the cell
        ("lead", pa.int64()),  # frames before start_s, which the resampler needs
        ("core_frames", pa.int64()),  # frames from start_s on, without the margin at the end
        ("total_frames", pa.int64()),  # of the recording at this sample rate, null while unknown
        ("cuts", pa.list_(CUT)),
        ("annotations", pa.list_(ANNOTATION)),
        ("events", pa.list_(EVENT)),  # those that can be heard in the chunk, in seconds
        ("samples", pa.large_list(pa.float32())),  # interleaved: frame by frame
        ("last", pa.bool_()),  # whether the item ends with this row
        ("decoded_frames", pa.int64()),  # on the last row: frames decoded of the item
        ("decoded_s", pa.float64()),
        ("decoder", pa.string()),
        ("remarks", pa.list_(REMARK)),  # on the last row
        ("reason", pa.string()),  # set: the recording is rejected
        ("detail", pa.string()),
        (
            "recording_levels",
            pa.list_(pa.float64()),
        ),  # of each channel if each has clips of its own; null unless `level` asks for it
    ]
)
"""One row per chunk: a contiguous piece of a recording as float32 PCM, with the clips to cut from it."""

CLIPS = pa.schema(
    [
        *_ITEM_FIELDS,
        (
            "status",
            pa.string(),
        ),  # clip | dropped | rejected | account | void; void: the item's earlier rows do not count
        ("clip_id", pa.string()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("n_channels", pa.int32()),
        ("channel", pa.int32()),  # of the recording, counted from 0, where each channel has a clip of its own
        ("n_samples", pa.int64()),  # frames, padding included
        ("level_dbfs", pa.float64()),
        ("n_clipped", pa.int64()),  # samples that were beyond full scale
        (
            "recording_level",
            pa.float64(),
        ),  # of the whole recording, as the stage `level` measures it; null unless it asks; not stored
        ("saturated_samples", pa.int64()),  # of all channels, at full scale or beyond before rounding; not stored
        ("samples", pa.large_list(pa.float32())),  # interleaved, not rounded; null where `pcm` is set
        ("pcm", pa.large_binary()),  # little-endian int16 or float32, interleaved
        ("count", pa.int64()),  # dropped: number of clips that the row stands for
        ("rule", pa.string()),  # dropped: the rule
        ("kind", pa.string()),  # rejected: recording | annotation | clip
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("n_candidates", pa.int64()),  # account: number of candidate clips in the chunk
        ("n_annotations", pa.int64()),  # account: number of rows used
        (LABELS_COLUMN, pa.list_(pa.string())),  # null where no source of the dataset has several labels
        (EVENTS_COLUMN, pa.list_(CLIP_EVENT)),
        ("last", pa.bool_()),  # account: whether the item ends here
        ("decoded_s", pa.float64()),  # account, last
        ("remarks", pa.list_(REMARK)),  # account, last: remarks on a recording that was used
    ]
)
"""One row per clip, per group of dropped clips and per rejection, and one `account` row per chunk, by which the sums are checked.
Features add two columns each, `<name>` (list of float32, row-major) and `<name>_shape` (list of int32). Pictures add the column
`image` (struct of bytes and path)."""

AUGMENTED_FROM = "augmented_from"
"""Column of clips that are copies, which the stage `augment` adds: the id of the clip that it was made from, null in that clip itself."""

REJECTIONS = pa.schema(
    [
        ("kind", pa.string()),
        ("reason", pa.string()),
        ("stage", pa.string()),
        ("source", pa.string()),
        ("recording_id", pa.string()),
        ("source_uri", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("start_s", pa.float64()),
        ("detail", pa.string()),
    ]
)
"""One row per rejection: the file `rejections.parquet` of a snapshot, and the list in a commit."""

RECORDINGS = pa.schema(
    [
        ("item_id", pa.string()),
        ("recording_id", pa.string()),
        ("version", pa.string()),
        ("clips", pa.int64()),
        ("reason", pa.string()),  # set: the recording, or this part of it, was rejected
        ("item_digest", pa.string()),  # the shard's key is made of these; null in shards of an older clipmill
        ("account", pa.string()),  # JSON of `clipmill.schemas.account`: its part of the shard's sums; null as above
    ]
)
"""One row per item of a shard, with its outcome: the file `<key>.recordings.parquet` beside a commit."""

DROPPED = pa.schema(
    [
        ("clip_id", pa.string()),
        ("item_id", pa.string()),
        ("recording_id", pa.string()),
        ("source", pa.string()),
        ("source_uri", pa.string()),
        ("label", pa.string()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("n_channels", pa.int32()),
        ("n_samples", pa.int64()),
        ("level_dbfs", pa.float64()),
        ("n_clipped", pa.int64()),
        ("rule", pa.string()),
        (
            "on_stored",
            pa.bool_(),
        ),  # whether the rule was applied to the stored clip, so that another threshold needs no recording
        (
            "not_measured",
            pa.list_(pa.string()),
        ),  # columns that are null because the clip was dropped before they were measured
    ]
)
"""One row per clip that was dropped by its measured columns, which follow: the file `<key>.dropped.parquet` beside a commit."""


def dropped_schema(measured: Iterable[pa.Field]) -> pa.Schema:
    """Return the schema of the clips that a shard dropped. measured : columns of clip stages with one value per clip"""
    return pa.schema([*DROPPED, *(field.remove_metadata() for field in measured)])


RESERVED = frozenset(
    "clip_id recording_id source source_uri start_s duration_s sample_rate_hz n_channels n_samples label split level_dbfs "
    "n_clipped audio label_id spectrogram phase log_mel mfcc spectrogram_shape phase_shape log_mel_shape mfcc_shape shard".split()
)
"""Column names that a corpus's own field must not have."""

PCM_SHA256 = pa.field("pcm_sha256", pa.string())
"""Column of manifests, not of shards: the sha256 of a clip's stored samples, little-endian and interleaved, as 64 hex digits."""

IMAGE_COLUMN = "image"
"""Not reserved: in datasets without pictures, a field may have this name."""

CHANNEL_COLUMN = "channel"
"""Not reserved either: the column exists only where a source has a clip for each channel, see `Config.has_channel_column`."""

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def manifest_schema(
    field_names: Sequence[str],
    has_channel: bool = False,
    measured: Iterable[pa.Field] = (),
    label_lists: Iterable[str] = (),
) -> pa.Schema:
    """Return the schema of a manifest: one row per clip, without payload. A corpus's own fields are strings.

    has_channel : include the column of the recording's channel, null for clips of several channels
    measured : columns of stages with one value per clip
    label_lists : names of the columns of several labels, see `Config.label_lists`
    """
    return pa.schema(
        [
            ("clip_id", pa.string()),
            ("recording_id", pa.string()),
            ("source", pa.string()),
            ("source_uri", pa.string()),
            ("start_s", pa.float64()),
            ("duration_s", pa.float64()),
            ("sample_rate_hz", pa.int32()),
            ("n_channels", pa.int32()),
            ("n_samples", pa.int64()),
            ("label", pa.string()),
            *(LIST_FIELDS[name] for name in label_lists),
            ("split", pa.string()),
            ("level_dbfs", pa.float64()),
            ("n_clipped", pa.int64()),
            *([(CHANNEL_COLUMN, pa.int32())] if has_channel else []),
            *(field.remove_metadata() for field in measured),
            *((name, pa.string()) for name in field_names),
            ("shard", pa.string()),
        ]
    )


def shard_schema(config: Config, fields: Iterable[pa.Field]) -> pa.Schema:
    """Return the schema of a Parquet shard, with the metadata by which Hugging Face recognizes audio and images.

    fields : all columns in their order, see `clipmill.schemas.columns`
    """
    columns = [field.remove_metadata() for field in fields]
    features = {field.name: _hugging_face(field, config) for field in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(columns, metadata=metadata)


def part_of_schema(schema: pa.Schema, names: Iterable[str]) -> pa.Schema:
    """Return a shard's schema with some of its columns alone, in its order, also in the metadata. names : of these"""
    wanted = set(names)
    return joined_schema([schema], [name for name in schema.names if name in wanted])


def joined_schema(schemas: Sequence[pa.Schema], order: Iterable[str]) -> pa.Schema:
    """Return the schema of several files with the same rows as if they were one. order : names of the columns; others are left out"""
    fields = {field.name: field for schema in schemas for field in schema}
    known = {name: about for schema in schemas for name, about in _features_of(schema).items()}
    names = [name for name in order if name in fields]
    metadata = {"huggingface": json.dumps({"info": {"features": {name: known[name] for name in names}}})}
    return pa.schema([fields[name] for name in names], metadata=metadata)


def _features_of(schema: pa.Schema) -> dict[str, Any]:
    features: dict[str, Any] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return features


def _hugging_face(field: pa.Field, config: Config) -> dict[str, object]:
    if field.name == "audio":
        return {"sampling_rate": config.audio.sample_rate_hz, "_type": "Audio"}
    if field.type == FILE:
        # Indexes mean nothing to a network, so `datasets` converts them to colours.
        indexed = config.output.images is not None and config.output.images.mode == "indexed"
        return {**({"mode": "RGB"} if indexed else {}), "_type": "Image"}
    if pa.types.is_list(field.type):
        return {"feature": _hugging_face_value(field.type.value_type), "_type": "List"}
    return {"dtype": _dtype_name(field.type), "_type": "Value"}


def _hugging_face_value(kind: pa.DataType) -> dict[str, object]:
    if pa.types.is_struct(kind):
        return {field.name: _hugging_face_value(field.type) for field in kind}
    return {"dtype": _dtype_name(kind), "_type": "Value"}


def _dtype_name(kind: pa.DataType) -> str:
    return {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(kind), str(kind))
