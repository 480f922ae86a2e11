"""The stage `spectral_contrast`: how far peaks rise above valleys in each octave of a clip, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from clipmill.stages.features_by_clip import FeatureByClip, FrameSettings


class ContrastSettings(FrameSettings):
    """Configure peaks and valleys of a spectrogram of magnitudes, as `librosa.feature.spectral_contrast`."""

    fmin: Annotated[float, Field(gt=0, le=1e6)] = Field(200.0, description="upper end of the lowest band in Hz")
    n_bands: Annotated[int, Field(ge=1, le=24)] = Field(
        6, description="octaves above fmin; the band below it comes first"
    )
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(0.02, description="share of bins that are peaks, and valleys")
    linear: bool = Field(False, description="difference of magnitudes, not of decibels")


@dataclass(frozen=True)
class SpectralContrast(FeatureByClip):
    """Compute how far peaks rise above valleys in each octave, as librosa's `spectral_contrast`."""

    section = function = "spectral_contrast"
    settings = ContrastSettings
    meaning = "difference of peaks and valleys in bands of an octave"

    @property
    def unit(self) -> str:  # type: ignore[override]
        return "" if self.spec.linear else "dB"

    @property
    def n_bins(self) -> int:
        return int(self.spec.n_bands) + 1

    @property
    def problem(self) -> tuple[str, str] | None:
        rate_hz, fmin = self.sample_rate_hz, self.spec.fmin
        bins_hz = np.fft.rfftfreq(self.spec.n_fft, 1.0 / rate_hz)
        if np.count_nonzero(bins_hz <= fmin) < 2:
            return "n_fft", (
                f"{self.spec.n_fft} gives bins {rate_hz / self.spec.n_fft:.4g} Hz apart at {rate_hz} Hz, of which the band up to fmin {fmin:g} Hz"
                f" needs one; set n_fft to at least {int(rate_hz / fmin) + 1}, or raise fmin"
            )
        lowest_hz = fmin * 2.0 ** (self.spec.n_bands - 1)
        if lowest_hz >= rate_hz / 2 or lowest_hz > bins_hz[-1]:
            most = sum(fmin * 2.0**k < min(rate_hz / 2, bins_hz[-1]) for k in range(24))
            return "n_bands", (
                f"{self.spec.n_bands} is too many above fmin {fmin:g} Hz: the highest band would begin at {lowest_hz:g} Hz, and clips of"
                f" {rate_hz} Hz end at {rate_hz / 2:g} Hz; " + (f"set n_bands: {most}" if most else "lower fmin")
            )
        return None
