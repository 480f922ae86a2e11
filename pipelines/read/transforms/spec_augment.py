"""Mask bands and times of spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipmill.pipelines.read.transforms.transform import Loaded, Sample, Transform
from clipmill.schemas.errors import ClipmillError


@dataclass(frozen=True)
class SpecAugment(Transform):
    """Mask random bands and times of a log-mel: SpecAugment (Park et al. 2019, https://arxiv.org/abs/1904.08779) without time warping.

    The defaults are those of the paper's policy LD. Widths are drawn uniformly from 0 to the greatest, and then the place, so that the mask
    lies inside the clip. All channels get the same masks. Samples are changed in place.

    freq_masks, freq_width : number of masks over bins, and the greatest width in bins
    time_masks, time_width : number of masks over frames, and the greatest width in frames
    max_time_share : a mask over frames covers at most this share of the clip's frames
    fill : value of masked places, "mean": that of the clip, which is near 0 for normalised features
    column : the feature, [bins, frames] or [channels, bins, frames]

    Raises
    ------
    ClipmillError : an argument has another form, or the dataset's columns do not have the feature
    """

    freq_masks: int = 2
    freq_width: int = 27
    time_masks: int = 2
    time_width: int = 100
    max_time_share: float = 1.0
    fill: float | Literal["mean"] = "mean"
    column: str = "log_mel"

    def __post_init__(self) -> None:
        for name in ("freq_masks", "freq_width", "time_masks", "time_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ClipmillError(f"{name} of SpecAugment is {value!r}; expected a whole number of at least 0")
        if not isinstance(self.max_time_share, int | float) or not 0 <= self.max_time_share <= 1:
            raise ClipmillError(
                f"max_time_share of SpecAugment is {self.max_time_share!r}; expected a number from 0 to 1"
            )
        if self.fill != "mean" and (not isinstance(self.fill, int | float) or isinstance(self.fill, bool)):
            raise ClipmillError(f"fill of SpecAugment is {self.fill!r}; expected a number or 'mean'")

    def for_dataset(self, loaded: Loaded) -> Transform:
        if self.column not in loaded.features:
            features = ", ".join(loaded.features) or "none"
            raise ClipmillError(
                f"{loaded.address}: SpecAugment masks {self.column}, which is not among the features asked for ({features}); add it to columns, or"
                " give column="
            )
        return self

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        values = sample[self.column].numpy()  # which shares the tensor's memory; slices of it take a tenth of the time
        n_bins, n_frames = values.shape[-2], int(sample.get(f"{self.column}_length", values.shape[-1]))
        widest = min(self.time_width, int(self.max_time_share * n_frames))
        fill = float(values[..., :n_frames].mean()) if self.fill == "mean" else float(self.fill)
        drawn = iter(rng.random(2 * (self.freq_masks + self.time_masks)).tolist())
        for _ in range(self.freq_masks):
            first, last = _mask(next(drawn), next(drawn), min(self.freq_width, n_bins), n_bins)
            values[..., first:last, :n_frames] = fill
        for _ in range(self.time_masks):
            first, last = _mask(next(drawn), next(drawn), widest, n_frames)
            values[..., first:last] = fill
        return sample


def _mask(width: float, place: float, widest: int, n: int) -> tuple[int, int]:
    """Return a mask inside of n bins or frames. width, place : random numbers in [0, 1)"""
    n_masked = int(width * (widest + 1))
    first = int(place * (n - n_masked + 1))
    return first, first + n_masked
