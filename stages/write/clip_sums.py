"""Sum statistics over the clips of a shard while it is written. The sums do not depend on how clips arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.statistics import LENGTH_EDGES_S, FeatureSums, Lengths, Statistics
from clipmill.stages.arrow_rows import list_values


class ShardStatistics:
    """Sums over tables of `clipmill.schemas.tables.shard_schema`; the result is a `clipmill.schemas.statistics.Statistics`.

    feature_names : columns of values, each of which has a second column with shapes
    """

    def __init__(self, feature_names: Sequence[str]) -> None:
        self._features = {name: _BinSums() for name in feature_names}
        self._lengths_s: list[npt.NDArray[np.float64]] = []

    def add(self, clips: pa.Table) -> None:
        """Add the clips of a table."""
        self._lengths_s.append(clips["duration_s"].to_numpy().copy())  # a view would keep the whole table in memory
        for name, sums in self._features.items():
            sums.add(clips[name], clips[f"{name}_shape"])

    def finish(self) -> Statistics:
        """Return the statistics of all clips added."""
        features = {name: sums.finish() for name, sums in self._features.items()}
        return Statistics(_lengths(np.concatenate([np.empty(0), *self._lengths_s])), features)


class _BinSums:
    """Sums of one feature by bin, in float64. Each clip is summed by itself, and these sums are added in the clips' order."""

    def __init__(self) -> None:
        self._n = 0
        self._total: npt.NDArray[np.float64] | None = None
        self._squares: npt.NDArray[np.float64] | None = None

    def add(self, values: pa.ChunkedArray, shapes: pa.ChunkedArray) -> None:
        sizes = [shape for shape in shapes.to_pylist() if shape and all(shape)]
        if not sizes:
            return
        sizes = [[*shape, 1] if len(shape) == 1 else shape for shape in sizes]  # one value a bin
        n_bins = sizes[0][-2]
        n_frames = np.array([shape[-1] for shape in sizes], np.int64)
        n_rows = np.array([math.prod(shape[:-1]) for shape in sizes], np.int64)
        # Values are ordered by bin: the frames of a clip's first bin, then those of its second, and so on.
        starts = np.zeros(n_rows.sum(), np.int64)
        np.cumsum(np.repeat(n_frames, n_rows)[:-1], out=starts[1:])
        flat = np.concatenate([v for v in list_values(values) if len(v)]).astype(np.float64)
        total = np.add.reduceat(flat, starts).reshape(-1, n_bins)
        squares = np.add.reduceat(np.square(flat, out=flat), starts).reshape(-1, n_bins)
        self._n += int((n_frames * n_rows).sum()) // n_bins
        self._total, self._squares = _add(self._total, total), _add(self._squares, squares)

    def finish(self) -> FeatureSums:
        if self._total is None or self._squares is None:
            return FeatureSums()
        return FeatureSums(self._n, self._total.tolist(), self._squares.tolist())


def _add(before: npt.NDArray[np.float64] | None, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a sum with rows added one after the other, so that the result does not depend on their grouping."""
    rows = rows if before is None else np.vstack([before, rows])
    last: npt.NDArray[np.float64] = np.cumsum(rows, axis=0)[-1]
    return last


def _lengths(lengths_s: npt.NDArray[np.float64]) -> Lengths:
    if not len(lengths_s):
        return Lengths()
    places = np.searchsorted(LENGTH_EDGES_S, lengths_s, side="right")
    return Lengths(
        clips=len(lengths_s),
        total_s=float(np.add.reduce(lengths_s)),
        squares_s=float(np.add.reduce(lengths_s**2)),
        min_s=float(lengths_s.min()),
        max_s=float(lengths_s.max()),
        histogram=np.bincount(places, minlength=len(LENGTH_EDGES_S) + 1).tolist(),
    )
