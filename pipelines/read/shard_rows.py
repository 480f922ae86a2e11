"""Rows of Parquet shards, read where they lie, a row group at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.schemas.records import OutputFile
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.storage.checked import open_checked

if TYPE_CHECKING:
    from clipmill.pipelines.dataset.published import Published

Row = dict[str, Any]


class ShardRows:
    """Rows of a split's shards, by shard and place, mostly asked for in their order. To be closed.

    files : of the shards
    columns : to read; features come as float32 or int64 arrays of their shapes, anything else as stored

    Raises
    ------
    ClipmillError : a shard is not there, or damaged
    """

    def __init__(self, published: Published, files: Sequence[OutputFile], columns: Sequence[str]) -> None:
        self._published, self._files, self._columns = published, files, columns
        self._open: _Shard | None = None

    def take(self, shard: int, row: int) -> Row:
        file = self._files[shard]
        with legible(self._published.root, file.path):
            if self._open is None or self._open.path != file.path:
                self.close()
                self._open = _Shard(self._published, file)
            return self._open.row(row, self._columns)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _Shard:
    """An open Parquet file and the row group that was read last."""

    def __init__(self, published: Published, file: OutputFile) -> None:
        self.path = file.path
        self._features = set(published.feature_names)
        self._stream: IO[bytes] = open_checked(published.root, file, whole=False)
        try:
            self.file = pq.ParquetFile(self._stream, pre_buffer=False)
        except BaseException:
            self._stream.close()
            raise
        metadata = self.file.metadata
        self._starts = np.cumsum([0, *(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))])
        self._group = -1
        self._values: dict[str, list[Any]] = {}

    def close(self) -> None:
        self.file.close()
        self._stream.close()

    def row(self, i: int, columns: Sequence[str]) -> Row:
        group = int(np.searchsorted(self._starts, i, side="right")) - 1
        if group != self._group:
            features = [c for c in columns if c in self._features]
            table = self.file.read_row_group(
                group, columns=[*columns, *(f"{c}_shape" for c in features)], use_threads=False
            )
            self._values = {name: _values(table[name]) for name in columns}
            for name in features:
                shapes = table[f"{name}_shape"].to_pylist()
                self._values[name] = [v.reshape(s) for v, s in zip(self._values[name], shapes, strict=True)]
            self._group = group
        place = i - int(self._starts[group])
        return {name: _own(values[place]) for name, values in self._values.items()}


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_list(column.type) and pa.types.is_primitive(column.type.value_type):
        return list_values(column)
    return list(column.to_pylist())


def _own(value: Any) -> Any:
    """Return a value that does not keep its row group in memory; features as float32, or int64 where they are whole numbers."""
    if not isinstance(value, np.ndarray):
        return value
    return np.array(value, np.int64 if value.dtype.kind == "i" else np.float32)
