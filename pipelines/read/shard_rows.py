"""Rows of Parquet shards, read where they lie, a row group at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.shard_table import CLIP_ID, RowFile, check_alignment, divided
from clipmill.schemas.records import OutputFile
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.storage.root import Root

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
        if self._open is None or self._open.path != file.path:
            self.close()
            self._open = _Shard(self._published, file, self._columns)
        return self._open.row(row)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _Shard:
    """An open shard: its Parquet file, or the one beside it, or both where columns of both are read."""

    def __init__(self, published: Published, file: OutputFile, columns: Sequence[str]) -> None:
        self.path, self._root, self._columns = file.path, published.root, columns
        beside = published.beside(file)
        features = {*published.feature_names}
        own, others = divided(columns, published.names_beside if beside is not None else ())
        self._parts: list[_Part] = []
        with contextlib.ExitStack() as opening:
            for each, names, is_read in ((file, own, own or not others), (beside, others, others)):
                if each is not None and is_read:
                    self._parts.append(_Part(self._root, each, names, features))
                    opening.callback(self._parts[-1].file.close)
            self._stack = opening.pop_all()

    def close(self) -> None:
        self._stack.close()

    def row(self, i: int) -> Row:
        if len(self._parts) == 1:
            return self._parts[0].row(i)
        own, beside = (part.row(i) for part in self._parts)
        check_alignment(self._root, self._parts[1].file, [own[CLIP_ID]], [beside[CLIP_ID]], i)
        return {name: beside[name] if name in beside else own[name] for name in self._columns}


class _Part:
    """An open file of a shard, and the values of the row group that was read last. columns : of it; features : names of features"""

    def __init__(self, root: Root, file: OutputFile, columns: Sequence[str], features: Collection[str]) -> None:
        self._root, self._columns = root, columns
        self._features = [name for name in columns if name in features]
        self.file = RowFile(root, file, [*columns, *(f"{name}_shape" for name in self._features)], whole=False)
        self._group = -1
        self._values: dict[str, list[Any]] = {}

    def row(self, i: int) -> Row:
        group = self.file.group_of(i)
        with legible(self._root, self.file.path):
            if group != self._group:
                table = self.file.group(group)
                self._values = {name: _values(table[name]) for name in self._columns}
                for name in self._features:
                    shapes = table[f"{name}_shape"].to_pylist()
                    self._values[name] = [v.reshape(s) for v, s in zip(self._values[name], shapes, strict=True)]
                self._group = group
            place = i - int(self.file.starts[group])
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
