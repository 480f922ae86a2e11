"""Reread: the clips of a committed shard, for a shard that differs from it in features, pictures or file formats alone."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from clipmill.schemas.errors import DonorError
from clipmill.schemas.records import Commit, OutputFile
from clipmill.schemas.tables import CHANNEL_COLUMN, CLIPS, manifest_schema
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_of
from clipmill.stages.write.encode import decode_clip

TABLE_ROWS = 256
_ENCODED = pa.struct([("codec", pa.string()), ("bytes", pa.binary())])
_STORED = [n for n in manifest_schema([]).names if n not in ("split", "shard")]
SCHEMA = CLIPS.append(pa.field("encoded", _ENCODED))
"""Clips with their audio file as it is stored."""


@dataclass(frozen=True)
class Reread:
    """Read the clips of a committed shard. Takes its `clipmill.schemas.layout.Commit`, gives an iterator of tables of `SCHEMA`.

    The clips come in their order, bit for bit, with PCM and the stored audio file beside it. Files are hashed first.

    root : of the dataset
    sample_format : of the clips' PCM, int16 | float32
    field_names : the corpus's own fields
    min_samples : the shortest clip that the features to come can be computed of
    fields : columns of clip stages, which are kept
    has_channel : the clips have a column `channel`, which is else a name that a field may have
    """

    root: Root
    sample_format: str
    field_names: Sequence[str]
    min_samples: int = 1
    has_channel: bool = False
    fields: Sequence[pa.Field] = ()

    version: ClassVar[int] = 1

    @property
    def schema(self) -> pa.Schema:
        """Of the tables that it gives."""
        return pa.schema([*SCHEMA, *(field.remove_metadata() for field in self.fields)])

    def __call__(self, commit: Commit) -> Iterator[pa.Table]:
        """
        Raises
        ------
        DonorError : a file is missing or is not the one that was committed, or a clip is too short
        """
        rows: list[dict[str, Any]] = []
        try:
            for row in self._rows(commit):
                rows.append(self._clip(row))
                if len(rows) == TABLE_ROWS:
                    yield pa.Table.from_pylist(rows, schema=self.schema)
                    rows = []
        except (
            FileNotFoundError,
            sf.LibsndfileError,
            pa.ArrowInvalid,
            tarfile.TarError,
            KeyError,
            ValueError,
        ) as error:
            raise DonorError(f"shard {commit.key[:12]} cannot be read again: {error}") from None
        if rows:
            yield pa.Table.from_pylist(rows, schema=self.schema)

    def recordings(self, commit: Commit) -> pa.Table:
        """Return the shard's table of `clipmill.schemas.tables.RECORDINGS`."""
        output = self._checked(commit, "recordings")
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            return pq.read_table(stream, use_threads=False)

    def _checked(self, commit: Commit, *formats: str) -> OutputFile:
        output = commit.output(*formats)
        try:
            if output is None or sha256_of(self.root, output.path) != output.sha256:
                raise DonorError(f"shard {commit.key[:12]} is damaged")
        except FileNotFoundError:
            raise DonorError(f"shard {commit.key[:12]} is gone") from None
        return output

    def _rows(self, commit: Commit) -> Iterator[dict[str, Any]]:
        output = self._checked(commit, "parquet", "webdataset")
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            if output.format == "parquet":
                yield from self._of_parquet(stream)
            else:
                yield from self._of_tar(stream)

    def _of_parquet(self, stream: Any) -> Iterator[dict[str, Any]]:
        file = pq.ParquetFile(stream)
        kept = {"audio", *(field.name for field in self.fields)}
        plain = [f.name for f in file.schema_arrow if f.name in kept or not pa.types.is_nested(f.type)]
        for batch in file.iter_batches(batch_size=TABLE_ROWS, columns=plain, use_threads=False):
            yield from batch.to_pylist()

    @staticmethod
    def _of_tar(stream: Any) -> Iterator[dict[str, Any]]:
        audio: dict[str, Any] = {}
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                extension = member.name.split(".", 1)[1]
                if extension not in ("flac", "wav", "json"):
                    continue
                file = tar.extractfile(member)
                content = file.read() if file is not None else b""
                if extension == "json":
                    yield {**json.loads(content), "audio": audio}
                else:
                    audio = {"bytes": content, "path": member.name}

    def _clip(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["n_samples"] < self.min_samples:
            raise DonorError(f"clip {row['clip_id']} is too short for the features")
        content = row["audio"]["bytes"]
        y, _ = decode_clip(content)
        dtype = "<i2" if self.sample_format == "int16" else "<f4"
        if y.dtype != np.dtype(dtype):
            raise ValueError(f"clip {row['clip_id']} holds {y.dtype}, not {dtype}")
        codec = row["audio"]["path"].rsplit(".", 1)[-1]
        return {
            **{name: row[name] for name in _STORED},
            **{field.name: row[field.name] for field in self.fields},
            "item_id": row["recording_id"],
            CHANNEL_COLUMN: row[CHANNEL_COLUMN] if self.has_channel else None,
            "fields": [row[name] for name in self.field_names],
            "status": "clip",
            "level_dbfs": float("-inf") if row["level_dbfs"] is None else row["level_dbfs"],
            "pcm": np.ascontiguousarray(y, dtype=dtype).tobytes(),
            "encoded": {"codec": codec, "bytes": content},
        }
