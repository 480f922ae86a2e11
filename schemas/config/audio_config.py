"""The section `audio` of a configuration, and the choice of tracks and channels that a source may make for itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from clipmill.schemas.config.model import Frozen, did_you_mean, later

_MOST = 65535
_NAMES = ("mono", "keep", "left", "right", "each")


def _channels(value: Any) -> Any:
    """Return a choice of channels in its one form: numbers are sorted, since their order changes no mean."""
    if isinstance(value, str) and value in _NAMES:
        return value
    if not isinstance(value, list) or not value or any(type(n) is not int or not 0 <= n <= _MOST for n in value):
        raise ValueError(
            "expected mono, keep, left, right, each, or a list of channel numbers, counted from 0, as in [0, 2]"
            + did_you_mean(value, _NAMES)
        )
    if len(set(value)) < len(value):
        raise ValueError("names a channel twice")
    return sorted(value)


def _track(value: Any) -> Any:
    is_number = type(value) is int and 0 <= value <= _MOST
    if not is_number and value not in ("default", "first") and not isinstance(value, dict | Language):
        raise ValueError(
            "expected default, first, a track's number, counted from 0, or {language: eng}"
            + did_you_mean(value, ("default", "first"))
        )
    return value


def _kind_of_track(value: Any) -> str:
    return "as number" if isinstance(value, int) else "as text" if isinstance(value, str) else "as mapping"


class Language(Frozen):
    """The track of a language, as the file's metadata name it."""

    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length=35)]

    @field_validator("language", mode="before")
    @classmethod
    def _norwegian(cls, language: Any) -> Any:
        if language is False:
            raise ValueError("YAML reads `no` as false; write 'no' in quotes")
        return language


Channels = Annotated[Literal["mono", "keep", "left", "right", "each"] | list[int], BeforeValidator(_channels)]
"""mono: their mean; keep: all, in one clip; each: all, a clip each; left, right: channel 0, 1; numbers: the mean of these."""

Track = Annotated[
    Annotated[Literal["default", "first"], Tag("as text")]
    | Annotated[int, Tag("as number")]
    | Annotated[Language, Tag("as mapping")],
    Discriminator(_kind_of_track),
    BeforeValidator(_track),
]
"""Which of a file's audio tracks; a number is counted from 0 among the audio tracks."""


class Audio(Frozen):
    """What the clips' samples are."""

    sample_rate_hz: Annotated[int, Field(ge=1000, le=384000)] = 16000
    channels: Channels = "mono"
    resampler: Literal["soxr_hq", "soxr_vhq", "soxr_mq"] = "soxr_hq"
    sample_format: Literal["int16", "float32"] = "int16"
    truncated: Literal["reject", "keep"] = Field("reject", description="recordings whose file ends too early")
    track: Track = later("default", description="which audio track of a file that has several")
    gaps: Literal["fill", "reject", "ignore"] = later("fill", description="holes in a recording's timeline")
