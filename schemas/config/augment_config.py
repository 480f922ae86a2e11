"""Define the settings of the clip stage `augment`, which adds changed copies of clips."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from clipmill.schemas.config.model import Frozen, Name, Share, did_you_mean, written_as

_PROBABILITY = "with which a copy has the effect"


class Span(Frozen):
    """Bound what is drawn. low, high : both can be drawn; probability : with which a copy has the effect at all"""

    low: float = Field(description="least value that is drawn")
    high: float = Field(description="greatest value that is drawn")
    probability: Share = Field(1.0, description=_PROBABILITY)

    @model_validator(mode="after")
    def _check(self) -> Span:
        if self.low > self.high:
            raise ValueError(f"the range [{self.low:g}, {self.high:g}] is reversed")
        return self


_Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


def _span(value: Any) -> Any:
    """Return a range as a map of its bounds. One number stands for both."""
    probability = {}
    if isinstance(value, dict) and "range" in value:
        if unknown := sorted(value.keys() - {"range", "probability"}):
            raise ValueError(
                f"unknown key {unknown[0]!r}{did_you_mean(unknown[0], ('range', 'probability'))}; known are range, probability"
            )
        probability = {k: v for k, v in value.items() if k == "probability"}
        value = value["range"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"low": value, "high": value, **probability}
    if isinstance(value, list) and len(value) == 2 and not any(isinstance(v, bool) for v in value):
        return {"low": value[0], "high": value[1], **probability}
    if isinstance(value, dict | Span):
        return value
    raise ValueError("expected a range, as in [0.9, 1.1], one number, or {range: [0.9, 1.1], probability: 0.5}")


class Drawn(Frozen):
    """Define how a range with a probability is written; see `Span`."""

    range: float | _Pair = Field(description="[least, greatest], or one number")
    probability: Share = Field(1.0, description=_PROBABILITY)


Range = Annotated[Span, BeforeValidator(_span, json_schema_input_type=float | _Pair | Drawn | Span)]


def _within(least: float, most: float, what: str) -> Any:
    def check(span: Span) -> Span:
        if span.low < least or span.high > most:
            raise ValueError(f"{what} must be within {least:g} and {most:g}")
        return span

    from pydantic import AfterValidator

    return AfterValidator(check)


Hertz = Annotated[Range, _within(1, 192_000, "a frequency in Hz")]


class Filter(Frozen):
    """Configure filters of the Butterworth kind. lowpass_hz, highpass_hz : cutoffs at -3 dB"""

    lowpass_hz: Hertz | None = Field(None, description="cutoff at -3 dB of what is above")
    highpass_hz: Hertz | None = Field(None, description="cutoff at -3 dB of what is below")
    order: Annotated[int, Field(ge=1, le=10)] = Field(4, description="of the filters")
    probability: Share = Field(1.0, description=_PROBABILITY)

    @model_validator(mode="after")
    def _check(self) -> Filter:
        if self.lowpass_hz is None and self.highpass_hz is None:
            raise ValueError("needs lowpass_hz, highpass_hz or both")
        return self


class Reverb(Frozen):
    """Configure reverberation by recorded impulse responses. from : an entry of `noises`; wet : share of the sound from the room"""

    from_: Name = Field(alias="from", description="an entry of `noises`: impulse responses")
    wet: Annotated[Range, _within(0, 1, "wet")] = Field(
        Span(low=1.0, high=1.0), description="share of the sound from the room"
    )
    probability: Share = Field(1.0, description=_PROBABILITY)


class NoiseMix(Frozen):
    """Configure noise that is mixed in. from : an entry of `noises`; snr_db : power of the clip over that of the noise"""

    from_: Name = Field(alias="from", description="an entry of `noises`")
    snr_db: Annotated[Range, _within(-100, 100, "snr_db")] = Field(description="power of the clip over the noise's")
    probability: Share = Field(1.0, description=_PROBABILITY)


_CodecName = Literal["mp3", "opus", "aac", "mulaw", "alaw", "amr"]


class Codec(Frozen):
    """Configure encoding and decoding with a lossy codec. name : one or several to draw from; bit_rate_kbps : for mp3, opus and aac"""

    name: Annotated[list[_CodecName], written_as(_CodecName | list[_CodecName])] = Field(
        min_length=1, description="one, or several to draw from"
    )
    bit_rate_kbps: Annotated[Range, _within(6, 320, "bit_rate_kbps")] = Field(
        Span(low=24, high=64), description="of mp3, opus and aac"
    )
    probability: Share = Field(1.0, description=_PROBABILITY)

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": [value]}
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return {**value, "name": [value["name"]]}
        return value


EFFECTS = ("speed", "pitch", "reverb", "noise", "filter", "codec", "gain_db", "shift_s", "fade_s")
"""The effects in the order in which they are applied: the source of the sound, the room, what else is heard, the channel, the edit."""


class Augment(Frozen):
    """Configure how many copies are made of a clip, and what is changed in them."""

    example: ClassVar[str] = "{copies: 2, speed: [0.9, 1.1], gain_db: [-6, 6]}"

    copies: Annotated[int, Field(ge=1, le=20)] = Field(1, description="changed copies of each clip")
    splits: Annotated[list[str], Field(min_length=1)] | None = Field(None, description="default: those for training")
    speed: Annotated[Range, _within(0.5, 2, "speed")] | None = Field(None, description="changes length and pitch")
    pitch: Annotated[Range, _within(-12, 12, "pitch")] | None = Field(
        None, description="in semitones; the length stays"
    )
    reverb: Reverb | None = Field(None, description="recorded impulse responses")
    noise: NoiseMix | None = Field(None, description="noise that is mixed in")
    filter: Filter | None = Field(None, description="lowpass, highpass or both")
    codec: Annotated[Codec | None, written_as(Codec | _CodecName | None)] = Field(
        None, description="encode and decode with a lossy codec"
    )
    gain_db: Annotated[Range, _within(-60, 60, "gain_db")] | None = Field(None, description="louder or quieter")
    shift_s: Annotated[Range, _within(-60, 60, "shift_s")] | None = Field(None, description="zeros come in")
    fade_s: Annotated[Range, _within(0, 60, "fade_s")] | None = Field(None, description="at the start and at the end")

    @model_validator(mode="after")
    def _check(self) -> Augment:
        if not any(getattr(self, name) is not None for name in EFFECTS):
            raise ValueError(f"needs at least one effect: {', '.join(EFFECTS)}")
        return self
