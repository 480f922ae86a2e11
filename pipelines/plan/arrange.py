"""Collect the rows of the plan as they are made, and return them in the order of the shards.

A million recordings as Python objects take gigabytes. So items become Arrow columns in batches, and the objects are dropped. numpy arrays
keep what decides a row's shard. At the end the columns are sorted one by one, and each is freed before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.pipelines.plan.items import Entry, Item
from clipmill.schemas.keys import position_hash
from clipmill.schemas.tables import ANNOTATION, PLAN

BATCH = 20_000
"""Number of items, or of their annotation rows, that exist as Python objects at a time."""
_MAX_BYTES = 2**31 - 1
"""The most bytes that one array of strings can hold, more than a shard needs."""
_PLACE = ("split", "bucket", "key", "clips_key")
_UNSET = ("expected", "donor", "reason", "detail")


class ItemCollector:
    """Collect the items of a plan.

    fields_of : by source, the names of all fields of its items and their annotations
    """

    def __init__(self) -> None:
        self._split_names: list[str] = []
        self.fields_of: dict[str, set[str]] = {}
        self._columns: dict[str, list[pa.Array]] = {f.name: [] for f in PLAN if f.name not in (*_PLACE, *_UNSET)}
        self._names: list[list[str]] = []  # names of the fields in each batch, in the order of its lists
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._weights: list[npt.NDArray[np.int64]] = []
        self._splits: list[npt.NDArray[np.int32]] = []

    def add(self, items: list[Item], digests: list[str], uri: Callable[[str], str]) -> None:
        """Add a batch of items of one source.

        Parameters
        ----------
        digests : the items' digests
        uri : returns a recording's address, given its path
        """
        names = sorted({name for i in items for name in i.fields} | _names_in_annotations(items))
        self.fields_of.setdefault(items[0].recording.source, set()).update(names)
        self._names.append(names)
        columns = {
            "item_id": [i.item_id for i in items],
            "item_digest": digests,
            "recording_id": [i.recording.recording_id for i in items],
            "source": pa.repeat(items[0].recording.source, len(items)),
            "path": [i.recording.path for i in items],
            "source_uri": [uri(i.recording.path) for i in items],
            "label": [i.label for i in items],
            "fields": _field_lists([i.fields for i in items], names),
            "primary": [i.primary for i in items],
            "size_bytes": [i.recording.size_bytes for i in items],
            "version": [i.recording.version for i in items],
            "span_start_s": [i.span[0] for i in items],
            "span_end_s": [i.span[1] for i in items],
            "annotations": _annotation_lists([i.annotations for i in items], names),
        }
        for name, values in columns.items():
            column = values if isinstance(values, pa.Array) else pa.array(values, PLAN.field(name).type)
            self._columns[name].append(column)
        codes = {name: k for k, name in enumerate(self._split_names)}
        for item in items:
            if item.split not in codes:
                codes[item.split] = len(codes)
                self._split_names.append(item.split)
        self._splits.append(np.array([codes[i.split] for i in items], np.int32))
        self._hashes.append(np.array([position_hash(i.item_id) for i in items], np.uint64))
        self._weights.append(np.array([round(i.weight_s * 1000) for i in items], np.int64))

    def by_split(self) -> Iterator[tuple[str, npt.NDArray[np.intp], npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
        """Yield each split, sorted by name, with its items sorted by hash: their indices, hashes and weights."""
        if not self._hashes:
            return
        splits, hashes = np.concatenate(self._splits), np.concatenate(self._hashes)
        weights = np.concatenate(self._weights)
        for split in sorted(self._split_names):
            members = np.flatnonzero(splits == self._split_names.index(split))
            members = members[np.argsort(hashes[members], kind="stable")]
            yield split, members, hashes[members], weights[members]

    def column(self, name: str, order: list[pa.Array]) -> pa.ChunkedArray:
        """Return a column in another order, one chunk per array of indices. The original column is freed."""
        kind = PLAN.field(name).type
        arrived = pa.chunked_array(self._columns.pop(name), kind)
        if arrived.nbytes > _MAX_BYTES:
            arrived = arrived.cast(_wide(kind))
        whole = arrived.combine_chunks()
        del arrived
        return pa.chunked_array([whole.take(indices).cast(kind) for indices in order], kind)

    def align(self, names: list[str]) -> None:
        """Make the lists of fields in all batches hold values of the same fields, null where a batch does not have one."""
        for k, known in enumerate(self._names):
            if known == names:
                continue
            self._columns["fields"][k] = _aligned(self._columns["fields"][k], known, names)
            lists = self._columns["annotations"][k]
            if lists.null_count == 0:
                rows = lists.values
                children = {f.name: rows.field(f.name) for f in ANNOTATION}
                children["fields"] = _aligned(children["fields"], known, names)
                rows = pa.StructArray.from_arrays(list(children.values()), fields=list(ANNOTATION))
                self._columns["annotations"][k] = pa.ListArray.from_arrays(lists.offsets, rows)
            self._names[k] = names

    def table(self, order: list[pa.Array], digests: pa.ChunkedArray, shards: pa.Table, sizes: list[int]) -> pa.Table:
        """Return the plan's table. The collector is empty afterwards.

        Parameters
        ----------
        order : for each chunk of the plan, the indices of the items that are its rows
        digests : the column `item_digest` in that order
        shards : `split`, `bucket`, `key` and `clips_key`, one row per shard
        sizes : number of items in each shard
        """
        lengths = [len(indices) for indices in order]
        shard_of_row = np.repeat(np.arange(len(sizes)), sizes)
        shard_of = [pa.array(part) for part in np.split(shard_of_row, np.cumsum(lengths)[:-1])]
        columns = {"item_digest": digests}
        for name in PLAN.names:
            if name in _UNSET:
                columns[name] = pa.chunked_array([pa.nulls(n, pa.string()) for n in lengths], pa.string())
            elif name in _PLACE:
                value = shards[name].combine_chunks()
                columns[name] = pa.chunked_array([value.take(indices) for indices in shard_of], pa.string())
            elif name != "item_digest":
                columns[name] = self.column(name, order)
        return pa.table([columns[name] for name in PLAN.names], schema=PLAN)


def batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield items in batches of about `BATCH` items or annotation rows."""
    batch: list[Item] = []
    n_rows = 0
    for item in items:
        batch.append(item)
        n_rows += len(item.annotations or ())
        if max(len(batch), n_rows) >= BATCH:
            yield batch
            batch, n_rows = [], 0
    if batch:
        yield batch


