"""Read the Parquet files of a shard as one table: that of its clips, and where features lie beside them, the one with these.

Row i of both files is about the same clip, and both have its id. Where rows are put together the ids are compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.schemas.records import OutputFile
from clipmill.stages.storage.checked import open_checked
from clipmill.stages.storage.root import Root

CLIP_ID = "clip_id"


class RowFile:
    """An open Parquet file of a shard, and the row group that was read last. To be closed.

    columns : to read, in this order; None: all
    whole : whether all of it will be read, as far as is known

    starts : the first row of each row group, and the number of rows

    Raises
    ------
    ClipmillError : the file is missing or damaged
    """

    def __init__(self, root: Root, file: OutputFile, columns: Sequence[str] | None, whole: bool = True) -> None:
        self.path, self._root = file.path, root
        self._columns = list(columns) if columns is not None else None
        self._held: tuple[int, pa.Table] | None = None
        with legible(root, file.path):
            self._stream: IO[bytes] = open_checked(root, file, whole)
            try:
                self._file = pq.ParquetFile(self._stream, pre_buffer=False)
                metadata = self._file.metadata
                sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            except BaseException:
                self._stream.close()
                raise
        self.starts = np.cumsum([0, *sizes])

    @property
    def n_groups(self) -> int:
        return len(self.starts) - 1

    def group_of(self, row: int) -> int:
        """Return the row group that holds a row."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def group(self, i: int) -> pa.Table:
        """Return a row group."""
        if self._held is None or self._held[0] != i:
            with legible(self._root, self.path):
                self._held = i, self._file.read_row_group(i, columns=self._columns, use_threads=False)
        return self._held[1]

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return the rows [start, stop), at least one."""
        pieces = []
        while start < stop:
            group = self.group_of(start)
            first, last = int(self.starts[group]), int(self.starts[group + 1])
            pieces.append(self.group(group).slice(start - first, min(stop, last) - start))
            start = last
        return pa.concat_tables(pieces)

    def close(self) -> None:
        self._held = None
        self._file.close()
        self._stream.close()


def divided(columns: Sequence[str], names_beside: Collection[str]) -> tuple[list[str], list[str]]:
    """Return which columns to read of a shard's audio file, and which of the file beside it; none of a file that is not needed.

    With columns of both files the clip's id is read of both, to be compared.
    """
    beside = [name for name in columns if name in names_beside]
    own = [name for name in columns if name not in names_beside]
    if not beside:
        return own, []
    if {*own} <= {CLIP_ID}:
        return [], list(columns)
    return list(dict.fromkeys([CLIP_ID, *own])), [CLIP_ID, *beside]


def check_alignment(root: Root, beside: RowFile, ids: Sequence[str], ids_beside: Sequence[str], start: int) -> None:
    """Raise ClipmillError if rows of a file beside a shard are about other clips than those of the audio file. start : the first row"""
    if ids == ids_beside:
        return
    i, own, other = next((i, a, b) for i, (a, b) in enumerate(zip(ids, ids_beside, strict=True)) if a != b)
    with legible(root, beside.path):
        raise ValueError(f"row {start + i} is about clip {other}, and that of the audio file about clip {own}")


def shard_tables(
    root: Root,
    file: OutputFile,
    beside: OutputFile | None,
    columns: Sequence[str],
    names_beside: Collection[str],
    whole: bool = True,
) -> Iterator[pa.Table]:
    """Yield the rows of a shard, a row group at a time.

    Parameters
    ----------
    file, beside : its Parquet file, and the one that lies beside it, None if there is none
    columns : to read, in this order
    names_beside : columns that lie in the second file
    whole : whether all of the files will be read, as far as is known

    Raises
    ------
    ClipmillError : a file is missing or damaged, or the rows of the two do not belong together
    """
    own, others = divided(columns, names_beside if beside is not None else ())
    with contextlib.ExitStack() as stack:
        first = RowFile(root, file, own, whole) if own or not others else None
        second = RowFile(root, beside, others, whole) if beside is not None and others else None
        for each in (first, second):
            if each is not None:
                stack.callback(each.close)
        leading = first or second
        assert leading is not None  # noqa: S101 - columns of one file at least
        for group in range(leading.n_groups):
            table = leading.group(group)
            if first is not None and second is not None:
                start, stop = int(first.starts[group]), int(first.starts[group + 1])
                with legible(root, second.path):
                    if second.starts[-1] != first.starts[-1]:
                        raise ValueError(f"it has {second.starts[-1]} rows, and the audio file {first.starts[-1]}")
                more = second.rows(start, stop)
                check_alignment(root, second, table[CLIP_ID].to_pylist(), more[CLIP_ID].to_pylist(), start)
                for name in others[1:]:
                    table = table.append_column(more.schema.field(name), more[name])
            with legible(root, leading.path):
                table = table.select(list(columns))
            yield table
