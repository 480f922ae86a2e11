"""Write the files of a shard as clips arrive: Parquet, WebDataset tar, and the manifest. The same clips give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill.schemas.layout import PAYLOAD
from clipmill.schemas.records import OutputFile
from clipmill.stages.arrow_rows import list_values

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 100  # as Hugging Face stores audio: random reads stay small, and buffers fit into caches
RANGE_BYTES = 4 << 20
"""Length from which a range of a file gets its own sha256. Readers check whole ranges, so longer ones make small reads slow."""


class HashingStream(io.RawIOBase):
    """Passes written bytes on to another stream, counts them, and hashes them as a whole and by range.

    A range ends with the write that makes it `RANGE_BYTES` long, or at `cut`.

    size_bytes : written so far
    sha256 : of the bytes written so far, 64 hex digits
    range_ends, range_sha256 : where each range that has ended stops, in bytes, and its sha256
    """

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self._of_range = hashlib.sha256()
        self.size_bytes = 0
        self.range_ends: list[int] = []
        self.range_sha256: list[str] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._target.write(view)
        self._digest.update(view)
        self._of_range.update(view)
        self.size_bytes += len(view)
        if self.size_bytes - self._range_start >= RANGE_BYTES:
            self.cut()
        return len(view)

    @property
    def _range_start(self) -> int:
        return self.range_ends[-1] if self.range_ends else 0

    def cut(self) -> None:
        """End the present range here, unless it is empty."""
        if self.size_bytes > self._range_start:
            self.range_ends.append(self.size_bytes)
            self.range_sha256.append(self._of_range.hexdigest())
            self._of_range = hashlib.sha256()

    def output(self, path: str, format: str, rows: int) -> OutputFile:
        """Return the description of the file, once everything is written. Only shards have ranges: tables of records are read as a whole."""
        self.cut()
        ranges = (self.range_ends, self.range_sha256) if format in PAYLOAD else ([], [])
        return OutputFile(path, format, self.sha256, self.size_bytes, rows, *ranges)

    def tell(self) -> int:
        return self.size_bytes

    def abandon(self) -> None:
        """Detach the target, so that what a library still writes while it closes is discarded."""
        self._target = io.BytesIO()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Nowhere(io.RawIOBase):
    """Where a file goes whose digest is wanted and which is there already."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


class ShardFile(Protocol):
    """One file of a shard. format : as in its record"""

    format: str

    def add(self, clips: pa.Table) -> None:
        """Append clips, a table of `clipmill.schemas.tables.shard_schema`."""
        ...

    def finish(self) -> OutputFile:
        """Complete the file; return its path, size, hash and number of rows."""
        ...

    def abandon(self) -> None:
        """Close the file without writing any more."""
        ...


class ParquetFile:
    """A Parquet file with row groups that are cut by size alone, so that its bytes do not depend on how clips arrive.

    schema : the columns to store, in order
    """

    def __init__(self, format: str, path: str, sink: IO[bytes], schema: pa.Schema) -> None:
        self.format, self._path, self._schema = format, path, schema
        self._stream = HashingStream(sink)
        text = [f.name for f in schema if pa.types.is_string(f.type) and f.name != "clip_id"]
        # Bytes of floats are grouped by significance: zstd then compresses them better and faster.
        floats = [
            f"{f.name}.list.element"
            for f in schema
            if pa.types.is_list(f.type) and pa.types.is_floating(f.type.value_type)
        ]
        self._writer = pq.ParquetWriter(
            self._stream, schema, compression="zstd", compression_level=1, use_dictionary=text, write_statistics=text,
            use_byte_stream_split=floats, store_schema=True,
        )  # fmt: skip
        self._pending: list[pa.Table] = []
        self._n_rows = self._n_pending = self._pending_bytes = 0

    def add(self, clips: pa.Table) -> None:
        rows = clips.select(self._schema.names)
        sizes = _row_bytes(rows)
        start = 0
        for i, size in enumerate(sizes):
            self._n_pending += 1
            self._pending_bytes += size
            if self._n_pending >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
                self._pending.append(rows.slice(start, i + 1 - start))
                start = i + 1
                self._flush()
        if start < rows.num_rows:
            self._pending.append(rows.slice(start))
        self._n_rows += rows.num_rows

    def _flush(self) -> None:
        if self._pending:
            group = pa.concat_tables(self._pending).combine_chunks()
            self._writer.write_table(group.cast(self._schema), row_group_size=max(1, group.num_rows))
            self._stream.cut()
        self._pending, self._n_pending, self._pending_bytes = [], 0, 0

    def finish(self) -> OutputFile:
        self._flush()
        self._writer.close()
        return self._stream.output(self._path, self.format, self._n_rows)

    def abandon(self) -> None:
        self._stream.abandon()
        self._writer.close()


