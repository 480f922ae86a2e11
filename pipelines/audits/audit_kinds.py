"""Say what an audit compares, in which unit, and which difference is still none: the tolerances, each with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of comparison.

    name : as it is printed
    unit : of differences
    tolerance : the largest difference that is still none
    """

    name: str
    unit: str
    tolerance: float


LSB = "LSB"
"""The step of 16-bit samples, 1 / 32768 of full scale."""

# Both round the same float, so that at most a tie goes the other way.
SAMPLES = Kind("samples", LSB, 1.0)
# The build resamples by cells of 2 s, within 2e-7 of the whole recording, which is 0.007 LSB: more than a tie never goes another way.
RESAMPLED = Kind("samples, resampled", LSB, 1.0)
# Two decoders of MP3, Vorbis or Opus differ by 5e-6 of full scale, 0.2 LSB, before both round.
LOSSY = Kind("samples, lossy codec", LSB, 2.0)
# Nothing is rounded, and float32 has 24 bits: a sample differs by what resampling does.
FLOAT = Kind("samples, float32", LSB, 0.05)
FLOAT_LOSSY = Kind("samples, float32, lossy codec", LSB, 1.0)
LENGTH = Kind("length", "samples", 0.0)
# A start is a whole number of samples; as float64 seconds it is within 1e-6 samples of one, and annotated ones are no further off.
START = Kind("start", "samples", 1e-3)
PADDING = Kind("padding", LSB, 1.0)
# Noise has its level exactly; to where the sound ends, the audit is a few samples off at most.
PADDING_NOISE = Kind("padding noise", "dB", 1.0)
# pydub rounds the rms down to a whole number. It gets the samples in 32 bits, where that is less than 0.002 dB of one step of 16 bits.
LEVEL = Kind("level_dbfs vs pydub", "dB", 0.01)
PEAK = Kind("peak_dbfs vs pydub", "dB", 0.01)

_OF_FEATURES: dict[tuple[str, str], tuple[str, float]] = {
    # Of the clip's largest value: single precision.
    ("magnitude", "librosa"): ("of the maximum", 1e-5),
    ("power", "librosa"): ("of the maximum", 1e-5),
    # 80 dB below the maximum single precision has an error of 0.01 dB.
    ("magnitude_db", "librosa"): ("dB", 0.05),
    # Compared where the magnitude is within 60 dB of the largest.
    ("phase", "librosa"): ("rad", 0.01),
    # Decibels, whatever the logarithm: see `feature_kind`. 80 dB under the loudest band, single precision has an error of 0.01 dB.
    ("log_mel", "librosa"): ("", 0.03),
    ("log_mel", "torchaudio"): ("", 0.03),
    ("mfcc", "librosa"): ("", 0.02),
    ("mfcc", "torchaudio"): ("", 0.005),
    ("log_mel_pad", "librosa"): ("", 1e-4),
    # librosa computes what is stored, in single precision, with one thread. Other releases of it and of scipy have other last bits.
    ("chroma", "librosa"): ("", 1e-3),
    ("zero_crossing_rate", "librosa"): ("", 1e-6),
    ("spectral_centroid", "librosa"): ("", 0.05),
    ("spectral_contrast", "librosa"): ("", 0.01),
    ("tonnetz", "librosa"): ("", 1e-3),
    ("cqt", "librosa"): ("", 0.05),
    # Single precision of the feature, which may be far larger than its slope.
    ("slope", "librosa"): ("of the feature's maximum", 1e-6),
    # A sum of magnitudes that hits the share exactly goes to one of two bins.
    ("spectral_rolloff", "librosa"): ("", 0.0),
    # The references' own single precision, as tests and benchmarks measure it: docs/features.md, "How close they are".
    ("log_mel", "openai-whisper"): ("", 1e-5),
    ("log_mel", "kaldi-native-fbank"): ("", 0.2),
    ("mfcc", "kaldi-native-fbank"): ("", 0.2),
    ("log_mel", "torchlibrosa"): ("", 0.1),
    ("log_mel", "transformers"): ("", 1e-3),
}
_IN_DB = {("log_mel", "librosa"), ("log_mel", "torchaudio")}


def feature_kind(
    feature: str,
    reference: str,
    unit: str,
    *,
    preset: str | None = None,
    output: str | None = None,
    db: float | None = None,
    bin_hz: float = 0.0,
) -> Kind:
    """Return the kind of comparison of a feature with a reference.

    unit : of the feature's values, as the snapshot describes them
    preset : of its settings
    output : of a spectrogram: magnitude | power | magnitude_db
    db : what a decibel is in the values; None: they are normalised by their deviations, or no logarithms
    bin_hz : of a roll-off: from one bin to the next
    """
    measured = "slope" if feature.endswith(("_delta", "_delta2")) else output or feature
    own_unit, tolerance = _OF_FEATURES[measured, reference]
    tolerance += bin_hz
    if (feature, reference) in _IN_DB and db is not None:
        tolerance = float(f"{tolerance * db:.2g}")
    name = f"{feature} ({preset})" if preset else feature
    return Kind(f"{name} vs {reference}", own_unit or unit, tolerance)


@dataclass(frozen=True)
class Finding:
    """A comparison of one clip.

    difference : infinite if the two have other shapes, or one has a value and the other none
    slack : what the stored precision allows in addition to the kind's tolerance
    detail : where the difference is, for people
    """

    kind: Kind
    difference: float
    slack: float = 0.0
    detail: str = ""

    @property
    def is_beyond(self) -> bool:
        """Return whether the difference is more than the tolerance; what is not a number always is."""
        return not self.difference <= self.allowed

    @property
    def allowed(self) -> float:
        """Return the largest difference that is still none for this clip."""
        return self.kind.tolerance + self.slack


@dataclass
class KindTotal:
    """What was found of a kind.

    clips, beyond : that were compared, and that are beyond the tolerance
    largest, tolerance, worst : difference, what is allowed with the stored precision, and id of the clip that exceeds it most, or
        comes closest to it. Where values are stored in half precision, more is allowed for some clips than for others.
    """

    kind: Kind
    clips: int = 0
    beyond: int = 0
    largest: float = 0.0
    tolerance: float = 0.0
    worst: str = ""

    def add(self, clip_id: str, finding: Finding) -> None:
        """Take a comparison."""
        self.clips += 1
        self.beyond += finding.is_beyond
        size = math.inf if math.isnan(finding.difference) else finding.difference
        if size - finding.allowed > self.largest - self.tolerance or not self.worst:
            self.largest, self.tolerance, self.worst = size, finding.allowed, clip_id

    def to_dict(self) -> dict[str, Any]:
        """Return the total as plain data. An infinite difference is null."""
        return {
            "kind": self.kind.name,
            "unit": self.kind.unit,
            "clips": self.clips,
            "largest": self.largest if math.isfinite(self.largest) else None,
            "tolerance": self.tolerance,
            "beyond": self.beyond,
            "worst": self.worst,
        }


@dataclass(frozen=True)
class BeyondClip:
    """A clip that differs by more than a tolerance."""

    clip_id: str
    recording_id: str
    source_uri: str
    finding: Finding

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data. An infinite difference is null."""
        difference = self.finding.difference
        return {
            "clip_id": self.clip_id,
            "recording_id": self.recording_id,
            "source_uri": self.source_uri,
            "kind": self.finding.kind.name,
            "unit": self.finding.kind.unit,
            "difference": difference if math.isfinite(difference) else None,
            "tolerance": self.finding.allowed,
            "detail": self.finding.detail,
        }
