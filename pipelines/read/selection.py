"""Select clips of a snapshot by thresholds on their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.duplicates import copies
from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.errors import ClipmillError, ConfigError
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


def selected_rows(
    published: Published, paths: list[str], split: str, where: Thresholds | None, without_copies: bool = False
) -> list[npt.NDArray[np.int64]]:
    """Return the rows of some shards of a split that are wanted, for each shard.

    Parameters
    ----------
    paths : of the shards' files
    where : only clips within these thresholds
    without_copies : leave out clips with the samples of an earlier clip of the dataset

    Raises
    ------
    ClipmillError : a shard is too old to tell which of its clips are copies
    """
    left_out = pa.array(sorted(_copies(published)) if without_copies else [], pa.string())
    rows: dict[str, npt.NDArray[np.int64]] = {}
    for part in published.parts:
        if part.split != split:
            continue
        clips = part.table("manifest")
        wanted = pc.invert(pc.is_in(clips["clip_id"], left_out)).to_numpy()
        if where is not None:
            wanted = wanted & pc.is_null(where.rule_of(clips)).to_numpy(zero_copy_only=False)
        start = 0
        for shard in pc.value_counts(clips["shard"].combine_chunks()).to_pylist():  # the clips of a shard are adjacent
            rows[shard["values"]] = np.flatnonzero(wanted[start : start + shard["counts"]])
            start += shard["counts"]
    return [rows.get(path, np.empty(0, np.int64)) for path in paths]


def _copies(published: Published) -> set[str]:
    if old := sum(not shard.has_pcm_sha256 for shard in published.all_shards()):
        raise ClipmillError(
            f"{published.root.url}: {counted(old, 'shard')} of snapshot {published.snapshot.number} were built before clipmill kept the sha256"
            ' of clips, so duplicates="first" cannot be told; build the dataset again under a new root'
        )
    return copies(published.parts)
