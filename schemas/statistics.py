"""Statistics of clips and their features as sums, so that those of shards add up to those of a dataset without reading them again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LENGTH_EDGES_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Between the counts of `Lengths.histogram`: under 0.1 s, from 0.1 to under 0.25 s, ..., 60 s and more."""

_CONSTANT = 2.0**-22


@dataclass(frozen=True)
class FeatureSums:
    """Of the values of a feature as stored, by bin. The sums are float64.

    n : values in each bin: frames, times channels
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
        return [t / self.n for t in self.total] if self.n else []

    @property
    def std_by_bin(self) -> list[float]:
        """Of the population, as numpy.std gives it."""
        if not self.n:
            return []
        return [_std(self.n, t, s) for t, s in zip(self.total, self.squares, strict=True)]

    @property
    def mean(self) -> float:
        """Over all bins."""
        return math.fsum(self.total) / (self.n * len(self.total)) if self.n else math.nan

    @property
    def std(self) -> float:
        """Over all bins, of the population."""
        if not self.n:
            return math.nan
        return _std(self.n * len(self.total), math.fsum(self.total), math.fsum(self.squares))


@dataclass(frozen=True)
class Lengths:
    """Of the clips. histogram : clips between `LENGTH_EDGES_S`."""

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
        return self.total_s / self.clips if self.clips else math.nan

    @property
    def std_s(self) -> float:
        return _std(self.clips, self.total_s, self.squares_s) if self.clips else math.nan


@dataclass(frozen=True)
class Saturation:
    """How much of a source's clips is at full scale, which a recording that was clipped is in long stretches.

    clips : that were counted; those of shards that were built before it was counted are not among them
    n_samples : theirs, over all channels, padding included
    n_saturated : of these samples, how many were at `clipmill.schemas.units.SATURATED` or beyond before they were rounded
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
        return self.n_saturated / self.n_samples if self.n_samples else 0.0


@dataclass(frozen=True)
class Statistics:
    """Of a shard, a split or a dataset.

    features : by name; shards that were made before there were statistics have none
    saturation : by source
    """

    lengths: Lengths = field(default_factory=Lengths)
    features: dict[str, FeatureSums] = field(default_factory=dict)
    saturation: dict[str, Saturation] = field(default_factory=dict)

    def __add__(self, other: Statistics) -> Statistics:
        names = sorted(self.features.keys() | other.features.keys())
        nothing = FeatureSums()
        return Statistics(
            self.lengths + other.lengths,
            {n: self.features.get(n, nothing) + other.features.get(n, nothing) for n in names},
            sum_saturation((self, other)),
        )

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Statistics:
        features = {name: FeatureSums(**sums) for name, sums in plain["features"].items()}
        saturation = {source: Saturation(**sums) for source, sums in plain.get("saturation", {}).items()}
        return cls(Lengths(**plain["lengths"]), features, saturation)


def sum_saturation(statistics: Iterable[Statistics]) -> dict[str, Saturation]:
    """Return the sums by source, sorted."""
    found: dict[str, Saturation] = {}
    for one in statistics:
        for source, sums in one.saturation.items():
            found[source] = found.get(source, Saturation()) + sums
    return dict(sorted(found.items()))


def _sum(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x + y for x, y in zip(a, b, strict=True)]


def _std(n: int, total: float, squares: float) -> float:
    """Return 0 for what is constant: a difference of two sums is not, but no float32 differs from its neighbour by so little."""
    mean = total / n
    variance = squares / n - mean**2
    return math.nan if math.isnan(variance) else math.sqrt(variance) if variance > (_CONSTANT * mean) ** 2 else 0.0
