"""Find clips of a snapshot quickly: by label, split, ranges of columns and text, in the order of any column, a page at a time."""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.reports.clip_table import SHARD_ROW, ClipTable, text_columns
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.label_columns import LABELS_COLUMN

Rows = npt.NDArray[np.int64]
MOST_PER_PAGE = 200
_KEPT_ORDERS, _KEPT_RESULTS = 12, 8
_NOT_SEARCHED = ("split", "source_uri", "shard")


@dataclass(frozen=True)
class Query:
    """What clips to find.

    text : which one of a clip's texts contains, in any case
    splits, labels : any of these; empty: all
    without_label : also, or only, clips without a label
    ranges : bounds of columns, each inclusive; None: not bounded
    marked : only clips that are marked, or that are not; None: both
    sort : column; empty: the order of the manifest
    """

    text: str = ""
    splits: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    without_label: bool = False
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    marked: bool | None = None
    sort: str = ""
    descending: bool = False

    def __hash__(self) -> int:
        return hash((self.text, self.splits, self.labels, self.without_label, tuple(sorted(self.ranges)), self.sort))


class ClipIndex:
    """The clips of a snapshot, ready to be searched. It is not changed after it was made.

    clips : of the snapshot
    numbers : the names of columns of numbers
    """

    def __init__(self, clips: ClipTable, numbers: Sequence[str]) -> None:
        self.clips = clips
        self.numbers = [name for name in numbers if name in clips.table.column_names]
        self.texts = [name for name in text_columns(clips.table) if name not in _NOT_SEARCHED]
        self._values = {name: clips.numbers(name) for name in self.numbers}
        self._splits = clips.table["split"].combine_chunks().dictionary_encode()
        self._orders: OrderedDict[str, tuple[Rows, int]] = OrderedDict()
        self._results: OrderedDict[tuple[Query, Collection[str]], Rows] = OrderedDict()

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """The row of each clip, by id."""
        return {clip_id: i for i, clip_id in enumerate(self.clips.table["clip_id"].to_pylist())}

    @cached_property
    def _searched(self) -> pa.ChunkedArray:
        """The texts of each clip as one, in lower case."""
        table = self.clips.table
        columns = [table[name].fill_null("") for name in self.texts]
        if self.clips.has_lists:
            joined = pc.binary_join(table[LABELS_COLUMN].combine_chunks(), " ")
            columns.append(pa.chunked_array([joined]).fill_null(""))
        return pc.utf8_lower(pc.binary_join_element_wise(*columns, "\n"))

    @property
    def sortable(self) -> list[str]:
        """The names of the columns by which clips can be sorted."""
        return [*self.numbers, *(name for name in (*self.texts, "split") if name in self.clips.table.column_names)]

    def find(self, query: Query, marked: Collection[str] = frozenset()) -> Rows:
        """Return the rows of the clips that a query asks for, in its order: int64 [n_found].

        marked : the ids of the clips that are marked

        Raises
        ------
        ConfigError : there is no such column
        """
        relevant = marked if query.marked is not None else frozenset()
        key = (query, frozenset(relevant))
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key]
        chosen = self._mask(query, relevant)
        if query.sort:
            order, n_known = self._order(query.sort)
            known, unknown = order[:n_known], order[n_known:]
            order = np.concatenate([known[::-1], unknown]) if query.descending else order
            found = order[chosen[order]]
        else:
            found = np.flatnonzero(chosen)
            found = found[::-1] if query.descending else found
        self._results[key] = found
        while len(self._results) > _KEPT_RESULTS:
            self._results.popitem(last=False)
        return found

    def page(self, rows: Rows, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return some of the rows as plain data, without where their audio is."""
        part = self.clips.table.take(pa.array(rows[offset : offset + min(limit, MOST_PER_PAGE)]))
        found: list[dict[str, Any]] = part.drop_columns(["shard", SHARD_ROW]).to_pylist()
        return found

    def _mask(self, query: Query, marked: Collection[str]) -> npt.NDArray[np.bool_]:
        """Return which clips a query asks for: bool [n_clips]."""
        n = self.clips.table.num_rows
        chosen = np.ones(n, bool)
        if query.splits:
            wanted = [i for i, name in enumerate(self._splits.dictionary.to_pylist()) if name in query.splits]
            chosen &= np.isin(self._splits.indices.to_numpy(), wanted)
        if query.labels or query.without_label:
            chosen &= self._labelled(query)
        for name, (least, greatest) in query.ranges.items():
            if name not in self._values:
                raise ConfigError(f"there is no column of numbers {name!r}", code="usage")
            values = self._values[name]
            with np.errstate(invalid="ignore"):
                chosen &= ~np.isnan(values)
                chosen &= values >= least if least is not None else True
                chosen &= values <= greatest if greatest is not None else True
        if query.text:
            wanted_text = unicodedata.normalize("NFC", query.text).lower()
            chosen &= pc.match_substring(self._searched, wanted_text).to_numpy()
        if query.marked is not None:
            is_marked = np.zeros(n, bool)
            is_marked[[self.row_of[clip_id] for clip_id in marked if clip_id in self.row_of]] = True
            chosen &= is_marked if query.marked else ~is_marked
        return chosen

    def _labelled(self, query: Query) -> npt.NDArray[np.bool_]:
        rows, codes, names = self.clips.labels
        found = np.zeros(self.clips.table.num_rows, bool)
        wanted = [i for i, name in enumerate(names) if name in query.labels]
        found[rows[np.isin(codes, wanted)]] = True
        if query.without_label:
            is_labelled = np.zeros(len(found), bool)
            is_labelled[rows] = True
            found |= ~is_labelled
        return found

    def _order(self, name: str) -> tuple[Rows, int]:
        """Return the rows in ascending order of a column, those without a value last, and the number of those with one."""
        if name not in self.sortable:
            raise ConfigError(f"there is no column {name!r} to sort by", code="usage")
        if name not in self._orders:
            if name in self._values:
                order = np.argsort(self._values[name], kind="stable")
                n_known = int((~np.isnan(self._values[name])).sum())
            else:
                column = self.clips.table[name].combine_chunks()
                order = pc.array_sort_indices(column, null_placement="at_end").to_numpy().astype(np.int64)
                n_known = len(column) - column.null_count
            self._orders[name] = order, n_known
            while len(self._orders) > _KEPT_ORDERS:
                self._orders.popitem(last=False)
        return self._orders[name]
