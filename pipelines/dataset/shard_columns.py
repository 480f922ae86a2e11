"""Read the columns of shards from their files, for old snapshots that do not describe them."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.schemas.columns import Column, columns_of_schema, measured_fields
from clipmill.schemas.index import Shard
from clipmill.schemas.records import OutputFile, Snapshot
from clipmill.schemas.tables import IMAGE_COLUMN, manifest_schema
from clipmill.stages.storage.checked import open_checked
from clipmill.stages.storage.root import Root

_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_AUDIO = ("flac", "wav")


def columns_of_shards(root: Root, snapshot: Snapshot, shards: Sequence[Shard]) -> list[Column]:
    """Return the columns of the first shard that holds a clip; an empty list if there are no clips.

    Raises
    ------
    ClipmillError : the shard cannot be read
    """
    with_clips = [shard for shard in shards if shard.clips_kept]
    if files := [file for shard in with_clips if (file := shard.output("parquet"))]:
        return columns_of_schema(schema_of_parquet(root, files[0]), snapshot.fields)
    schema = schema_of_first_tar(root, snapshot, with_clips)
    return columns_of_schema(schema, snapshot.fields) if schema is not None else []


def schema_of_parquet(root: Root, file: OutputFile) -> pa.Schema:
    """Return the Arrow schema of a Parquet shard, with Hugging Face's description in the metadata."""
    with legible(root, file.path), contextlib.closing(open_checked(root, file, whole=False)) as stream:
        return pq.read_schema(stream)


def schema_of_first_tar(root: Root, snapshot: Snapshot, shards: Sequence[Shard]) -> pa.Schema | None:
    """Return the columns of the first clip that is stored in a tar, with the codec of its audio in the metadata; None without clips."""
    tars = [t for s in shards if s.clips_kept and (t := s.output("webdataset"))]
    return _schema_of_tar(root, snapshot, tars[0]) if tars else None


def _schema_of_tar(root: Root, snapshot: Snapshot, file: OutputFile) -> pa.Schema:
    columns = [
        f
        for f in manifest_schema(
            snapshot.fields, snapshot.has_channel, measured_fields(snapshot.columns), snapshot.label_lists
        )
        if f.name != "shard"
    ]
    codec, first = "flac", ""
    with (
        legible(root, file.path),
        contextlib.closing(open_checked(root, file, whole=False)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for member in tar:
            clip_id, _, extension = member.name.partition(".")
            if first and clip_id != first:
                break
            first = clip_id
            if extension in _AUDIO:
                columns.append(pa.field("audio", _FILE))
                codec = extension
            elif extension == "png":
                columns.append(pa.field(IMAGE_COLUMN, _FILE))
            elif extension.endswith(".npy") and (content := tar.extractfile(member)) is not None:
                values = np.load(io.BytesIO(content.read()), allow_pickle=False)
                name = extension.removesuffix(".npy")
                columns.append(pa.field(name, pa.list_(pa.from_numpy_dtype(values.dtype))))
                columns.append(pa.field(f"{name}_shape", pa.list_(pa.int32())))
    return pa.schema(columns, metadata={"codec": codec})
