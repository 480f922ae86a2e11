"""Reread: read the clips of a committed shard, for a shard that differs from it only in features, pictures or file formats."""

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
"""Clips with their stored audio files."""


@dataclass(frozen=True)
class Reread:
    """Read the clips of a committed shard. Takes its `clipmill.schemas.records.Commit` and yields tables of `schema`.

    The clips keep their order and have both their PCM, bit for bit, and the stored audio file. The shard's file is hashed first.

    root : of the dataset
    sample_format : of the clips' PCM, int16 | float32
    field_names : the corpus's own fields
    min_samples : samples of the shortest clip from which the new features can be computed
    fields : columns of clip stages, which are kept
    has_channel : whether the clips have a column `channel`; otherwise a field may have this name
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
        """Return the schema of the tables that it yields."""
        return pa.schema([*SCHEMA, *(field.remove_metadata() for field in self.fields)])

    def __call__(self, commit: Commit) -> Iterator[pa.Table]:
        """Yield the clips of a shard, in tables of at most `TABLE_ROWS` rows.

        Raises
        ------
        DonorError : a file is missing or differs from the committed one, or a clip is too short
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
        output = self._check_output(commit, "recordings")
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            return pq.read_table(stream, use_threads=False)

    def _check_output(self, commit: Commit, *formats: str) -> OutputFile:
        output = commit.output(*formats)
        try:
            if output is None or sha256_of(self.root, output.path) != output.sha256:
                raise DonorError(f"shard {commit.key[:12]} is damaged")
        except FileNotFoundError:
            raise DonorError(f"a file of shard {commit.key[:12]} is missing") from None
        return output

    def _rows(self, commit: Commit) -> Iterator[dict[str, Any]]:
        output = self._check_output(commit, "parquet", "webdataset")
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            if output.format == "parquet":
                yield from self._parquet_rows(stream)
            else:
                yield from self._tar_rows(stream)

    def _parquet_rows(self, stream: Any) -> Iterator[dict[str, Any]]:
        file = pq.ParquetFile(stream)
        kept = {"audio", *(field.name for field in self.fields)}
        plain = [f.name for f in file.schema_arrow if f.name in kept or not pa.types.is_nested(f.type)]
        for batch in file.iter_batches(batch_size=TABLE_ROWS, columns=plain, use_threads=False):
            yield from batch.to_pylist()

    @staticmethod
    def _tar_rows(stream: Any) -> Iterator[dict[str, Any]]:
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
            raise ValueError(f"clip {row['clip_id']} has {y.dtype} samples, not {dtype}")
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
