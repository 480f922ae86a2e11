"""Select clips of a snapshot by thresholds on their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.duplicates import copies
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.read.label_balance import label_groups
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.plural import counted
from clipmill.schemas.thresholds import Thresholds, as_thresholds, is_number


def thresholds_for(published: Published, where: Any, name: str = "where") -> Thresholds | None:
    """Return thresholds that fit a snapshot; None if `where` is None.

    where : as in `{"snr_db": {"min": 15}}`
    name : what the user calls them

    Raises
    ------
    ConfigError : it does not have this form, or names a column that is missing or does not hold numbers
    """
    if where is None:
        return None
    try:
        thresholds = as_thresholds(where)
        thresholds.check_columns(number_columns(published))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}", code="usage") from None
    return thresholds


def number_columns(published: Published) -> list[str]:
    """Return the columns that thresholds can bound: those of the manifest that hold numbers."""
    kinds = {column["name"]: column.get("type", "") for column in published.columns if column.get("kind") == "clip"}
    return [name for name, kind in kinds.items() if is_number(_type(kind))]


def _type(name: str) -> pa.DataType:
    try:
        return pa.type_for_alias(name)
    except ValueError:
        return pa.null()


def selected(table: pa.Table, where: Thresholds | None) -> pa.Table:
    """Return the rows of a manifest that are within the thresholds."""
    return table if where is None else table.filter(pc.is_null(where.rule_of(table)))


@dataclass(frozen=True)
class Selected:
    """The clips of shards that are wanted.

    rows : of each shard, the rows of its file
    groups : of each wanted clip, shard by shard, the number of its label; None unless it was asked for
    """

    rows: list[npt.NDArray[np.int64]]
    groups: npt.NDArray[np.int64] | None = None


def selected_rows(
    published: Published,
    paths: list[str],
    splits: Sequence[str],
    where: Thresholds | None,
    without_copies: bool = False,
    by_label: bool = False,
) -> Selected:
    """Return the rows of some shards of splits that are wanted, for each shard.

    Parameters
    ----------
    paths : of the shards' files
    where : only clips within these thresholds
    without_copies : leave out clips with the samples of an earlier clip of the dataset
    by_label : return the groups as well

    Raises
    ------
    ClipmillError : a shard is too old to tell which of its clips are copies
    """
    left_out = pa.array(sorted(_copies(published)) if without_copies else [], pa.string())
    label = LABELS_COLUMN if LABELS_COLUMN in published.snapshot.label_lists else "label"
    columns = ["clip_id", "shard", *(where.columns if where is not None else ()), *([label] if by_label else ())]
    rows: dict[str, npt.NDArray[np.int64]] = {}
    labels: dict[str, pa.ChunkedArray] = {}
    for part in published.parts:
        if part.split not in splits:
            continue
        clips = part.table("manifest", list(dict.fromkeys(columns)))
        wanted = pc.invert(pc.is_in(clips["clip_id"], left_out)).to_numpy()
        if where is not None:
            wanted = wanted & pc.is_null(where.rule_of(clips)).to_numpy(zero_copy_only=False)
        start = 0
        for shard in pc.value_counts(clips["shard"].combine_chunks()).to_pylist():  # the clips of a shard are adjacent
            path, n_clips = shard["values"], shard["counts"]
            rows[path] = np.flatnonzero(wanted[start : start + n_clips])
            if by_label:
                labels[path] = clips[label].slice(start, n_clips).take(rows[path])
            start += n_clips
    chosen = [rows.get(path, np.empty(0, np.int64)) for path in paths]
    if not by_label:
        return Selected(chosen)
    chunks = [chunk for path in paths if path in labels for chunk in labels[path].chunks]
    return Selected(chosen, label_groups(pa.chunked_array(chunks)) if chunks else np.empty(0, np.int64))


def _copies(published: Published) -> set[str]:
    if old := sum(not shard.has_pcm_sha256 for shard in published.all_shards()):
        raise ClipmillError(
            f"{published.root.url}: {counted(old, 'shard')} of snapshot {published.snapshot.number} were built before clipmill kept the sha256"
            ' of clips, so duplicates="first" cannot be told; build the dataset again under a new root'
        )
    return copies(published.parts)
