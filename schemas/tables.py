"""The Arrow tables that flow through a build, and the rows of the files that come out.

plan -> Decode -> CHUNKS -> Downmix -> CHUNKS -> Resample -> CHUNKS -> Segment -> CLIPS -> SilenceFilter -> CLIPS -> Features -> CLIPS
-> Images -> CLIPS -> Write
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.remarks import REMARK

# One annotated range of a recording. In the plan all rows of a recording; in a chunk those that it can serve.
ANNOTATION = pa.struct(
    [
        ("start", pa.float64()),  # in the source's time unit until Decode turns it into seconds; null: from the start
        ("end", pa.float64()),  # null: to the end of the recording
        ("ordinal", pa.int32()),  # counts rows of the recording with the same start and end
        ("label", pa.string()),
        ("fields", pa.list_(pa.string())),  # aligned with the build's field names
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),  # set: the row is rejected, and is here to be counted
        ("detail", pa.string()),
        ("channel", pa.int32()),  # counted from 1: the one that the row is about; null: those that `channels` says
    ]
)

# What identifies the recording that a row is about. Copied from the plan to every table after it.
_ITEM_FIELDS = [
    ("item_id", pa.string()),
    ("item_digest", pa.string()),
    ("recording_id", pa.string()),
    ("source", pa.string()),
    ("path", pa.string()),
    ("source_uri", pa.string()),
    ("label", pa.string()),
    ("fields", pa.list_(pa.string())),
    ("primary", pa.bool_()),  # of the items that a recording was cut into, the one by which it is counted
]
ITEM_COLUMNS = [name for name, _ in _ITEM_FIELDS]

PLAN = pa.schema(
    [
        ("split", pa.string()),
        ("bucket", pa.string()),  # the shard's partition of the hash space
        ("key", pa.string()),
        (
            "clips_key",
            pa.string(),
        ),  # what the shard's clips are a function of: the key without features and file formats
        ("donor", pa.string()),  # set: key of a committed shard with the same clips, from which to take them
        *_ITEM_FIELDS,
        ("size_bytes", pa.int64()),
        ("version", pa.string()),
        ("span_start_s", pa.float64()),
        ("span_end_s", pa.float64()),  # null: to the end of the recording
        ("annotations", pa.list_(ANNOTATION)),
        ("reason", pa.string()),  # set: the item is rejected unread, for a reason found before or in an earlier try
        ("detail", pa.string()),
    ]
)
"""One row an item (a recording, or a span of a long one). A shard's plan is the rows with its key, in this order."""

CUT = pa.struct([("annotation", pa.int32()), ("first", pa.int64()), ("last", pa.int64())])
"""Which clips to cut: windows [first, last) of an annotation of the chunk (by its place in the list), -1 for none."""

CHUNKS = pa.schema(
    [
        *_ITEM_FIELDS,
        ("sample_rate_hz", pa.int32()),
        ("n_channels", pa.int32()),
        ("start_s", pa.int64()),  # of the first sample after `lead`; a multiple of the cell
        ("lead", pa.int64()),  # frames before start_s, there for the resampler
        ("core_frames", pa.int64()),  # frames from start_s on, without the margin behind them
        ("total_frames", pa.int64()),  # of the recording at this sample rate, null while unknown
        ("cuts", pa.list_(CUT)),
        ("annotations", pa.list_(ANNOTATION)),
        ("samples", pa.large_list(pa.float32())),  # interleaved: frame by frame
        ("last", pa.bool_()),  # the item ends with this row
        ("decoded_frames", pa.int64()),  # on the last row: frames that were decoded of the item
        ("decoded_s", pa.float64()),
        ("decoder", pa.string()),
        ("remarks", pa.list_(REMARK)),  # on the last row
        ("reason", pa.string()),  # set: the recording is rejected
        ("detail", pa.string()),
    ]
)
"""One row a chunk: a contiguous piece of a recording as float32 PCM, with the clips to be cut from it."""

