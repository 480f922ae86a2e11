"""Describe how the numbers in a column are spread over the clips of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.amounts import in_order
from clipmill.pipelines.reports.clip_table import ClipTable
from clipmill.schemas.columns import Column
from clipmill.schemas.thresholds import is_number

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_BINS, _FEWEST_BINS = 40, 8
_OUTER = 0.005
"""The share of values at each end that is shown in the outermost bins where the values reach much further."""
_CONSTANT = ("start_s", "n_samples", "n_channels", "sample_rate_hz")
"""Columns that say nothing of their own about how clips sound. Rates and numbers of channels are shown where they differ."""


@dataclass(frozen=True)
class Spread:
    """How the values of a column are spread.

    name, unit, meaning : of the column
    overall : the values at `QUANTILES` over all splits, without unknown and infinite ones; empty without values
    quantiles : the same by split
    edges : of bins, [n_bins + 1]
    counts : by split, values in each bin, [n_bins]
    unknown, infinite : number of clips without a value, and with an infinite one, which no bin has
    is_cut : whether values beyond the edges are in the outermost bins
    """

    name: str
    unit: str
    meaning: str
    overall: Sequence[float]
    quantiles: Mapping[str, Sequence[float]]
    edges: Sequence[float]
    counts: Mapping[str, Sequence[int]]
    unknown: int
    infinite: int
    is_cut: bool


def number_columns(published: Published) -> list[Column]:
    """Return the columns of numbers of a snapshot's clips: lengths and levels first, then what was measured."""
    import pyarrow as pa

    def is_of_numbers(column: Column) -> bool:
        try:
            return is_number(pa.type_for_alias(column.get("type", "")))
        except ValueError:
            return False

    return [column for column in published.columns if column.get("kind") == "clip" and is_of_numbers(column)]


def spreads(published: Published, clips: ClipTable) -> list[Spread]:
    """Return the spread of each column of numbers that tells clips apart."""
    found = []
    splits = np.asarray(clips.table["split"].to_pylist(), dtype=object)
    for column in number_columns(published):
        name = column["name"]
        if name not in clips.table.column_names:
            continue
        values = clips.numbers(name)
        if name in _CONSTANT and (name in _CONSTANT[:2] or len(np.unique(values[~np.isnan(values)])) < 2):
            continue
        found.append(_spread(column, values, splits, published.splits))
    return found


def _spread(column: Column, values: npt.NDArray[np.float64], splits: Any, names: Sequence[str]) -> Spread:
    is_finite = np.isfinite(values)
    edges, is_cut = _edges(values[is_finite])
    quantiles, counts = {}, {}
    for split in in_order(names):
        own = values[is_finite & (splits == split)]
        if len(own):
            quantiles[split] = np.quantile(own, QUANTILES).tolist()
            counts[split] = np.histogram(np.clip(own, edges[0], edges[-1]), edges)[0].tolist()
    return Spread(
        name=column["name"],
        unit=str(column.get("unit", "")),
        meaning=str(column.get("meaning", "")),
        overall=np.quantile(values[is_finite], QUANTILES).tolist() if is_finite.any() else [],
        quantiles=quantiles,
        edges=edges.tolist(),
        counts=counts,
        unknown=int(np.isnan(values).sum()),
        infinite=int(np.isinf(values).sum()),
        is_cut=is_cut,
    )


def _edges(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], bool]:
    """Return the edges of bins for finite values, and whether values lie beyond them."""
    if not len(values):
        return np.array([0.0, 1.0]), False
    n_bins = min(_BINS, max(_FEWEST_BINS, round(2 * len(values) ** 0.5)))
    least, greatest = float(values.min()), float(values.max())
    low, high = np.quantile(values, [_OUTER, 1 - _OUTER])
    is_cut = bool(high > low and greatest - least > 3 * (high - low))
    if is_cut:
        least, greatest = float(low), float(high)
    if greatest <= least:
        margin = max(abs(least) * 0.01, 0.5)
        return np.array([least - margin, least + margin]), False
    if np.all(values == np.round(values)) and greatest - least < _BINS:  # whole numbers have a bin each
        return np.arange(np.floor(least) - 0.5, np.ceil(greatest) + 1), is_cut
    return np.linspace(least, greatest, n_bins + 1), is_cut
