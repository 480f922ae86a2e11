"""Define the configuration of log-mels and their coefficients. Names and defaults are librosa's; presets are in `feature_presets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from clipmill.schemas.config.model import Frozen, Positive, later
from clipmill.schemas.config.stft_config import (
    ABOUT,
    Beyond,
    Emphasis,
    Factor,
    Hop,
    PadMode,
    Precision,
    Samples,
    Seconds,
    Size,
    Stft,
    Window,
)
from clipmill.schemas.feature_presets import LOG_MEL, MFCC, Keys, replaced_by, with_preset
from clipmill.schemas.log_scale import per_db

Rate = Annotated[int, Field(ge=1000, le=768000)]
Bands = Annotated[int, Field(ge=1, le=4096)]
Lowest = Annotated[float, Field(ge=0)]
AtMostOne = Annotated[float, Field(ge=0, le=1)]
MelScale = Literal["slaney", "htk", "kaldi"]
Log = Literal["db", "ln", "log10"]
LogMelPreset = Literal[
    "whisper-80", "whisper-128", "kaldi-fbank-80", "icefall", "nemo", "hifigan-22k", "bigvgan-24k", "tacotron2", "ast",
    "beats", "panns-32k",
]  # fmt: skip
MfccPreset = Literal["kaldi-mfcc-13", "htk-mfcc-13"]

_LOG_MEL_KEYS = {
    "preset": "name of a model, whose keys these are; a key beside it replaces the preset's",
    "model_rate_hz": "rate that the model is for, and that clips must have; default: any",
    "max_s": "length of the longest clip; a longer one is rejected; default: any",
    "epsilon": "added to the power of each bin",
    "log": "db: 10 log10 of a power, 20 log10 of a magnitude; ln and log10: the plain logarithm",
    "floor": "least value before the logarithm; default: 1e-10 in power, 1e-5 in magnitude, or none with offset",
    "offset": "added before the logarithm",
    "subtract": "stored is (logarithm - subtract) / divide_by",
    "divide_by": "stored is (logarithm - subtract) / divide_by",
    "normalise": "bin: bands of each clip get mean 0 and standard deviation 1",
}


class LogMel(Stft):
    """Configure a mel power spectrogram in dB or another logarithm: [n_mels, frames]."""

    n_mels: Bands = Field(128, description="bands")
    fmin: Lowest = Field(0.0, description="lower end of the lowest band, in Hz")
    fmax: float | None = Field(
        None, description="upper end of the highest band, in Hz; below 0: less than half the sample rate, the default"
    )
    mel_scale: MelScale = Field("slaney", description="formula of the mel scale; kaldi: htk's, with triangles in mel")
    norm: Literal["slaney"] | None = Field("slaney", description="slaney: each band has the same area")
    power: Literal[1, 2] = Field(2, description="1: of the magnitude, 2: of the power")
    top_db: Positive | None = Field(80.0, description="what is more than this below the clip's maximum is set to that")
    preset: LogMelPreset | None = later(None, description=_LOG_MEL_KEYS["preset"])
    model_rate_hz: Rate | None = later(None, description=_LOG_MEL_KEYS["model_rate_hz"])
    max_s: Positive | None = later(None, description=_LOG_MEL_KEYS["max_s"])
    epsilon: AtMostOne = later(0.0, description=_LOG_MEL_KEYS["epsilon"])
    log: Log = later("db", description=_LOG_MEL_KEYS["log"])
    floor: Positive | None = later(None, description=_LOG_MEL_KEYS["floor"])
    offset: AtMostOne = later(0.0, description=_LOG_MEL_KEYS["offset"])
    subtract: float = later(0.0, description=_LOG_MEL_KEYS["subtract"])
    divide_by: Factor = later(1.0, description=_LOG_MEL_KEYS["divide_by"])
    normalise: Literal["bin"] | None = later(None, description=_LOG_MEL_KEYS["normalise"])
    pad_value: float | Literal["floor"] | None = later(
        None,
        description="what loaders fill up with, instead of 0; floor: the clip's own value of silence, stored as log_mel_pad",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, data: Any) -> Any:
        return _expanded(data, LOG_MEL, MFCC, "mfcc")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fmax == 0:
            raise ValueError("fmax is 0; leave it out for half the sample rate")
        if self.pad_value == "floor" and self.normalise is not None:
            raise ValueError("pad_value: floor has no meaning with normalise; give a number, such as 0")
        return self

    def at(self, sample_rate_hz: int) -> Self:
        """Return the same settings with all lengths in samples, and fmax counted from 0. Raises ValueError as `Stft.at`."""
        found = super().at(sample_rate_hz)
        if self.fmax is None or self.fmax > 0:
            return found
        return found.model_copy(update={"fmax": sample_rate_hz / 2 + self.fmax})

    @property
    def per_db(self) -> float | None:
        """Return what a decibel is in the stored values; None if each clip's are normalised."""
        return per_db(self.log, self.power) / self.divide_by if self.normalise is None else None