CLIPS = pa.schema(
    [
        *_ITEM_FIELDS,
        ("status", pa.string()),  # clip | dropped | rejected | account | void: what came of the item so far is void
        ("clip_id", pa.string()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("n_channels", pa.int32()),
        ("channel", pa.int32()),  # of the recording, counted from 0, where each is a clip of its own
        ("n_samples", pa.int64()),  # frames, padding included
        ("level_dbfs", pa.float64()),
        ("n_clipped", pa.int64()),  # samples that were beyond full scale
        ("saturated_samples", pa.int64()),  # of all channels, at full scale or beyond before rounding; in no file
        ("samples", pa.large_list(pa.float32())),  # interleaved, not rounded; null where `pcm` is there
        ("pcm", pa.large_binary()),  # little-endian int16 or float32, interleaved
        ("count", pa.int64()),  # dropped: how many clips the row stands for
        ("rule", pa.string()),  # dropped: by which
        ("kind", pa.string()),  # rejected: recording | annotation | clip
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("n_candidates", pa.int64()),  # account: how many clips the chunk could give
        ("n_annotations", pa.int64()),  # account: rows that were used
        ("last", pa.bool_()),  # account: the item ends here
        ("decoded_s", pa.float64()),  # account, last
        ("remarks", pa.list_(REMARK)),  # account, last: of a recording that was used
    ]
)
"""One row a clip, or a group of dropped clips, or a rejection; and one `account` row a chunk, for the sums to be checked.
Features follow as pairs of columns, `<name>` (list of float32, row-major) and `<name>_shape` (list of int32), and pictures
as a column `image` (struct of bytes and path)."""

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
"""One row for each thing rejected: the file `rejections.parquet` of a snapshot and the list in a commit."""

RECORDINGS = pa.schema(
    [
        ("item_id", pa.string()),
        ("recording_id", pa.string()),
        ("version", pa.string()),
        ("clips", pa.int64()),
        ("reason", pa.string()),  # set: the recording, or this part of it, was rejected
        ("item_digest", pa.string()),  # of which the shard's key is made; null in shards of an older clipmill
        (
            "account",
            pa.string(),
        ),  # JSON, `clipmill.schemas.account`: what the item adds to the shard's sums; null as before
    ]
)
"""One row an item of a shard and what became of it: the file `<key>.recordings.parquet` beside a commit."""

RESERVED = frozenset(
    "clip_id recording_id source source_uri start_s duration_s sample_rate_hz n_channels n_samples label split level_dbfs "
    "n_clipped audio label_id spectrogram phase log_mel mfcc spectrogram_shape phase_shape log_mel_shape mfcc_shape shard".split()
)
"""Column names of a clip's row that a corpus's own field must not take."""

IMAGE_COLUMN = "image"
"""Not among the reserved: a field of this name is stored under it in datasets without pictures."""

CHANNEL_COLUMN = "channel"
"""Not among the reserved either: there only where a source has a clip for each channel, `Config.has_channel_column`."""

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def manifest_schema(
    field_names: Sequence[str], has_channel: bool = False, measured: Iterable[pa.Field] = ()
) -> pa.Schema:
    """Return the schema of a manifest: one row a clip, no payload. A corpus's own fields are strings.

    has_channel : with the column of the recording's channel, null for clips that are not of one alone
    measured : columns of stages that hold one value a clip
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
    """Return the schema of a Parquet shard, with the metadata by which Hugging Face knows audio and images.

    fields : all columns in their order, see `clipmill.schemas.columns`
    """
    columns = [field.remove_metadata() for field in fields]
    features = {field.name: _hugging_face(field, config) for field in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(columns, metadata=metadata)


def _hugging_face(field: pa.Field, config: Config) -> dict[str, object]:
    if field.name == "audio":
        return {"sampling_rate": config.audio.sample_rate_hz, "_type": "Audio"}
    if field.type == FILE:
        # Indexes mean nothing to a network: `datasets` is to give their colours.
        indexed = config.output.images is not None and config.output.images.mode == "indexed"
        return {**({"mode": "RGB"} if indexed else {}), "_type": "Image"}
    if pa.types.is_list(field.type):
        return {"feature": {"dtype": _dtype_name(field.type.value_type), "_type": "Value"}, "_type": "List"}
    return {"dtype": _dtype_name(field.type), "_type": "Value"}


def _dtype_name(kind: pa.DataType) -> str:
    return {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(kind), str(kind))
