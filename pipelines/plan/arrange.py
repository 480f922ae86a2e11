"""Collect the rows of the plan as they are made, and return them in the order of the shards.

A million recordings as Python objects take gigabytes. So items become Arrow columns in batches, and the objects are dropped. Columns are
sorted in runs, and what is more than `RESIDENT_BYTES` goes to temporary files without names. At the end the runs are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.plan.items import Entry, Item
from clipmill.pipelines.plan.label_rows import Event
from clipmill.pipelines.plan.spill import Spill
from clipmill.schemas.keys import position_hash
from clipmill.schemas.tables import ANNOTATION, PLAN
from clipmill.stages.arrow_rows import replace_column

BATCH = 20_000
"""Number of items, or of their annotation rows, that exist as Python objects at a time."""
RUN, RUN_BYTES = 32_000, 32 << 20
"""A run is sorted when it has this many items, or bytes."""
_LATER = ("bucket", "key", "clips_key", "expected", "donor", "reason", "detail", "excluded")
ITEMS = pa.schema([*(f for f in PLAN if f.name not in _LATER), ("hash", pa.uint64()), ("weight_ms", pa.int64())])
"""One row per item: what the plan has of it, the hash that decides its place, and its weight for sizing shards."""


@dataclass(frozen=True)
class _Run:
    """Sorted items. names : of the fields in the order of their lists; codes : the indices of their splits"""

    table: pa.Table
    names: list[str]
    codes: npt.NDArray[np.int32]
    hashes: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LeftOut:
    """What `ItemCollector.keep` left out.

    recordings, recordings_kept : numbers of recordings
    annotations : number of rows of the items that were left out
    kept_share : of the audio of the clips, which is kept
    """

    recordings: int
    recordings_kept: int
    annotations: int
    kept_share: float


class ItemCollector:
    """Collect the items of a plan."""

    def __init__(self) -> None:
        self._split_names: list[str] = []
        self._waiting: list[tuple[pa.Table, list[str]]] = []
        self._n_waiting = self._bytes_waiting = 0
        self._runs: list[_Run] = []
        self._spill = Spill()

    def add(self, table: pa.Table, names: list[str]) -> None:
        """Add items. table : rows of `ITEMS`; names : of the fields in the order of their lists"""
        if table.num_rows:
            self._waiting.append((table, names))
            self._n_waiting += table.num_rows
            self._bytes_waiting += table.nbytes
        if self._n_waiting >= RUN or self._bytes_waiting >= RUN_BYTES:
            self._sort()

    def _sort(self) -> None:
        """Make a run of the items that wait."""
        names = sorted({name for _, own in self._waiting for name in own})
        table = pa.concat_tables([aligned(t, own, names) for t, own in self._waiting]).combine_chunks()
        self._waiting, self._n_waiting, self._bytes_waiting = [], 0, 0
        splits = table["split"].combine_chunks().dictionary_encode()
        for name in splits.dictionary.to_pylist():
            if name not in self._split_names:
                self._split_names.append(name)
        code_of = np.array([self._split_names.index(name) for name in splits.dictionary.to_pylist()], np.int32)
        codes = code_of[splits.indices.to_numpy()]
        hashes, weights = table["hash"].to_numpy(), table["weight_ms"].to_numpy()
        order = np.lexsort((hashes, codes))
        table = self._spill.put(table.drop_columns(["hash", "weight_ms"]).take(pa.array(order)))
        self._runs.append(_Run(table, names, codes[order], hashes[order], weights[order]))

    def items(self) -> Iterator[pa.Table]:
        """Yield all items as tables of `ITEMS`, without their fields' names and without `hash`."""
        if self._waiting:
            self._sort()
        for run in self._runs:
            yield run.table.append_column("weight_ms", pa.array(run.weights))

    def keep(self, column: str, values: Collection[str]) -> LeftOut:
        """Keep the items with one of these values in a column, and return what the others would have been counted as.

        Of the items of each recording that are kept one is primary afterwards.
        """
        wanted, counted = pa.array(sorted(values), pa.string()), set[str]()
        recordings = annotations = 0
        weight, kept_weight = 0, 0
        for i, run in enumerate(self._runs):
            mask = pc.is_in(run.table[column], value_set=wanted)
            is_kept = mask.to_numpy()
            others, table = run.table.filter(pc.invert(mask)), run.table.filter(mask)
            recordings += pc.sum(run.table["primary"]).as_py() or 0
            annotations += pc.sum(pc.list_value_length(others["annotations"])).as_py() or 0
            weight, kept_weight = weight + int(run.weights.sum()), kept_weight + int(run.weights[is_kept].sum())
            counted.update(table.filter(table["primary"])["recording_id"].to_pylist())
            self._runs[i] = _Run(table, run.names, run.codes[is_kept], run.hashes[is_kept], run.weights[is_kept])
        for i, run in enumerate(self._runs):
            ids, primary = run.table["recording_id"].to_pylist(), run.table["primary"].to_pylist()
            if missing := [k for k, name in enumerate(ids) if name not in counted]:
                for k in missing:
                    primary[k] = ids[k] not in counted
                    counted.add(ids[k])
                table = replace_column(run.table, "primary", pa.array(primary, pa.bool_()))
                self._runs[i] = replace(run, table=table)
        return LeftOut(recordings - len(counted), len(counted), annotations, kept_weight / weight if weight else 1.0)

    def by_split(self) -> Iterator[tuple[str, npt.NDArray[np.intp], npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
        """Yield each split, sorted by name, with its items sorted by hash: their indices, hashes and weights."""
        if self._waiting:
            self._sort()
        if not self._runs:
            return
        codes, hashes = (np.concatenate([getattr(run, name) for run in self._runs]) for name in ("codes", "hashes"))
        weights = np.concatenate([run.weights for run in self._runs])
        for split in sorted(self._split_names):
            members = np.flatnonzero(codes == self._split_names.index(split))
            members = members[np.argsort(hashes[members], kind="stable")]
            yield split, members, hashes[members], weights[members]

    def chunks(self, order: list[npt.NDArray[np.intp]], names: list[str]) -> Iterator[pa.Table]:
        """Yield items in another order, one table without `hash` and `weight_ms` per array of indices, each column in one chunk.

        names : of all fields; their lists hold a value for each, null where an item does not have it
        """
        starts = np.cumsum([0, *(len(run.codes) for run in self._runs)])
        for indices in order:
            arrived = np.sort(indices)
            bounds = np.searchsorted(arrived, starts)
            pieces = []
            for k, run in enumerate(self._runs):
                places = arrived[bounds[k] : bounds[k + 1]] - starts[k]
                if not len(places):
                    continue
                # Items of one split that are neighbours in the plan are so in the run.
                n = len(places)
                is_slice = places[-1] - places[0] == n - 1
                piece = run.table.slice(places[0], n) if is_slice else run.table.take(pa.array(places))
                pieces.append(aligned(piece, run.names, names))
            whole = pa.concat_tables(pieces).combine_chunks()
            yield whole.take(pa.array(np.searchsorted(arrived, indices)))
            self._spill.let_go()


def items_table(items: list[Item], digests: list[str], uri: Callable[[str], str]) -> tuple[pa.Table, list[str]]:
    """Return items of one source as a table, and the names of their fields.

    digests : the items' digests
    uri : returns a recording's address, given its path
    """
    names = sorted({name for i in items for name in i.fields} | _names_in_annotations(items))
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
        "split": [i.split for i in items],
        "size_bytes": [i.recording.size_bytes for i in items],
        "version": [i.recording.version for i in items],
        "span_start_s": [i.span[0] for i in items],
        "span_end_s": [i.span[1] for i in items],
        "annotations": _annotation_lists([i.annotations for i in items], names),
        "events": _event_lists([i.events for i in items]),
        "hash": [position_hash(i.item_id) for i in items],
        "weight_ms": [round(i.weight_s * 1000) for i in items],
    }
    arrays = [v if isinstance(v := columns[f.name], pa.Array) else pa.array(v, f.type) for f in ITEMS]
    return pa.Table.from_arrays(arrays, schema=ITEMS), names


def joined(tables: list[tuple[pa.Table, list[str]]]) -> tuple[pa.Table, list[str]]:
    """Return tables of items as one, and the names of all of their fields."""
    names = sorted({name for _, own in tables for name in own})
    return pa.concat_tables([aligned(t, own, names) for t, own in tables] or [ITEMS.empty_table()]), names


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


def in_chunks(order: npt.NDArray[np.intp], sizes: list[int]) -> list[npt.NDArray[np.intp]]:
    """Divide the items of the plan into chunks of about `BATCH` items. A shard is never divided."""
    ends = np.cumsum(sizes)
    cuts = np.unique(np.searchsorted(ends, np.arange(BATCH, len(order), BATCH)))
    return [part for part in np.split(order, ends[cuts]) if len(part)]


def aligned(table: pa.Table, known: list[str], names: list[str]) -> pa.Table:
    """Return items whose lists of fields hold a value for each of `known` with a value for each of `names`, null for those that are new."""
    if known == names:
        return table
    tables = []
    for batch in table.to_batches():
        columns = {name: batch.column(name) for name in table.column_names}
        columns["fields"] = _aligned(columns["fields"], known, names)
        lists = columns["annotations"]
        rows = lists.flatten()
        children = {f.name: rows.field(f.name) for f in ANNOTATION}
        children["fields"] = _aligned(children["fields"], known, names)
        rows = pa.StructArray.from_arrays(list(children.values()), fields=list(ANNOTATION))
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        columns["annotations"] = _lists(lengths, rows, lists.is_null() if lists.null_count else None)
        tables.append(pa.Table.from_arrays(list(columns.values()), schema=table.schema))
    return pa.concat_tables(tables) if tables else table


def _names_in_annotations(items: list[Item]) -> set[str]:
    return {name for i in items if i.annotations for entry in i.annotations for name in entry.fields}


def _lists(
    lengths: list[int] | npt.NDArray[np.int32], values: pa.Array, absent: pa.BooleanArray | None = None
) -> pa.ListArray:
    """Return consecutive values as lists of these lengths. absent : which of them are null"""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=absent)


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


def _event_lists(events: list[list[Event] | None]) -> pa.ListArray:
    """Return the events of each item. All items of a source have a list, or none has."""
    kind = ITEMS.field("events").type
    if events[0] is None:
        return pa.nulls(len(events), kind)
    return pa.array([[asdict(e) for e in own or ()] for own in events], kind)


def _aligned(lists: pa.ListArray, known: list[str], names: list[str]) -> pa.ListArray:
    """Return lists with a value for each of `known` as lists with one for each of `names`, null for those that are new."""
    where = np.array([known.index(name) if name in known else -1 for name in names], np.int64)
    first = np.arange(len(lists), dtype=np.int64)[:, None] * len(known)
    absent = np.broadcast_to(where < 0, (len(lists), len(names)))
    indices = pa.array((first + where).ravel(), mask=absent.ravel())
    return _lists([len(names)] * len(lists), lists.flatten().take(indices))
