"""Normalise features by the statistics of a split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.errors import ClipmillError

Scales = dict[str, tuple[torch.Tensor, torch.Tensor]]


def scales_of(published: Published, split: str, by: Literal["bin", "all"], columns: Sequence[str]) -> Scales:
    """Return the mean and the factor for normalising each feature, float32 [bins, 1] or [1, 1]. A constant bin becomes 0."""
    if split not in published.splits:
        raise ClipmillError(
            f"{published.root.url}: normalise_by is {split!r}, which is not a split; the splits are {', '.join(published.splits)}"
        )
    scaled = set(columns) & set(published.feature_names)
    if not scaled:
        raise ClipmillError(f"normalise needs a feature, and the columns {', '.join(columns)} have none")
    statistics = published.snapshot.statistics.get(split)
    n_clips = published.snapshot.by_split.get(split, {}).get("clips", 0)
    if statistics is None or statistics.lengths.clips != n_clips or not n_clips:
        raise ClipmillError(
            f"{published.root.url}: the statistics of split {split!r} are incomplete: give another normalise_by; shards"
            " that an older clipmill has built get statistics when they are built again"
        )
    found = {}
    for name in sorted(scaled & statistics.features.keys()):
        sums = statistics.features[name]
        if not math.isfinite(sums.std):
            raise ClipmillError(
                f"{published.root.url}: clips of split {split!r} have infinite values in {name}, from before clipmill rejected such clips: build"
                " again"
            )
        mean, std = (sums.mean_by_bin, sums.std_by_bin) if by == "bin" else ([sums.mean], [sums.std])
        factor = [1 / s if s > 0 else 0.0 for s in std]
        found[name] = (torch.tensor(mean)[:, None], torch.tensor(factor)[:, None])
    return found
