"""Define the configuration of features. Names, defaults and conventions are librosa's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from clipmill.schemas.config.model import Frozen, Positive, written_as


class Stft(Frozen):
    """Configure a short-time Fourier transform. Defaults and conventions are librosa's."""

    n_fft: Annotated[int, Field(ge=16, le=65536)] = Field(2048, description="samples that a transform takes")
    hop_length: Annotated[int, Field(ge=1, le=65536)] = Field(512, description="samples from one frame to the next")
    win_length: Annotated[int, Field(ge=1)] | None = Field(None, description="default: n_fft")
    window: Literal["hann", "hamming", "blackman", "ones"] = Field("hann", description="shape of the window")
    center: bool = Field(True, description="whether a frame is centred on its sample, with padding at both ends")
    pad_mode: Literal["constant", "reflect", "edge"] = Field("constant", description="kind of that padding")

    @model_validator(mode="after")
    def _check_window(self) -> Stft:
        if self.win_length is not None and self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} exceeds n_fft {self.n_fft}")
        return self

    @property
    def stft(self) -> tuple[int, int, int, str, bool, str]:
        """Return the settings that two features must have in common to share one transform."""
        return (self.n_fft, self.hop_length, self.win_length or self.n_fft, self.window, self.center, self.pad_mode)


class Spectrogram(Stft):
    """Configure magnitude, power or dB of the transform: [1 + n_fft // 2, frames]."""

    output: Literal["magnitude", "power", "magnitude_db"] = Field("magnitude_db", description="what is stored")
    phase: bool = Field(False, description="also store the phase in radians")
    top_db: Positive | None = Field(80.0, description="what is more than this below the clip's maximum is set to that")


class LogMel(Stft):
    """Configure a mel power spectrogram in dB: [n_mels, frames]."""

    n_mels: Annotated[int, Field(ge=1, le=4096)] = Field(128, description="bands")
    fmin: Annotated[float, Field(ge=0)] = Field(0.0, description="lower end of the lowest band, in Hz")
    fmax: Positive | None = Field(
        None, description="upper end of the highest band, in Hz; default: half the sample rate"
    )
    mel_scale: Literal["slaney", "htk"] = Field("slaney", description="formula of the mel scale")
    norm: Literal["slaney"] | None = Field("slaney", description="slaney: each band has the same area")
    power: Literal[1, 2] = Field(2, description="1: of the magnitude, 2: of the power")
    top_db: Positive | None = Field(80.0, description="what is more than this below the clip's maximum is set to that")


_AS_LOG_MEL = "as in log_mel; default: that of log_mel, or else its default"


class Mfcc(Frozen):
    """Configure the orthonormal DCT-II of a log-mel: [n_mfcc, frames]. Omitted keys are those of log_mel, or else librosa's defaults."""

    n_mfcc: Annotated[int, Field(ge=1, le=4096)] = Field(20, description="coefficients")
    lifter: Annotated[float, Field(ge=0)] = Field(0.0, description="coefficient of cepstral liftering; 0: none")
    n_fft: Annotated[int, Field(ge=16, le=65536)] | None = Field(None, description=_AS_LOG_MEL)
    hop_length: Annotated[int, Field(ge=1, le=65536)] | None = Field(None, description=_AS_LOG_MEL)
    win_length: Annotated[int, Field(ge=1)] | None = Field(None, description=_AS_LOG_MEL)
    window: Literal["hann", "hamming", "blackman", "ones"] | None = Field(None, description=_AS_LOG_MEL)
    center: bool | None = Field(None, description=_AS_LOG_MEL)
    pad_mode: Literal["constant", "reflect", "edge"] | None = Field(None, description=_AS_LOG_MEL)
    n_mels: Annotated[int, Field(ge=1, le=4096)] | None = Field(None, description=_AS_LOG_MEL)
    fmin: Annotated[float, Field(ge=0)] | None = Field(None, description=_AS_LOG_MEL)
    fmax: Positive | None = Field(None, description=_AS_LOG_MEL)
    mel_scale: Literal["slaney", "htk"] | None = Field(None, description=_AS_LOG_MEL)
    norm: Literal["slaney", "none"] | None = Field(None, description=f"{_AS_LOG_MEL}; none: no normalisation")
    top_db: Positive | None = Field(None, description=_AS_LOG_MEL)

    def log_mel(self, base: LogMel | None) -> LogMel:
        """Return the log-mel from which the coefficients are computed."""
        changed = {
            k: getattr(self, k)
            for k in self.model_fields_set
            if k in LogMel.model_fields and getattr(self, k) is not None
        }
        if changed.get("norm") == "none":
            changed["norm"] = None
        return LogMel.model_validate({**(base or LogMel()).model_dump(), **changed})


class Features(Frozen):
    """Configure what is computed from each clip. Other keys name derived stages; `clipmill.stages.lookup` checks their settings."""

    model_config = ConfigDict(extra="allow")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="in which features are stored; computed in float32"
    )
    spectrogram: Annotated[Spectrogram | None, written_as(Spectrogram | bool | None)] = Field(
        None, description="magnitude, power or dB of a short-time Fourier transform"
    )
    log_mel: Annotated[LogMel | None, written_as(LogMel | bool | None)] = Field(
        None, description="mel power spectrogram in dB"
    )
    mfcc: Annotated[Mfcc | None, written_as(Mfcc | bool | None)] = Field(
        None, description="mel-frequency cepstral coefficients, of the log-mel"
    )

    @field_validator("spectrogram", "log_mel", "mfcc", mode="before")
    @classmethod
    def _bare_key(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @model_validator(mode="after")
    def _check(self) -> Features:
        if self.dtype == "float16" and self.spectrogram is not None and self.spectrogram.output == "power":
            raise ValueError(
                "spectrogram.output: power exceeds the largest float16, 65504; use magnitude or magnitude_db, or dtype: float32"
            )
        if self.mfcc is not None:
            try:
                mel = self.mfcc.log_mel(self.log_mel)
            except ValidationError as error:
                raise ValueError(f"mfcc: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
            if self.mfcc.n_mfcc > mel.n_mels:
                raise ValueError(f"n_mfcc {self.mfcc.n_mfcc} exceeds n_mels {mel.n_mels}")
        return self

    @property
    def derived_stages(self) -> dict[str, Any]:
        """Return the settings of the configured derived stages by name, in the order of the file."""
        extra = self.model_extra or {}
        return {name: {} if value in (None, True) else value for name, value in extra.items() if value is not False}

    @property
    def min_samples(self) -> int:
        """Return the length in samples of the shortest clip that has a frame in every transform."""
        mfcc = self.mfcc.log_mel(self.log_mel) if self.mfcc is not None else None
        transforms = [t for t in (self.spectrogram, self.log_mel, mfcc) if t is not None]
        return max((1 if t.center else t.n_fft for t in transforms), default=1)

    @property
    def names(self) -> list[str]:
        """Return the features' column names, in the order of the shard's columns."""
        names = []
        if self.spectrogram is not None:
            names.append("spectrogram")
            if self.spectrogram.phase:
                names.append("phase")
        if self.log_mel is not None:
            names.append("log_mel")
        if self.mfcc is not None:
            names.append("mfcc")
        return names
