"""The clips of a snapshot as a table in memory: all of them, or a sample of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import IndexPart, in_turn
from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.label_columns import EVENTS_COLUMN, LABELS_COLUMN
from clipmill.schemas.tables import PCM_SHA256
from clipmill.stages.write.ledger import originals

SHARD_ROW = "shard_row"
"""Column with the place of a clip in its shard, counted from 0."""
_LEFT_OUT = (PCM_SHA256.name, EVENTS_COLUMN)


@dataclass(frozen=True)
class ClipTable:
    """Clips of a snapshot, without the copies that `augment` made.

    table : rows of the manifest with `SHARD_ROW`, in its order
    n_all : number of clips that the snapshot has
    """

    table: pa.Table
    n_all: int

    @property
    def is_sample(self) -> bool:
        """Whether these are not all clips."""
        return bool(self.table.num_rows < self.n_all)

    @property
    def has_lists(self) -> bool:
        """Whether clips can have several labels."""
        return _is_list(self.table, LABELS_COLUMN)

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column of numbers: float64 [n_clips], NaN where there is none."""
        return numbers_of(self.table, name)

    @cached_property
    def labels(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
        """The labels of the clips as pairs: rows [n_pairs] and indices [n_pairs] into the names of labels, which are sorted.

        A clip without a label has none; one with several has one pair for each.
        """
        column = self.table["label"].combine_chunks()
        is_labelled = column.is_valid()
        if self.has_lists:
            lists = self.table[LABELS_COLUMN].combine_chunks()
            is_labelled = pc.and_(is_labelled, lists.is_null())  # clips of other sources have one label at most
        rows, values = np.flatnonzero(is_labelled.to_numpy(zero_copy_only=False)), column.filter(is_labelled)
        if self.has_lists:
            rows = np.concatenate([rows, pc.list_parent_indices(lists).to_numpy()])
            values = pa.concat_arrays([values, pc.list_flatten(lists)])
        encoded = values.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        place = np.empty(len(names), np.int64)
        place[order] = np.arange(len(names))
        return rows.astype(np.int64), place[encoded.indices.to_numpy()], [names[i] for i in order]

    def row(self, index: int) -> dict[str, Any]:
        """Return one clip as plain data."""
        return {name: self.table[name][index].as_py() for name in self.table.column_names}


def read_clips(
    published: Published, most: int | None = None, seed: int = 0, parts_of_split: int | None = None
) -> ClipTable:
    """Return the clips of a snapshot.

    Parameters
    ----------
    most : about the number of clips to sample where the snapshot has more of them; None: all
    seed : of the sample; the same seed gives the same clips of a snapshot
    parts_of_split : read at most so many parts of each split's index, chosen at random; None: all

    Raises
    ------
    ClipmillError : a part of the index is missing or damaged
    """
    n_stored = published.snapshot.counts.clips_stored
    share = 1.0 if most is None or n_stored <= most else most / n_stored

    def clips_of(numbered: tuple[int, IndexPart]) -> pa.Table:
        index, part = numbered
        rows = part.table("manifest")
        rows = originals(rows.append_column(SHARD_ROW, pa.array(_places(rows["shard"]))))
        rows = rows.drop_columns([name for name in _LEFT_OUT if name in rows.column_names])
        if share < 1:
            wanted = np.random.default_rng([seed, index]).random(rows.num_rows) < share
            rows = rows.filter(pa.array(wanted))
        return rows

    parts = [part for part in published.parts if part.split in published.splits]
    if parts_of_split is not None:
        parts = _some_of_each_split(parts, parts_of_split, seed)
    tables = list(in_turn(published.root, clips_of, list(enumerate(parts))))
    if not tables:
        fields = [("clip_id", pa.string()), ("recording_id", pa.string()), ("source", pa.string())]
        fields += [("label", pa.string()), ("split", pa.string()), ("duration_s", pa.float64())]
        tables = [pa.schema([*fields, ("shard", pa.string()), (SHARD_ROW, pa.int64())]).empty_table()]
    return ClipTable(pa.concat_tables(tables, promote_options="default"), published.snapshot.counts.clips_kept)


def _some_of_each_split(parts: Sequence[IndexPart], n: int, seed: int) -> list[IndexPart]:
    chances = np.random.default_rng([seed, len(parts)]).permutation(len(parts)).tolist()
    found: list[IndexPart] = []
    for split in sorted({part.split for part in parts}):
        own = [i for i, part in enumerate(parts) if part.split == split]
        found += [parts[i] for i in sorted(sorted(own, key=chances.__getitem__)[:n])]
    return found


def numbers_of(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Return a column as float64 [n_rows], NaN where it is null."""
    values: npt.NDArray[np.float64] = table[name].to_numpy().astype(np.float64)
    return values


def _places(shards: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the place of each row among the rows of its shard, which are adjacent."""
    n = len(shards)
    if not n:
        return np.empty(0, np.int64)
    codes = shards.combine_chunks().dictionary_encode().indices.to_numpy()
    is_first = np.r_[True, codes[1:] != codes[:-1]]
    starts = np.flatnonzero(is_first)
    return np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))


def _is_list(table: pa.Table, name: str) -> bool:
    at = table.schema.get_field_index(name)
    return bool(at >= 0 and pa.types.is_list(table.schema.field(at).type))


def text_columns(table: pa.Table, but: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns of text."""
    return [f.name for f in table.schema if pa.types.is_string(f.type) and f.name not in but]
