"""Select clips of a snapshot by thresholds on their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.outcomes import clips_of
from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.errors import ConfigError
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


def selected_rows(published: Published, paths: list[str], split: str, where: Thresholds) -> list[npt.NDArray[np.int64]]:
    """Return the rows that are within the thresholds, for each of some shards of a split. paths : of the shards' files"""
    by_path = {
        output.path: commit for commit in published.commits if commit.split == split for output in commit.outputs
    }
    rows = []
    for path in paths:
        clips = clips_of(published.root, by_path[path])
        rows.append(np.flatnonzero(pc.is_null(where.rule_of(clips)).to_numpy(zero_copy_only=False)))
    return rows
