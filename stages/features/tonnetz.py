"""The stage `tonnetz`: where a clip's harmony lies among fifths, minor and major thirds, frame by frame.

Source: Harte, Sandler and Gasser, "Detecting harmonic change in musical audio", AMCMM 2006.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from clipmill.stages.feature_of_constant_q import ConstantQSettings, FeatureOfConstantQ
from clipmill.stages.features.kernels.constant_q import ConstantQ
from clipmill.stages.features_by_clip import Tuning

_CLASSES = 12


class TonnetzSettings(ConstantQSettings):
    """Configure the constant-Q transform of which tonal centroids are computed, as `librosa.feature.tonnetz`."""

    tuning: Tuning | None = Field(
        None, description="deviation from 440 Hz in bins; null: estimated for each clip and channel"
    )
    n_octaves: Annotated[int, Field(ge=1, le=16)] = Field(7, description="octaves above fmin")
    bins_per_octave: Annotated[int, Field(ge=_CLASSES, le=120)] = Field(36, description="a multiple of 12")

    @model_validator(mode="after")
    def _whole_bins(self) -> Self:
        if self.bins_per_octave % _CLASSES:
            raise ValueError(f"bins_per_octave {self.bins_per_octave} is not a multiple of {_CLASSES}")
        return self


@dataclass(frozen=True)
class Tonnetz(FeatureOfConstantQ):
    """Compute tonal centroids: sine and cosine of fifths, minor thirds and major thirds, as librosa's `tonnetz`. Those of silence are 0."""

    section = function = "tonnetz"
    settings = TonnetzSettings
    bins_key, shorter_by = "n_octaves", "bins_per_octave"
    meaning = "tonal centroids: fifths, minor thirds, major thirds; two of each"

    @property
    def n_bins(self) -> int:
        return 6

    @property
    def bins_of_key(self) -> int:
        return int(self.spec.bins_per_octave)

    @property
    def transform(self) -> ConstantQ:
        s = self.spec
        n_bins = s.n_octaves * s.bins_per_octave
        return ConstantQ(self.sample_rate_hz, s.hop_length, s.fmin, n_bins, s.bins_per_octave, s.tuning)
