"""The stage `chroma`: how much of each pitch class there is in a clip, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from clipmill.stages.features_by_clip import FeatureByClip, FrameSettings, Norm, Tuning


class ChromaSettings(FrameSettings):
    """Configure pitch classes of a spectrogram of powers, as `librosa.feature.chroma_stft`."""

    n_chroma: Annotated[int, Field(ge=2, le=240)] = Field(12, description="pitch classes of an octave")
    norm: Norm | None = Field("inf", description="of a frame, which is divided by it; null: none")
    tuning: Tuning | None = Field(
        None, description="deviation from 440 Hz in pitch classes; null: estimated for each clip and channel"
    )
    ctroct: Annotated[float, Field(ge=0, le=12)] = Field(5.0, description="centre of the weights, in octaves above A0")
    octwidth: Annotated[float, Field(gt=0, le=100)] | None = Field(
        2.0, description="their width in octaves; null: all octaves weigh the same"
    )
    base_c: bool = Field(True, description="whether the first pitch class is C; otherwise A")


@dataclass(frozen=True)
class Chroma(FeatureByClip):
    """Compute how much of each pitch class there is, as librosa's `chroma_stft`."""

    section = "chroma"
    function = "chroma_stft"
    settings = ChromaSettings
    meaning = "pitch classes of the power spectrogram"

    @property
    def n_bins(self) -> int:
        return int(self.spec.n_chroma)
