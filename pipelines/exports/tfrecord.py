"""TFRecord: files of tf.train.Example for tf.data, with a description by which a reader parses them; TensorFlow is not needed to write."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.feature_shapes import common_shapes
from clipmill.pipelines.exports.tf_examples import MAX_RECORD_BYTES, Values, encode_example, write_record
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.config.model import Frozen
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import EVENTS_COLUMN, LABELS_COLUMN
from clipmill.schemas.plural import counted
from clipmill.schemas.tables import IMAGE_COLUMN, manifest_schema
from clipmill.stages.write.encode import decode_clip


class TfrecordOptions(Frozen):
    """The options of `tfrecord`."""

    audio: Literal["samples", "file", "none"] = Field(
        "samples", description="samples: raw int16 or float32; file: the bytes of the FLAC or WAV file"
    )
    file_mb: int = Field(100, ge=1, le=100_000, description="a file that is larger is followed by another one")


FORMAT = Format(
    "TFRecord files of tf.train.Example, with audio, labels and features, for tf.data",
    copies_audio=True,
    options=TfrecordOptions,
    needs={"google_crc32c": "tfrecord"},
)

DESCRIPTION = "features.json"
_LEFT_OUT = ("source_uri", "shard")
_KINDS = {"string": "bytes", "double": "float", "float": "float", "int32": "int64", "int64": "int64", "bool": "int64"}
_UNKNOWN = -1
"""What stands for a whole number that is null."""


def check(asked: Export) -> None:
    """Raise a ClipmillError where two features would have one name, or samples of a clip would be no record."""
    names = [*_plain_fields(asked), *_others(asked, {})]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ClipmillError(
            f"{asked.published.root.url}: two features of a record would be called {twice!r}; give the corpus's field another name"
        )


def export(asked: Export) -> list[str]:
    """Write <split>-NNNNN.tfrecord, a record a clip, and features.json, which has the name, kind and shape of every feature, the classes and
    the files.

    Texts are bytes in UTF-8, empty where they are null; numbers are float (32 bits), NaN where they are null, or int64, -1 where they are
    null. `label_id` is -1 without a label; several labels are in `labels` and `label_ids`, events in `events/label`, `events/onset_s` and
    `events/offset_s`. `audio` is bytes: little-endian samples of `audio_shape` [n_samples, n_channels]. A feature is a list of floats in
    row-major order, its shape in `<name>_shape`.
    """
    options = asked.read_options(TfrecordOptions)
    ids = {label: i for i, label in enumerate(asked.published.classes)}
    plain = _plain_fields(asked)
    about = {**plain, **_others(asked, common_shapes(asked), options.audio)}
    splits: dict[str, Any] = {}
    written = []
    dtypes: set[str] = set()
    for split in asked.splits:
        files: list[dict[str, Any]] = []
        n_labelled = 0
        with contextlib.ExitStack() as stack:
            stream: IO[bytes] | None = None
            for row in asked.clips(split, features=True, images=asked.published.has_images):
                content = encode_example(dict(_features(asked, row, plain, options.audio, ids, dtypes)))
                if len(content) > MAX_RECORD_BYTES:
                    raise ClipmillError(
                        f"clip {row['clip_id']}: its record would have {len(content):,} bytes, and TensorFlow reads {MAX_RECORD_BYTES:,} at most;"
                        " give --option audio=file or none, or cut shorter clips"
                    )
                if stream is None or files[-1]["bytes"] >= options.file_mb * 1_000_000:
                    stack.close()
                    path = f"{split}-{len(files):05d}.tfrecord"
                    stream = stack.enter_context(asked.open(path))
                    files.append({"path": path, "clips": 0, "bytes": 0})
                    written.append(asked.target.uri(path))
                files[-1]["bytes"] += write_record(stream, content)
                files[-1]["clips"] += 1
                n_labelled += row["label"] in ids
        splits[split] = {"clips": sum(file["clips"] for file in files), "labelled": n_labelled, "files": files}
    if options.audio == "samples":
        if len(dtypes) > 1:
            raise ClipmillError(
                f"{asked.published.root.url}: samples of clips are of several types: {', '.join(sorted(dtypes))}"
            )
        about["audio"]["dtype"] = next(iter(dtypes), "int16")
    description = {
        "snapshot": asked.published.identity,
        "classes": list(asked.published.classes),
        "splits": splits,
        "features": about,
    }
    asked.notes.extend(_notes(asked, about, options.audio))
    return [*written, asked.write(DESCRIPTION, [json.dumps(description, indent=1, ensure_ascii=False)])]


def _plain_fields(asked: Export) -> dict[str, dict[str, Any]]:
    """Return a description of the features that hold one value of the manifest each."""
    snapshot = asked.published.snapshot
    manifest = manifest_schema(
        snapshot.fields, snapshot.has_channel, measured_fields(snapshot.columns), snapshot.label_lists
    )
    plain = [field for field in manifest if field.name not in _LEFT_OUT and not pa.types.is_list(field.type)]
    return {field.name: {"kind": _KINDS[str(field.type)], "shape": []} for field in plain}


def _others(asked: Export, shapes: dict[str, Any], audio: str = "samples") -> dict[str, dict[str, Any]]:
    """Return a description of all other features. A shape that is null differs from clip to clip."""
    published = asked.published
    found: dict[str, dict[str, Any]] = {"label_id": {"kind": "int64", "shape": []}}
    if LABELS_COLUMN in published.snapshot.label_lists:
        found["labels"] = {"kind": "bytes", "shape": None}
        found["label_ids"] = {"kind": "int64", "shape": None}
    if EVENTS_COLUMN in published.snapshot.label_lists:
        found |= {"events/label": {"kind": "bytes", "shape": None}}
        found |= {f"events/{name}": {"kind": "float", "shape": None} for name in ("onset_s", "offset_s")}
    if audio != "none":
        found["audio"] = {"kind": "bytes", "shape": []}
    if audio == "samples":
        found["audio_shape"] = {"kind": "int64", "shape": [2]}
    if published.has_images:
        found[IMAGE_COLUMN] = {"kind": "bytes", "shape": []}
    about = {column["name"]: column for column in published.columns}
    for name in published.feature_names:
        shape = shapes.get(name)
        unit = {"unit": about[name]["unit"]} if "unit" in about[name] else {}
        kind = "int64" if "int32" in about[name]["type"] else "float"
        found[name] = {"kind": kind, "shape": list(shape) if shape is not None else None, **unit}
        n_dimensions = len(shape) if shape is not None else None
        found[f"{name}_shape"] = {"kind": "int64", "shape": [n_dimensions] if n_dimensions is not None else None}
    return found


def _features(
    asked: Export,
    row: dict[str, Any],
    plain: dict[str, dict[str, Any]],
    audio: str,
    ids: dict[str, int],
    dtypes: set[str],
) -> Iterator[tuple[str, Values]]:
    """Yield the features of a clip's record. plain : as `_plain_fields`; dtypes : gets the type of its samples"""
    published = asked.published
    for name, about in plain.items():
        yield name, _value(row[name], about["kind"])
    yield "label_id", _whole([ids.get(row["label"], _UNKNOWN)])
    if LABELS_COLUMN in published.snapshot.label_lists:
        labels = row[LABELS_COLUMN] or []
        yield "labels", [label.encode() for label in labels]
        yield "label_ids", _whole([ids.get(label, _UNKNOWN) for label in labels])
    if EVENTS_COLUMN in published.snapshot.label_lists:
        events = row[EVENTS_COLUMN] or []
        yield "events/label", [event["label"].encode() for event in events]
        for name in ("onset_s", "offset_s"):
            yield f"events/{name}", np.array([event[name] for event in events], np.float32)
    if audio == "file":
        yield "audio", [row["audio"]]
    elif audio == "samples":
        with legible(published.root, row["shard"]):
            samples, _ = decode_clip(row["audio"])
        dtypes.add(str(samples.dtype))
        yield "audio", [np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).tobytes()]
        yield "audio_shape", _whole(samples.shape)
    if published.has_images:
        yield IMAGE_COLUMN, [row[IMAGE_COLUMN]]
    for name in published.feature_names:
        values = np.ravel(row[name])
        yield name, _whole(values) if values.dtype.kind == "i" else values.astype(np.float32)
        yield f"{name}_shape", _whole(row[name].shape)


def _value(value: Any, kind: str) -> Values:
    if kind == "bytes":
        return [str(value if value is not None else "").encode()]
    if kind == "float":
        return np.array([np.nan if value is None else value], np.float32)
    return _whole([_UNKNOWN if value is None else int(value)])


def _whole(values: Any) -> Values:
    return np.array(values, np.int64)


def _notes(asked: Export, about: dict[str, dict[str, Any]], audio: str) -> Iterator[str]:
    """Yield what the user should know of the export."""
    if varying := [name for name in asked.published.feature_names if about[name]["shape"] is None]:
        yield (
            f"{counted(len(varying), 'feature')} of clips {'has' if len(varying) == 1 else 'have'} several shapes ({', '.join(varying)}): read"
            " with tf.io.RaggedFeature, reshape by <name>_shape, and batch with padded_batch"
        )
    if audio == "file" and asked.published.audio_codec == "flac":
        yield "audio is FLAC files, which TensorFlow itself cannot decode (tensorflow-io can); --option audio=samples needs no decoder"
