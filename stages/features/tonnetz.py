"""The stage `tonnetz`: where a clip's harmony lies among fifths, minor and major thirds, frame by frame.

Source: Harte, Sandler and Gasser, "Detecting harmonic change in musical audio", AMCMM 2006.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from clipmill.schemas.config.model import Frozen
from clipmill.schemas.config.stft_config import Hop
from clipmill.stages.features.kernels.constant_q import ConstantQ
from clipmill.stages.features_by_clip import FeatureByClip, Signal, Values

_CLASSES = 12


class TonnetzSettings(Frozen):
    """Configure the constant-Q transform of which tonal centroids are computed, as `librosa.feature.tonnetz`."""

    hop_length: Hop = Field(
        512, description="samples from one frame to the next; fastest if it is a multiple of a large power of two"
    )
    fmin: Annotated[float, Field(ge=1, le=1e6)] | None = Field(
        None, description="lowest frequency in Hz; null: C1, 32.7 Hz"
    )
    tuning: Annotated[float, Field(ge=-1, le=1)] | None = Field(
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
class Tonnetz(FeatureByClip):
    """Compute tonal centroids: sine and cosine of fifths, minor thirds and major thirds, as librosa's `tonnetz`. Those of silence are 0."""

    section = "tonnetz"
    settings = TonnetzSettings
    libraries = ("librosa", "numpy", "scipy", "soxr")
    meaning = "tonal centroids: fifths, minor thirds, major thirds; two of each"

    @property
    def n_bins(self) -> int:
        return 6

    @property
    def frames(self) -> Mapping[str, Any]:
        return self._transform.frames

    @property
    def problem(self) -> tuple[str, str] | None:
        transform = self._transform
        match transform.problem:
            case ("bins", text):
                most = transform.most_bins // self.spec.bins_per_octave
                return "n_octaves", f"{text}; " + (f"set n_octaves: {most} or fewer" if most else "lower fmin")
            case (_, text):
                return "fmin", f"{text}; raise fmin, or lower bins_per_octave"
        return None

    @property
    def min_samples(self) -> int:
        return self._transform.min_samples

    @property
    def _transform(self) -> ConstantQ:
        s = self.spec
        n_bins = s.n_octaves * s.bins_per_octave
        return ConstantQ(self.sample_rate_hz, s.hop_length, s.fmin, n_bins, s.bins_per_octave, s.tuning)

    def compute(self, librosa: Any, y: Signal) -> Values:
        values: Values = librosa.feature.tonnetz(y=y, sr=self.sample_rate_hz, **self.spec.model_dump())
        return values
