"""Define the configuration of features. Names, defaults and conventions are librosa's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from clipmill.schemas.config.mel_config import LogMel as LogMel
from clipmill.schemas.config.mel_config import Mfcc as Mfcc
from clipmill.schemas.config.model import Frozen, error_at, written_as
from clipmill.schemas.config.stft_config import Spectrogram as Spectrogram
from clipmill.schemas.log_scale import PAD_SUFFIX


class AtRate(NamedTuple):
    """Transforms whose lengths are in samples. of_mfcc : the log-mel from which the coefficients are computed"""

    spectrogram: Spectrogram | None
    log_mel: LogMel | None
    of_mfcc: LogMel | None

    @property
    def each(self) -> list[Spectrogram | LogMel]:
        """Return those that are computed."""
        return [spec for spec in self if spec is not None]

    @property
    def min_samples(self) -> int:
        """Return the length in samples of the shortest clip that has a frame in every transform."""
        return max((spec.framing.layout.min_samples for spec in self.each), default=1)

    @property
    def max_s(self) -> float | None:
        """Return the length of the longest clip in seconds, None if there is no limit."""
        return min((spec.max_s for spec in self.each if isinstance(spec, LogMel) and spec.max_s), default=None)


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

    def at(self, sample_rate_hz: int) -> AtRate:
        """Return the transforms with all lengths in samples.

        Raises
        ------
        ValueError : a key does not fit to this rate, by `error_at`
        """
        of_mfcc = self.mfcc.log_mel(self.log_mel) if self.mfcc is not None else None
        found: dict[str, Any] = {}
        for name, spec in (("spectrogram", self.spectrogram), ("log_mel", self.log_mel), ("mfcc", of_mfcc)):
            try:
                found[name] = spec.at(sample_rate_hz) if spec is not None else None
            except ValueError as error:
                raise error_at(f"features.{name}", str(error)) from None
        return AtRate(found["spectrogram"], found["log_mel"], found["mfcc"])

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

    @property
    def pad_names(self) -> list[str]:
        """Return the names of the columns with each clip's value of silence."""
        return ["log_mel" + PAD_SUFFIX] if self.log_mel is not None and self.log_mel.pad_value == "floor" else []
