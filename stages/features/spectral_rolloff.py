"""The stage `spectral_rolloff`: the frequency below which most of a clip's magnitudes lie, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from clipmill.stages.features_by_clip import FeatureByClip, FrameSettings


class RolloffSettings(FrameSettings):
    """Configure the roll-off of a spectrogram of magnitudes, as `librosa.feature.spectral_rolloff`."""

    roll_percent: Annotated[float, Field(gt=0, lt=1)] = Field(0.85, description="share of the sum of all magnitudes")


@dataclass(frozen=True)
class SpectralRolloff(FeatureByClip):
    """Compute the frequency up to which a share of all magnitudes lies, as librosa's `spectral_rolloff`. That of digital silence is 0."""

    section = function = "spectral_rolloff"
    settings = RolloffSettings
    meaning = "frequency up to which roll_percent of all magnitudes lie; 0 in digital silence"
    unit = "Hz"
