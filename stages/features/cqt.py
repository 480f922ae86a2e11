"""The stage `cqt`: a constant-Q transform, whose bins are equally far apart on a musical scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from clipmill.schemas.config.model import Positive
from clipmill.schemas.config.stft_config import PadMode
from clipmill.stages.feature_of_constant_q import ConstantQSettings, FeatureOfConstantQ
from clipmill.stages.features.kernels.constant_q import ConstantQ
from clipmill.stages.features_by_clip import Norm, Signal, Tuning, Values


class CqtSettings(ConstantQSettings):
    """Configure a constant-Q transform, as `librosa.cqt`."""

    n_bins: Annotated[int, Field(ge=1, le=2000)] = Field(84, description="bins from fmin up")
    bins_per_octave: Annotated[int, Field(ge=1, le=120)] = Field(12, description="bins of an octave")
    tuning: Tuning | None = Field(
        0.0, description="deviation from 440 Hz in bins; null: estimated for each clip and channel"
    )
    filter_scale: Annotated[float, Field(gt=0, le=16)] = Field(1.0, description="factor of the filters' lengths")
    norm: Norm | None = Field(1, description="of a filter, which is divided by it; null: none")
    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.01, description="share of a filter's magnitude that is left out"
    )
    scale: bool = Field(True, description="divide by the square root of the filter's length")
    pad_mode: PadMode = Field("constant", description="kind of padding at both ends")
    output: Literal["magnitude", "magnitude_db"] = Field("magnitude_db", description="what is stored")
    top_db: Positive | None = Field(80.0, description="what is more than this below the clip's maximum is set to that")


@dataclass(frozen=True)
class Cqt(FeatureOfConstantQ):
    """Compute magnitude or dB of a constant-Q transform, as librosa's `cqt`."""

    section = "cqt"
    settings = CqtSettings
    bins_key, shorter_by = "n_bins", "bins_per_octave or filter_scale"
    meaning = "constant-Q transform"

    @property
    def unit(self) -> str:  # type: ignore[override]
        return "dB" if self.spec.output == "magnitude_db" else ""

    @property
    def n_bins(self) -> int:
        return int(self.spec.n_bins)

    @property
    def transform(self) -> ConstantQ:
        s = self.spec
        return ConstantQ(
            self.sample_rate_hz, s.hop_length, s.fmin, s.n_bins, s.bins_per_octave, s.tuning, s.filter_scale
        )

    def compute(self, librosa: Any, y: Signal) -> Values:
        given = {key: value for key, value in self.arguments.items() if key not in ("output", "top_db")}
        magnitude: Values = np.abs(librosa.cqt(y, sr=self.sample_rate_hz, **given))
        if self.spec.output == "magnitude":
            return magnitude
        level_db: Values = librosa.amplitude_to_db(magnitude, top_db=self.spec.top_db)
        return level_db
