"""Find clips that are exact copies of others by the sha256 of their samples, and splits that share clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import IndexPart
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.stages.write.ledger import originals

DUPLICATES = pa.schema(
    [
        ("pcm_sha256", pa.string()),
        ("clip_id", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),  # several with commas between them
        ("recording_id", pa.string()),
        ("first", pa.bool_()),  # the first of the clips with these samples, in the order of the manifest
    ]
)
"""One row per clip that has the samples of another: the file `duplicates.parquet` of a snapshot."""

_READ = ["pcm_sha256", "clip_id", "label", "recording_id"]


@dataclass(frozen=True)
class Duplicates:
    """What a snapshot's clips have in common.

    table : rows of `DUPLICATES`, in the order of the manifest
    clips : clips that are copies of an earlier one
    across_splits : groups of equal clips that are in more than one split
    labels : groups of equal clips with different labels
    unknown : clips in shards that were built before the samples' sha256 was kept
    """

    table: pa.Table
    clips: int
    across_splits: int
    labels: int
    unknown: int

    @property
    def counts(self) -> dict[str, int]:
        """The numbers without zeros, for a snapshot's record."""
        counts = {
            "clips": self.clips,
            "across_splits": self.across_splits,
            "labels": self.labels,
            "unknown": self.unknown,
        }
        return {name: n for name, n in counts.items() if n}


def find_duplicates(parts: Sequence[IndexPart]) -> Duplicates:
    """Return the clips of an index that have the samples of another clip.

    A few bytes of each clip's sha256 tell which clips may have a copy. Only parts that hold such clips are read.

    Raises
    ------
    ClipmillError : a part of the index is missing or damaged
    """
    hashes, unknown = [], 0
    for part in parts:
        table = part.table("pcm")
        is_known = pc.is_valid(table["hashes"])
        if not pc.all(is_known, min_count=0).as_py():
            shards = part.table("shards", ["key", "clips_kept"])
            old = set(table["key"].filter(pc.invert(is_known)).to_pylist())
            unknown += sum(row["clips_kept"] for row in shards.to_pylist() if row["key"] in old)
        hashes.append(np.frombuffer(b"".join(table["hashes"].drop_null().to_pylist()), np.uint64))
    ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    tables = []
    for part, own in zip(parts, hashes, strict=True):
        if len(repeated) and np.isin(own, repeated).any():
            rows = originals(part.table("manifest", None))
            rows = _with_one_text(rows.filter(pc.is_valid(rows["pcm_sha256"])))
            tables.append(rows.select([*_READ, "split"]))
    if not tables:
        return Duplicates(DUPLICATES.empty_table(), 0, 0, 0, unknown)
    clips = pa.concat_tables(tables)
    again = is_repeated(clips["pcm_sha256"])
    groups = clips.filter(pc.is_in(clips["pcm_sha256"], pc.unique(clips["pcm_sha256"].filter(pa.array(again)))))
    groups = groups.append_column("first", pa.array(~is_repeated(groups["pcm_sha256"])))
    across, labels = (_n_mixed(groups, name) for name in ("split", "label"))
    return Duplicates(groups.select(DUPLICATES.names).cast(DUPLICATES), int(again.sum()), across, labels, unknown)


def _with_one_text(rows: pa.Table) -> pa.Table:
    """Return rows of a manifest in which the label is the text of all labels, if clips can have several."""
    at = rows.schema.get_field_index(LABELS_COLUMN)
    if at < 0 or not pa.types.is_list(rows.schema.field(at).type):
        return rows
    texts = [", ".join(own) if own else None for own in rows[LABELS_COLUMN].to_pylist()]
    return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(texts, pa.string()))


def is_repeated(values: pa.ChunkedArray) -> np.ndarray:
    """Return which values occurred before: bool [n_rows]."""
    _, first = np.unique(values.combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)
    repeated = np.ones(len(values), bool)
    repeated[first] = False
    return repeated


def _n_mixed(groups: pa.Table, name: str) -> int:
    """Return the number of groups of equal clips with several values in a column."""
    if not groups.num_rows:
        return 0
    counts = groups.group_by("pcm_sha256", use_threads=False).aggregate(
        [(name, "count_distinct", pc.CountOptions(mode="all"))]
    )
    return int(pc.sum(pc.greater(counts[f"{name}_count_distinct"], 1)).as_py() or 0)


def copies(parts: Sequence[IndexPart]) -> set[str]:
    """Return the ids of the clips that are copies of an earlier one, over all splits."""
    table = find_duplicates(parts).table
    return set(table.filter(pc.invert(table["first"]))["clip_id"].to_pylist())
