"""The stage `zero_crossing_rate`: how often a clip changes its sign, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from clipmill.schemas.config.model import Frozen
from clipmill.schemas.config.stft_config import Hop, Size
from clipmill.stages.features_by_clip import FeatureByClip, Signal, Values


class ZeroCrossingSettings(Frozen):
    """Configure the counting of zero crossings, as `librosa.feature.zero_crossing_rate`."""

    frame_length: Size = Field(2048, description="samples of a frame")
    hop_length: Hop = Field(512, description="samples from one frame to the next")
    center: bool = Field(
        True, description="whether a frame is centred on its sample, with the first and last sample repeated"
    )
    threshold: Annotated[float, Field(ge=0, le=1)] = Field(1e-10, description="samples up to this are taken for zero")
    zero_pos: bool = Field(True, description="whether zero is taken for positive; otherwise it has a sign of its own")


@dataclass(frozen=True)
class ZeroCrossingRate(FeatureByClip):
    """Compute the share of samples at which the sign changes, as librosa's `zero_crossing_rate`."""

    section = function = "zero_crossing_rate"
    settings = ZeroCrossingSettings
    meaning = "share of the frame's samples at which the sign changes"

    @property
    def frames(self) -> Mapping[str, Any]:
        return {"n_fft": self.spec.frame_length, "pad_mode": "edge"}

    def compute(self, librosa: Any, y: Signal) -> Values:
        values: Values = librosa.feature.zero_crossing_rate(y, **self.arguments)
        return values