def in_chunks(order: npt.NDArray[np.intp], sizes: list[int]) -> list[pa.Array]:
    """Divide the items of the plan into chunks of about `BATCH` items. A shard is never divided."""
    ends = np.cumsum(sizes)
    cuts = np.unique(np.searchsorted(ends, np.arange(BATCH, len(order), BATCH)))
    return [pa.array(part) for part in np.split(order, ends[cuts]) if len(part)]


def _wide(kind: pa.DataType) -> pa.DataType:
    """Return the same type with strings of any total length."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _wide(f.type)) for f in kind])
    return kind


def _names_in_annotations(items: list[Item]) -> set[str]:
    return {name for i in items if i.annotations for entry in i.annotations for name in entry.fields}


def _lists(lengths: list[int], values: pa.Array) -> pa.ListArray:
    """Return consecutive values as lists of these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _field_lists(rows: list[dict[str, str]], names: list[str]) -> pa.ListArray:
    values = pa.array([row.get(name) for row in rows for name in names], pa.string())
    return _lists([len(names)] * len(rows), values)


def _annotation_lists(rows: list[list[Entry] | None], names: list[str]) -> pa.ListArray:
    """Return the entries of each item. All items of a source have a list, or none has."""
    if rows[0] is None:
        return pa.nulls(len(rows), PLAN.field("annotations").type)
    entries = [entry for row in rows for entry in row or ()]
    children = [
        _field_lists([e.fields for e in entries], names)
        if field.name == "fields"
        else pa.array(list(map(attrgetter(field.name), entries)), field.type)
        for field in ANNOTATION
    ]
    return _lists([len(row or ()) for row in rows], pa.StructArray.from_arrays(children, fields=list(ANNOTATION)))


def _aligned(lists: pa.ListArray, known: list[str], names: list[str]) -> pa.ListArray:
    """Return lists with a value for each of `known` as lists with one for each of `names`, null for those that are new."""
    where = np.array([known.index(name) if name in known else -1 for name in names], np.int64)
    first = np.arange(len(lists), dtype=np.int64)[:, None] * len(known)
    absent = np.broadcast_to(where < 0, (len(lists), len(names)))
    indices = pa.array((first + where).ravel(), mask=absent.ravel())
    return _lists([len(names)] * len(lists), lists.values.take(indices))
