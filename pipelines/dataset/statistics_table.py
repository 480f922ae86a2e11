"""Return the statistics of a snapshot as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from clipmill.schemas.records import Snapshot
from clipmill.schemas.statistics import FeatureSums, Statistics

_LENGTHS = ("duration_s", "mean_duration_s", "std_duration_s", "min_duration_s", "max_duration_s")


def statistics_table(snapshot: Snapshot, features: Sequence[str]) -> pa.Table:
    """Return the table that `Published.statistics` describes: one row per split, sorted by split. features : names of the features"""
    rows = []
    for split, sums in sorted(snapshot.by_split.items()):
        statistics = snapshot.statistics.get(split, Statistics())
        row = {
            "split": split,
            "clips": int(sums["clips"]),
            "shards": int(sums["shards"]),
            "duration_s": sums["seconds"],
        }
        lengths = statistics.lengths
        if lengths.clips and lengths.clips == row["clips"]:
            row |= {"mean_duration_s": lengths.mean_s, "std_duration_s": lengths.std_s}
            row |= {"min_duration_s": lengths.min_s, "max_duration_s": lengths.max_s}
            for name in features:
                row |= _of_feature(name, statistics.features.get(name, FeatureSums()))
        rows.append(row)
    fields = [("split", pa.string()), ("clips", pa.int64()), ("shards", pa.int64())]
    fields += [(name, pa.float64()) for name in _LENGTHS]
    for name in features:
        fields += [(f"{name}_mean", pa.float64()), (f"{name}_std", pa.float64())]
        fields += [(f"{name}_mean_by_bin", pa.list_(pa.float64())), (f"{name}_std_by_bin", pa.list_(pa.float64()))]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _of_feature(name: str, sums: FeatureSums) -> dict[str, object]:
    if not sums.n:
        return {}
    return {
        f"{name}_mean": sums.mean,
        f"{name}_std": sums.std,
        f"{name}_mean_by_bin": sums.mean_by_bin,
        f"{name}_std_by_bin": sums.std_by_bin,
    }
