"""The stage `cqt`: a constant-Q transform, whose bins are equally far apart on a musical scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from clipmill.schemas.config.model import Frozen, Positive
from clipmill.schemas.config.stft_config import Hop, PadMode
from clipmill.stages.features.kernels.constant_q import ConstantQ
from clipmill.stages.features_by_clip import FeatureByClip, Norm, Signal, Values, norm_of

BinsPerOctave = Annotated[int, Field(ge=1, le=120)]
Lowest = Annotated[float, Field(ge=1, le=1e6)]
Tuning = Annotated[float, Field(ge=-1, le=1)]


class CqtSettings(Frozen):
    """Configure a constant-Q transform, as `librosa.cqt`."""

    hop_length: Hop = Field(
        512, description="samples from one frame to the next; fastest if it is a multiple of a large power of two"
    )
    fmin: Lowest | None = Field(None, description="lowest frequency in Hz; null: C1, 32.7 Hz")
    n_bins: Annotated[int, Field(ge=1, le=2000)] = Field(84, description="bins from fmin up")
    bins_per_octave: BinsPerOctave = Field(12, description="bins of an octave")
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
class Cqt(FeatureByClip):
    """Compute magnitude or dB of a constant-Q transform, as librosa's `cqt`."""

    section = "cqt"
    settings = CqtSettings
    libraries = ("librosa", "numpy", "scipy", "soxr")
    meaning = "constant-Q transform"

    @property
    def unit(self) -> str:  # type: ignore[override]
        return "dB" if self.spec.output == "magnitude_db" else ""

    @property
    def n_bins(self) -> int:
        return int(self.spec.n_bins)

    @property
    def frames(self) -> Mapping[str, Any]:
        return self._transform.frames

    @property
    def problem(self) -> tuple[str, str] | None:
        transform = self._transform
        match transform.problem:
            case ("bins", text):
                most = transform.most_bins
                return "n_bins", f"{text}; " + (f"set n_bins: {most} or fewer" if most else "lower fmin")
            case (_, text):
                return "fmin", f"{text}; raise fmin, or lower bins_per_octave or filter_scale"
        return None

    @property
    def min_samples(self) -> int:
        return self._transform.min_samples

    @property
    def _transform(self) -> ConstantQ:
        s = self.spec
        return ConstantQ(
            self.sample_rate_hz, s.hop_length, s.fmin, s.n_bins, s.bins_per_octave, s.tuning, s.filter_scale
        )

    def compute(self, librosa: Any, y: Signal) -> Values:
        given = self.spec.model_dump(exclude={"norm", "output", "top_db"})
        magnitude: Values = np.abs(librosa.cqt(y, sr=self.sample_rate_hz, norm=norm_of(self.spec.norm), **given))
        if self.spec.output == "magnitude":
            return magnitude
        level_db: Values = librosa.amplitude_to_db(magnitude, top_db=self.spec.top_db)
        return level_db