_AS = "as in log_mel; default: that of log_mel, or else its default"


class Mfcc(Frozen):
    """Configure the orthonormal DCT-II of a log-mel: [n_mfcc, frames].

    Omitted keys are those of log_mel, or else librosa's defaults. With a preset, here or in log_mel, nothing is taken from log_mel.
    """

    n_mfcc: Bands = Field(20, description="coefficients")
    lifter: Lowest = Field(0.0, description="coefficient of cepstral liftering; 0: none")
    n_fft: Size | None = Field(None, description=_AS)
    hop_length: Hop | None = Field(None, description=_AS)
    win_length: Annotated[int, Field(ge=1)] | None = Field(None, description=_AS)
    window: Window | None = Field(None, description=_AS)
    center: bool | None = Field(None, description=_AS)
    pad_mode: PadMode | None = Field(None, description=_AS)
    n_mels: Bands | None = Field(None, description=_AS)
    fmin: Lowest | None = Field(None, description=_AS)
    fmax: float | None = Field(None, description=_AS)
    mel_scale: MelScale | None = Field(None, description=_AS)
    norm: Literal["slaney", "none"] | None = Field(None, description=f"{_AS}; none: no normalisation")
    top_db: Positive | Literal["none"] | None = Field(None, description=f"{_AS}; none: no limit")
    preset: MfccPreset | None = later(None, description=_LOG_MEL_KEYS["preset"])
    lifter_from: Literal[0, 1] = later(
        1, description="number of the first coefficient in the formula of liftering: 1 for librosa, 0 for Kaldi"
    )
    use_energy: bool = later(
        False, description="the first coefficient is the natural logarithm of the frame's energy, as in Kaldi"
    )
    power: Literal[1, 2] | None = later(None, description=_AS)
    win_s: Seconds | None = later(None, description=ABOUT["win_s"])
    hop_s: Seconds | None = later(None, description=ABOUT["hop_s"])
    round_to_power_of_two: bool | None = later(None, description=ABOUT["round_to_power_of_two"])
    symmetric: bool | None = later(None, description=ABOUT["symmetric"])
    window_dtype: Precision | None = later(None, description=ABOUT["window_dtype"])
    scale: Factor | None = later(None, description=ABOUT["scale"])
    remove_mean: bool | None = later(None, description=ABOUT["remove_mean"])
    remove_dc: bool | None = later(None, description=ABOUT["remove_dc"])
    preemphasis: Emphasis | None = later(None, description=ABOUT["preemphasis"])
    preemphasis_by: Literal["clip", "frame"] | None = later(None, description=ABOUT["preemphasis_by"])
    snip_edges: bool | None = later(None, description=ABOUT["snip_edges"])
    pad_length: Samples | None = later(None, description=ABOUT["pad_length"])
    zeros_behind: Samples | None = later(None, description=ABOUT["zeros_behind"])
    frames_beyond: Beyond | None = later(None, description=ABOUT["frames_beyond"])
    model_rate_hz: Rate | None = later(None, description=_LOG_MEL_KEYS["model_rate_hz"])
    max_s: Positive | None = later(None, description=_LOG_MEL_KEYS["max_s"])
    epsilon: AtMostOne | None = later(None, description=_LOG_MEL_KEYS["epsilon"])
    log: Log | None = later(None, description=_LOG_MEL_KEYS["log"])
    floor: Positive | None = later(None, description=_LOG_MEL_KEYS["floor"])
    offset: AtMostOne | None = later(None, description=_LOG_MEL_KEYS["offset"])
    subtract: float | None = later(None, description=_LOG_MEL_KEYS["subtract"])
    divide_by: Factor | None = later(None, description=_LOG_MEL_KEYS["divide_by"])
    normalise: Literal["bin"] | None = later(None, description=_LOG_MEL_KEYS["normalise"])

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, data: Any) -> Any:
        return _expanded(data, MFCC, LOG_MEL, "log_mel")

    def log_mel(self, base: LogMel | None) -> LogMel:
        """Return the log-mel from which the coefficients are computed."""
        changed = {
            k: getattr(self, k)
            for k in self.model_fields_set
            if k in LogMel.model_fields and k != "preset" and getattr(self, k) is not None
        }
        changed |= {k: None for k in ("norm", "top_db") if changed.get(k) == "none"}
        inherits = base is not None and base.preset is None and self.preset is None
        given = base.model_dump(exclude_unset=True) if base is not None and inherits else {}
        return LogMel.model_validate(replaced_by(given, changed))


def _expanded(data: Any, presets: Mapping[str, Keys], others: Mapping[str, Keys], section: str) -> Any:
    """Return settings with the keys of their preset. others, section : presets of the other section, and its name"""
    if not isinstance(data, dict):
        return data
    if (name := data.get("preset")) in others and isinstance(name, str):
        raise ValueError(f"{name} is a preset of {section}; write {section}: {{preset: {name}}}")
    return with_preset(presets, data)