def _row_bytes(rows: pa.Table) -> list[int]:
    """Return the approximate size of each row in bytes: its audio, its picture and its features."""
    sizes = np.full(rows.num_rows, 256, np.int64)
    for field in rows.schema:
        if pa.types.is_list(field.type) and pa.types.is_primitive(field.type.value_type):
            width = field.type.value_type.byte_width
            sizes += width * np.array([len(v) for v in list_values(rows[field.name])], np.int64)
        elif pa.types.is_struct(field.type):
            sizes += pc.binary_length(pc.struct_field(rows[field.name], "bytes")).to_numpy()
    return [int(n) for n in sizes]


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether values of a type are part of a sample's JSON: numbers, texts and lists of texts."""
    return not pa.types.is_nested(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


class TarFile:
    """A WebDataset shard. Each clip has its audio, its picture as .png, its metadata as .json, and each feature as .npy.

    columns : of a clip that are stored
    lists : those of several labels, which are part of the metadata
    """

    format = "webdataset"

    def __init__(
        self,
        path: str,
        sink: IO[bytes],
        columns: Sequence[str],
        feature_names: Sequence[str],
        lists: Sequence[str] = (),
    ) -> None:
        self._path, self._columns, self._features = path, list(columns), feature_names
        self._lists = frozenset(lists)
        self._stream = HashingStream(sink)
        self._tar = tarfile.open(fileobj=self._stream, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 18)  # noqa: SIM115
        self._n_rows = 0

    def add(self, clips: pa.Table) -> None:
        clips = clips.select(self._columns)
        plain = [f.name for f in clips.schema if f.name in self._lists or _is_plain(f.type)]
        files = [f.name for f in clips.schema if pa.types.is_struct(f.type)]
        values = {name: list_values(clips[name]) for name in self._features}
        shapes = {name: clips[f"{name}_shape"].to_pylist() for name in self._features}
        contents = {name: clips[name].to_pylist() for name in files}
        for i, row in enumerate(clips.select(plain).to_pylist()):
            key = row["clip_id"]
            for name in files:
                self._member(contents[name][i]["path"], contents[name][i]["bytes"])
            # JSON has no infinity.
            row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            self._member(f"{key}.json", json.dumps(row, ensure_ascii=False, sort_keys=True).encode())
            for name in self._features:
                sink = io.BytesIO()
                np.save(sink, values[name][i].reshape(shapes[name][i]), allow_pickle=False)
                self._member(f"{key}.{name}.npy", sink.getvalue())
        self._tar.getmembers().clear()  # tarfile keeps an entry of every member that it wrote
        self._n_rows += clips.num_rows

    def copy(self, members: Mapping[str, bytes]) -> None:
        """Append a clip with the members that it has in another tar. members : contents by name, in their order"""
        for name, content in members.items():
            self._member(name, content)
        self._tar.getmembers().clear()
        self._n_rows += 1

    def _member(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), 0o644, 0
        info.uname = info.gname = "clipmill"
        self._tar.addfile(info, io.BytesIO(content))

    def finish(self) -> OutputFile:
        self._tar.close()
        return self._stream.output(self._path, self.format, self._n_rows)

    def abandon(self) -> None:
        self._stream.abandon()
        self._tar.close()
