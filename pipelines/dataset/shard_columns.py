"""What shards themselves say of their columns: for snapshots that were published before snapshots described them."""

from __future__ import annotations

import contextlib
import io
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from clipmill.pipelines.read.shard_rows import legible
from clipmill.schemas.columns import Column, columns_of_schema, measured_of
from clipmill.schemas.tables import IMAGE_COLUMN, manifest_schema

if TYPE_CHECKING:
    from clipmill.pipelines.dataset.published import Published

_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_AUDIO = ("flac", "wav")


def columns_of_shards(published: Published) -> list[Column]:
    """Return the columns as the first shard that holds a clip has them; none where there is no clip.

    Raises
    ------
    ClipmillError : the shard cannot be read
    """
    with_clips = [commit for commit in published.commits if commit.counts.clips_kept]
    if any(commit.output("parquet") for commit in with_clips):
        return columns_of_schema(published.schema, published.snapshot.fields)
    tars = [tar.path for commit in with_clips if (tar := commit.output("webdataset"))]
    return columns_of_schema(_schema_of_tar(published, tars[0]), published.snapshot.fields) if tars else []


def audio_codec(published: Published) -> str:
    """Return the codec that clips were to be stored in, as the snapshot says, or the first clip of a tar."""
    for column in published.columns:
        if column["name"] == "audio" and "codec" in column.get("settings", {}):
            return str(column["settings"]["codec"])
    tars = [t.path for c in published.commits if c.counts.clips_kept and (t := c.output("webdataset"))]
    return str(_schema_of_tar(published, tars[0]).metadata[b"codec"].decode()) if tars else "flac"


def _schema_of_tar(published: Published, path: str) -> pa.Schema:
    """Return the columns that the first clip of a tar has; in the metadata the codec of its audio."""
    snapshot = published.snapshot
    columns = [
        f
        for f in manifest_schema(snapshot.fields, snapshot.has_channel, measured_of(snapshot.columns))
        if f.name != "shard"
    ]
    codec, first = "flac", ""
    with (
        legible(published.root, path),
        contextlib.closing(published.root.open_read(path)) as stream,
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
