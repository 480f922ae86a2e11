"""The stage `spectral_centroid`: the mean frequency of a clip, weighted by magnitude, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

from clipmill.stages.features_by_clip import FeatureByClip, FrameSettings


class CentroidSettings(FrameSettings):
    """Configure the spectrogram of magnitudes whose centroid is computed, as `librosa.feature.spectral_centroid`."""


@dataclass(frozen=True)
class SpectralCentroid(FeatureByClip):
    """Compute the mean frequency, weighted by magnitude, as librosa's `spectral_centroid`. That of digital silence is 0."""

    section = function = "spectral_centroid"
    settings = CentroidSettings
    meaning = "mean frequency, weighted by magnitude; 0 in digital silence"
    unit = "Hz"
