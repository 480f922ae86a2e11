"""Define the section `audio` of a configuration, and the choice of tracks and channels, which a source can override."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from clipmill.schemas.config.model import Frozen, did_you_mean, later

_MOST = 65535
_NAMES = ("mono", "keep", "left", "right", "each")


def _channels(value: Any) -> Any:
    """Return a choice of channels in canonical form. Numbers are sorted, since their order does not change the mean."""
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
    """Choose the track of a language, as the file's metadata state it."""

    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length=35)] = Field(
        description="as in the file's metadata, such as eng"
    )

    @field_validator("language", mode="before")
    @classmethod
    def _norwegian(cls, language: Any) -> Any:
        if language is False:
            raise ValueError("YAML reads `no` as false; write 'no' in quotes")
        return language


Channels = Annotated[Literal["mono", "keep", "left", "right", "each"] | list[int], BeforeValidator(_channels)]
"""mono: the mean of all; keep: all in one clip; each: one clip per channel; left, right: channel 0, 1; numbers: the mean of these."""

Track = Annotated[
    Annotated[Literal["default", "first"], Tag("as text")]
    | Annotated[int, Tag("as number")]
    | Annotated[Language, Tag("as mapping")],
    Discriminator(_kind_of_track),
    BeforeValidator(_track),
]
"""Which of a file's audio tracks to use; numbers count the audio tracks from 0."""


class Audio(Frozen):
    """Configure the samples of clips."""

    sample_rate_hz: Annotated[int, Field(ge=1000, le=384000)] = Field(16000, description="of clips")
    channels: Channels = Field(
        "mono",
        description="mono mixes all, keep keeps all in one clip, each makes a clip of each; left, right, or a list of numbers from 0 to mix",
    )
    resampler: Literal["soxr_hq", "soxr_vhq", "soxr_mq"] = Field("soxr_hq", description="quality of resampling")
    sample_format: Literal["int16", "float32"] = Field("int16", description="of stored clips; float32 needs wav")
    truncated: Literal["reject", "keep"] = Field("reject", description="recordings whose file ends too early")
    track: Track = later("default", description="which audio track of a file that has several")
    gaps: Literal["fill", "reject", "ignore"] = later("fill", description="holes in a recording's timeline")
