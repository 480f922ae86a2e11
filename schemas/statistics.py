"""Keep statistics of clips and features as sums, so that the sums of shards add up to those of a dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LENGTH_EDGES_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Edges of `Lengths.histogram`: under 0.1 s, from 0.1 to under 0.25 s, ..., 60 s and more."""

_CONSTANT = 2.0**-22


@dataclass(frozen=True)
class FeatureSums:
    """Sum the stored values of a feature by bin, in float64.

    n : number of values in each bin: frames times channels
    total, squares : sums of the values and of their squares, [bins]
    """

    n: int = 0
    total: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    def __add__(self, other: FeatureSums) -> FeatureSums:
        if not self.n or not other.n:
            return self if self.n else other
        return FeatureSums(self.n + other.n, _sum(self.total, other.total), _sum(self.squares, other.squares))

    @property
    def mean_by_bin(self) -> list[float]:
        """Return the mean of each bin, empty without values."""
        return [t / self.n for t in self.total] if self.n else []

    @property
    def std_by_bin(self) -> list[float]:
        """Return the standard deviation of each bin, of the population, as numpy.std does."""
        if not self.n:
            return []
        return [_std(self.n, t, s) for t, s in zip(self.total, self.squares, strict=True)]

    @property
    def mean(self) -> float:
        """Return the mean over all bins, NaN without values."""
        return math.fsum(self.total) / (self.n * len(self.total)) if self.n else math.nan

    @property
    def std(self) -> float:
        """Return the standard deviation over all bins, of the population, NaN without values."""
        if not self.n:
            return math.nan
        return _std(self.n * len(self.total), math.fsum(self.total), math.fsum(self.squares))


@dataclass(frozen=True)
class Lengths:
    """Sum the lengths of clips. histogram : number of clips between `LENGTH_EDGES_S`."""

    clips: int = 0
    total_s: float = 0.0
    squares_s: float = 0.0
    min_s: float | None = None
    max_s: float | None = None
    histogram: list[int] = field(default_factory=lambda: [0] * (len(LENGTH_EDGES_S) + 1))

    def __add__(self, other: Lengths) -> Lengths:
        if not self.clips or not other.clips:
            return self if self.clips else other
        return Lengths(
            clips=self.clips + other.clips,
            total_s=self.total_s + other.total_s,
            squares_s=self.squares_s + other.squares_s,
            min_s=min(v for v in (self.min_s, other.min_s) if v is not None),
            max_s=max(v for v in (self.max_s, other.max_s) if v is not None),
            histogram=[a + b for a, b in zip(self.histogram, other.histogram, strict=True)],
        )

    @property
    def mean_s(self) -> float:
        """Return the mean length in seconds, NaN without clips."""
        return self.total_s / self.clips if self.clips else math.nan

    @property
    def std_s(self) -> float:
        """Return the standard deviation of the lengths in seconds, of the population, NaN without clips."""
        return _std(self.clips, self.total_s, self.squares_s) if self.clips else math.nan


@dataclass(frozen=True)
class Saturation:
    """Count the samples of a source's clips that are at full scale. Recordings that were clipped have many.

    clips : clips examined, without those of shards that are older than this count
    n_samples : their samples, over all channels, padding included
    n_saturated : those of the samples that were at `clipmill.schemas.units.SATURATED` or beyond before rounding
    """

    clips: int = 0
    n_samples: int = 0
    n_saturated: int = 0

    def __add__(self, other: Saturation) -> Saturation:
        return Saturation(
            self.clips + other.clips, self.n_samples + other.n_samples, self.n_saturated + other.n_saturated
        )

    @property
    def share(self) -> float:
        """Return the saturated share of the samples, 0 without samples."""
        return self.n_saturated / self.n_samples if self.n_samples else 0.0


@dataclass(frozen=True)
class Statistics:
    """Hold the statistics of a shard, a split or a dataset.

    features : by name; empty for shards that are older than statistics
    saturation : by source
    """

    lengths: Lengths = field(default_factory=Lengths)
    features: dict[str, FeatureSums] = field(default_factory=dict)
    saturation: dict[str, Saturation] = field(default_factory=dict)

    def __add__(self, other: Statistics) -> Statistics:
        names = sorted(self.features.keys() | other.features.keys())
        zero = FeatureSums()
        return Statistics(
            self.lengths + other.lengths,
            {n: self.features.get(n, zero) + other.features.get(n, zero) for n in names},
            sum_saturation((self, other)),
        )

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Statistics:
        """Return the statistics in a record's plain data."""
        features = {name: FeatureSums(**sums) for name, sums in plain["features"].items()}
        saturation = {source: Saturation(**sums) for source, sums in plain.get("saturation", {}).items()}
        return cls(Lengths(**plain["lengths"]), features, saturation)


def sum_saturation(statistics: Iterable[Statistics]) -> dict[str, Saturation]:
    """Return the saturation of each source, summed over all statistics, in the order of the names."""
    by_source: dict[str, Saturation] = {}
    for part in statistics:
        for source, sums in part.saturation.items():
            by_source[source] = by_source.get(source, Saturation()) + sums
    return dict(sorted(by_source.items()))


def _sum(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x + y for x, y in zip(a, b, strict=True)]


def _std(n: int, total: float, squares: float) -> float:
    """Return the standard deviation, exactly 0 for constant values: the difference is then below the resolution of float32."""
    mean = total / n
    variance = squares / n - mean**2
    return math.nan if math.isnan(variance) else math.sqrt(variance) if variance > (_CONSTANT * mean) ** 2 else 0.0
