"""Hold the recordings of a source as columns, sorted by path, in memory or in a temporary file: ten million objects would take gigabytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.plan.spill import RESIDENT_BYTES, SpillStream

_BATCH = 20_000
_COLUMNS = pa.schema([("path", pa.string()), ("size_bytes", pa.int64()), ("version", pa.string())])


@dataclass(slots=True)
class Recording:
    """A file to read. path : relative to the source's root, with ``/`` between its parts.

    One is made for each listed file. So it has slots, and it is not frozen, which would make it three times slower to create.
    """

    source: str
    path: str
    size_bytes: int
    version: str

    @property
    def recording_id(self) -> str:
        return f"{self.source}/{self.path}"


class RecordingList(Sequence[Recording]):
    """The recordings of a source. They are objects only while they are iterated."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._new: tuple[list[str], list[int], list[str]] = [], [], []
        self._batches: list[pa.RecordBatch] = []
        self._n = 0

    def add(self, path: str, size_bytes: int, version: str) -> None:
        """Add a recording."""
        paths, sizes, versions = self._new
        paths.append(path)
        sizes.append(size_bytes)
        versions.append(version)
        self._n += 1
        if len(paths) == _BATCH:
            self._close_batch()

    def sort(self) -> None:
        """Sort the recordings by path, as Python sorts texts: UTF-8 has the order of the code points."""
        self._close_batch()
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches)
        self._batches = []
        order = pc.sort_indices(table["path"])
        self._batches = [batch for chunk in _in_order(table, order) for batch in chunk.to_batches()]

    def keep_if(self, wanted: Callable[[str], bool]) -> None:
        """Remove the recordings whose path is not wanted."""
        self._close_batch()
        self._batches = [b.filter(pa.array([wanted(p) for p in b["path"].to_pylist()])) for b in self._batches]
        self._n = sum(batch.num_rows for batch in self._batches)

    @property
    def paths(self) -> list[str]:
        """Paths of all recordings."""
        self._close_batch()
        return [path for batch in self._batches for path in batch["path"].to_pylist()]

    def copy(self) -> RecordingList:
        """Return a list that can be drained independently."""
        self._close_batch()
        other = RecordingList(self._source)
        other._batches, other._n = list(self._batches), self._n
        return other

    def drained(self) -> Iterator[Recording]:
        """Yield the recordings, and forget them."""
        self._close_batch()
        self._batches.reverse()
        while self._batches:
            batch = self._batches.pop()
            self._n -= batch.num_rows
            yield from self._objects(batch)

    def _objects(self, batch: pa.RecordBatch) -> Iterator[Recording]:
        columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        return (Recording(self._source, path, size, version) for path, size, version in columns)

    def _close_batch(self) -> None:
        if self._new[0]:
            arrays = [pa.array(values, field.type) for values, field in zip(self._new, _COLUMNS, strict=True)]
            self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=_COLUMNS))
            self._new = [], [], []

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Recording]:
        self._close_batch()
        return (recording for batch in self._batches for recording in self._objects(batch))

    @overload
    def __getitem__(self, index: int) -> Recording: ...
    @overload
    def __getitem__(self, index: slice) -> list[Recording]: ...
    def __getitem__(self, index: int | slice) -> Recording | list[Recording]:
        self._close_batch()
        if isinstance(index, slice):
            return list(self)[index]
        at = range(self._n)[index]
        for batch in self._batches:
            if at < batch.num_rows:
                return next(self._objects(batch.slice(at, 1)))
            at -= batch.num_rows
        raise IndexError(index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _in_order(table: pa.Table, order: pa.Array) -> Iterator[pa.Table]:
    """Yield a sorted table, from a temporary file if it is large.

    A chunk of neighbours is gathered from few chunks, since a listing has the files of a folder together.
    """
    starts = np.cumsum([0, *(batch.num_rows for batch in table.to_batches())])
    batches = table.to_batches()
    stream = SpillStream(table.schema) if table.nbytes > RESIDENT_BYTES else None
    for i in range(0, len(order), _BATCH):
        indices = order.slice(i, _BATCH).to_numpy().astype(np.int64)
        arrived = np.sort(indices)
        bounds = np.searchsorted(arrived, starts)
        pieces = [
            batches[k].take(pa.array(arrived[a:b] - starts[k])) for k, (a, b) in enumerate(pairwise(bounds)) if a < b
        ]
        chunk = pa.Table.from_batches(pieces).combine_chunks().take(pa.array(np.searchsorted(arrived, indices)))
        if stream is None:
            yield chunk
        else:
            stream.write(chunk)
    if stream is not None:
        del batches, table
        yield stream.finish()[0]
