"""The configuration of a build, as typed, checked, frozen values. `schemas.config_file` reads it from YAML."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Literal

import regex
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from schemas.audio_config import Audio, Channels, Track
from schemas.feature_config import Features
from schemas.image_config import Images
from schemas.model import Frozen, Name, Positive, Share, error_at, later
from schemas.raw_config import Raw, names_extension

AUDIO_EXTENSIONS = (
    "wav wave rf64 w64 bwf flac ogg oga opus mp3 mp2 mpga aif aiff aifc au snd caf m4a mp4 aac mka webm wma amr 3gp "
    "sph sd2 voc iff svx nist mov mkv "
    "mp1 m4b m4r spx oggflac ogx ogv 3g2 asf wv tta ape mpc tak dsf dff ac3 eac3 ec3 ts"
).split()
"""Containers of video that stand beside extracted audio in many corpora (avi, flv, mpg, vob) are left out: each recording would be
there twice. They are told as passed over, and taken when `include` names them."""


def _text_encoding(name: str) -> str:
    try:
        known = name == "auto" or codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        known = False
    if not known:
        raise ValueError(f"{name!r} is no text encoding that Python knows; give one such as utf-8, utf-16 or latin-1")
    return name


def _kind_of(value: Any) -> str:
    """Return which branch of a union a value of the file is meant for, so that only that one reports its errors."""
    kinds = {dict: "as mapping", list: "as list", int: "as number"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "as text")


_RecordingName = Annotated[
    Annotated[str, Tag("as text")] | Annotated[int, Tag("as number")] | Annotated[list[str], Tag("as list")],
    Discriminator(lambda value: {"as mapping": "as text"}.get(_kind_of(value), _kind_of(value))),
]


class Annotations(Frozen):
    """Where a source's annotation rows are and how to read them."""

    format: Literal["csv"] = "csv"
    sidecar: str | None = Field(
        None, description="file beside each recording; {stem} and {name} stand for the recording's"
    )
    table: str | None = Field(None, description="one file for the whole source, relative to its root")
    recording: _RecordingName | None = Field(
        None,
        description="table only: column with the recording's path or name, or a template such as '{fold}-{take}.wav'",
    )
    header: bool = True
    delimiter: Literal["auto", ",", ";", "\t", "|"] = "auto"
    quote: Literal["auto", "none", '"', "'"] = "auto"
    encoding: Annotated[str, AfterValidator(_text_encoding)] = Field(
        "auto", description="auto reads a BOM, then tries UTF-8, then UTF-16 without BOM"
    )
    comment: str | None = Field(None, description="lines that start with this are skipped")
    columns: dict[str, int | str] = Field(
        default_factory=dict,
        description="start, end or duration, label, and any field to carry: by name or by index from 0",
    )
    extra_columns: Literal["carry", "drop"] = Field(
        "carry", description="with a header: columns not named in `columns`"
    )
    time_unit: Literal["s", "ms", "samples"] = "s"
    end_tolerance_s: Annotated[float, Field(ge=0, le=10)] = Field(
        0.05, description="a range may end this much after the recording does; it is then cut at the end"
    )

    @model_validator(mode="after")
    def _check(self) -> Annotations:
        if (self.sidecar is None) == (self.table is None):
            raise ValueError(
                "give either `sidecar` (a file beside each recording) or `table` (one file for the source)"
            )
        if self.table is not None and self.recording is None:
            raise ValueError("`table` needs `recording`: the column that names the recording")
        if self.sidecar is not None and self.recording is not None:
            raise ValueError("`recording` belongs to `table`; a sidecar's recording is the file beside it")
        if self.sidecar is not None:
            names = re.findall(r"\{([^{}]*)\}", self.sidecar)
            if set(names) - {"stem", "name"}:
                raise ValueError(f"sidecar {self.sidecar!r} knows the placeholders {{stem}} and {{name}} only")
        for name in (self.sidecar, self.table):
            if name is not None and (name.startswith("/") or ".." in name.split("/") or "://" in name):
                raise ValueError(f"{name!r} leads out of the source's root")
        if {"end", "duration"} <= self.columns.keys():
            raise ValueError("give `end` or `duration`, not both")
        if "start" not in self.columns and {"end", "duration"} & self.columns.keys():
            raise ValueError("`end` and `duration` need `start`")
        if not self.header and any(isinstance(c, str) for c in self.columns.values()):
            raise ValueError("without a header, columns are given by index, counted from 0")
        if any(isinstance(c, int) and c < 0 for c in self.columns.values()):
            raise ValueError("a column's index is counted from 0")
        return self


class Segment(Frozen):
    """How a recording, or each annotated range of it, is cut into clips."""

    mode: Literal["annotation", "window", "whole"] = "whole"
    length_s: Positive | None = None
    hop_s: Positive | None = Field(None, description="default: length_s")
    tail: Literal["drop", "keep", "pad_zero", "pad_noise"] = "drop"
    tail_noise_dbfs: Annotated[float, Field(ge=-200, le=0)] = -50.0
    keep_every: Annotated[int, Field(ge=1)] = 1
    max_clip_s: Annotated[float, Field(gt=0, le=3600)] = Field(600.0, description="a longer clip is rejected")

    @model_validator(mode="after")
    def _check(self) -> Segment:
        if self.mode == "window":
            if self.length_s is None:
                raise ValueError("mode window needs length_s")
            if self.length_s > self.max_clip_s:
                raise ValueError(f"length_s {self.length_s:g} is over max_clip_s {self.max_clip_s:g}")
        elif self.model_fields_set & {"length_s", "hop_s", "tail", "tail_noise_dbfs", "keep_every"}:
            raise ValueError(f"length_s, hop_s, tail and keep_every belong to mode window, not {self.mode}")
        return self

    @property
    def hop(self) -> float:
        """Seconds from one window's start to the next one's."""
        return self.hop_s if self.hop_s is not None else float(self.length_s or 0)


class From(Frozen):
    """Where a label comes from: the folder's name, the annotation row, or a group named `label` in the path."""

    from_: Literal["folder", "annotation", "path"] = Field(alias="from")
    regex: str | None = None

    @model_validator(mode="after")
    def _check(self) -> From:
        if (self.from_ == "path") != (self.regex is not None):
            raise ValueError("`from: path` and `regex` go together")
        if self.regex is not None and "label" not in _groups(self.regex):
            raise ValueError("the regex needs a group named label: (?P<label>...)")
        return self


_Label = Annotated[
    Annotated[str, Tag("as text")] | Annotated[From, Tag("as mapping")],
    Discriminator(lambda value: "as mapping" if isinstance(value, dict | From) else "as text"),
]


class Source(Frozen):
    """One tree of recordings with one way of labelling and cutting them."""

    name: Name
    root: str
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    include: list[str] = Field(
        default_factory=lambda: ["**/*"], description="patterns; only known audio extensions unless one is named"
    )
    exclude: list[str] = Field(default_factory=list)
    any_name: bool = later(
        False, description="patterns that name no extension take every file; those that are not audio are rejected"
    )
    follow_links: bool = Field(False, description="read symbolic links that lead out of the root")
    version: Literal["auto", "sha256"] = Field("auto", description="auto: size and mtime, or the store's ETag")
    bytes_per_second: Positive | None = Field(None, description="for sizing shards; default: typical of the extension")
    annotations: Annotations | None = None
    segment: Segment = Segment()
    label: _Label | None = None
    fields: str | None = Field(None, description="regex on the path; its named groups become fields of each clip")
    raw: Raw | None = later(None, description="the files have no header: all of each is samples of this kind")
    channels: Channels | None = later(None, description="instead of audio.channels")
    track: Track | None = later(None, description="instead of audio.track")

    @field_validator("root")
    @classmethod
    def _no_credentials(cls, root: str) -> str:
        return check_address(root)

    @field_validator("fields")
    @classmethod
    def _named_groups(cls, fields: str | None) -> str | None:
        if fields is not None and not _groups(fields):
            raise ValueError("the regex needs at least one named group: (?P<speaker>...)")
        return fields

    @field_validator("label", mode="before")
    @classmethod
    def _label_text(cls, label: Any) -> Any:
        return str(label) if isinstance(label, int | float) and not isinstance(label, bool) else label

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.raw is not None and not all(names_extension(p) for p in self.include):
            raise ValueError(
                "with `raw` every file is read as samples without a header, whatever it contains: each pattern of"
                ' `include` must end in an extension, as in include: ["**/*.pcm"]'
            )
        if self.raw is not None and self.track is not None:
            raise ValueError(
                "`raw` and `track` exclude each other: samples without a header have no tracks; leave `track` out"
            )
        if self.segment.mode == "annotation" and self.annotations is None:
            raise ValueError("segment mode annotation needs `annotations`")
        if isinstance(self.label, From) and self.label.from_ == "annotation":
            if self.annotations is None:
                raise ValueError("a label from the annotation needs `annotations`")
            if "label" not in self.annotations.columns:
                raise ValueError("a label from the annotation needs `annotations.columns.label`")
        return self


class Silence(Frozen):
    """Clips under this level are dropped."""

    min_dbfs: Annotated[float, Field(le=0)] | None = None


class Split(BaseModel):
    """Which side each clip stands on: shares by hash of a field, or a map of a field's values."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, Share]

    by: str | None = Field(None, description="recording, or a field; its hash decides")
    from_: str | None = Field(None, alias="from", description="a field whose value `map` turns into a split")
    map: Annotated[dict[str, Name], Field(min_length=1)] | None = None
    default: Name | None = Field(None, description="for values that `map` does not have")
    disjoint: list[str] = Field(
        default_factory=lambda: ["recording"],
        description="recording, or fields, such as a speaker's, no value of which may stand on two sides; [] to check nothing",
    )

    @field_validator("map", mode="before")
    @classmethod
    def _text_keys(cls, value: Any) -> Any:
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("disjoint", mode="before")
    @classmethod
    def _one_field(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Split:
        shares = self.shares
        if self.from_ is not None:
            if self.map is None:
                raise ValueError("`from` needs `map`: {value: split}")
            if shares or self.by is not None:
                raise ValueError("give shares with `by`, or `from` with `map`, not both")
        else:
            if self.map is not None or self.default is not None:
                raise ValueError("`map` and `default` need `from`: the field that is mapped")
            if not shares:
                raise ValueError("give at least one share, as in {train: 0.9, test: 0.1}")
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"the shares add up to {sum(shares.values()):g}, not to 1")
            for name in shares:
                if not name.isidentifier():
                    raise ValueError(f"{name!r} is no name for a split: letters, digits and _")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Split names with their shares, in the order of the names: the order in a file must not move a clip."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    @property
    def field(self) -> str | None:
        """The field that decides, None for the recording itself."""
        name = self.from_ if self.from_ is not None else self.by
        return None if name in (None, "recording") else name


def _parquet() -> list[Literal["parquet", "webdataset"]]:
    return ["parquet"]


class Output(Frozen):
    """Where the dataset goes and in which form."""

    root: str
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    formats: Annotated[list[Literal["parquet", "webdataset"]], Field(min_length=1)] = Field(default_factory=_parquet)
    audio_codec: Literal["flac", "wav"] = "flac"
    shard_seconds: Annotated[float, Field(ge=1, le=86400)] = 1800.0
    images: Images | None = Field(None, description="a PNG of each clip's log-mel")

    @field_validator("images", mode="before")
    @classmethod
    def _bare_key(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @field_validator("formats")
    @classmethod
    def _each_once(cls, formats: list[str]) -> list[str]:
        if len(set(formats)) < len(formats):
            raise ValueError("names a format twice")
        return formats

    @field_validator("root")
    @classmethod
    def _no_credentials(cls, root: str) -> str:
        return check_address(root)


class Limits(Frozen):
    """When a finished build is not published, and when a recording is given up."""

    max_rejected_share: Share = 0.01
    min_clips: Annotated[int, Field(ge=0)] = 0
    max_shrink_share: Share | None = Field(
        None, description="fewer clips than the last snapshot, by this share at most"
    )
    max_label_drift: Share | None = Field(
        None, description="how much each label's share of the clips may differ from the last snapshot"
    )
    max_saturated_share: Share | None = Field(
        None, description="of each source's samples, how many may be at full scale, as in recordings that were clipped"
    )
    decoder_timeout_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        300.0, description="a recording of which nothing was decoded for so long is rejected"
    )
    decoder_memory_mb: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        4000, description="a recording that takes more memory to decode is rejected"
    )
    max_recording_s: Positive = later(86400.0, description="a longer recording is rejected")
    max_temporary_mb: Annotated[int, Field(ge=1, le=1_000_000_000)] = later(
        50_000, description="a recording whose clips, until its end is decoded, take more space on the disk is rejected"
    )


class Config(Frozen):
    """A whole build."""

    name: Name
    sources: Annotated[list[Source], Field(min_length=1)]
    audio: Audio = Audio()
    silence: Silence = Silence()
    features: Features = Features()
    split: Split = Split.model_validate({"train": 1.0})
    output: Output
    limits: Limits = Limits()

    def channels_of(self, source: Source) -> Channels:
        """Return which channels of a source's recordings are used."""
        return source.channels if source.channels is not None else self.audio.channels

    def track_of(self, source: Source) -> Track:
        return source.track if source.track is not None else self.audio.track

    @property
    def has_channel_column(self) -> bool:
        """Whether clips say of which channel they are: where any source has a clip for each channel."""
        return any(self.channels_of(source) == "each" for source in self.sources)

    @model_validator(mode="after")
    def _check(self) -> Config:
        names = [s.name for s in self.sources]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise error_at(f"sources[{i}].name", f"two sources are named {name!r}; a source's name must be its own")
        if self.audio.sample_format == "float32" and self.output.audio_codec == "flac":
            raise error_at(
                "audio.sample_format", "float32 needs output.audio_codec: wav, since FLAC holds whole numbers only"
            )
        for i, source in enumerate(self.sources):
            segment = source.segment
            if (
                segment.mode == "window"
                and min(float(segment.length_s or 0), segment.hop) * self.audio.sample_rate_hz < 1
            ):
                raise error_at(
                    f"sources[{i}].segment",
                    f"length_s and hop_s must be at least one sample, {1 / self.audio.sample_rate_hz:g} s",
                )
        if self.output.images is not None and self.features.log_mel is None:
            raise error_at("output.images", "draws the log-mel, which is not computed; add `log_mel: {}` to features")
        nyquist = self.audio.sample_rate_hz / 2
        mels = {"log_mel": self.features.log_mel}
        if self.features.mfcc is not None:
            mels["mfcc"] = self.features.mfcc.log_mel(self.features.log_mel)
        for name, mel in mels.items():
            if mel is None:
                continue
            if mel.fmax is not None and mel.fmax > nyquist:
                raise error_at(f"features.{name}.fmax", f"fmax {mel.fmax:g} is over half the sample rate, {nyquist:g}")
            if mel.fmin >= (mel.fmax or nyquist):
                raise error_at(f"features.{name}.fmin", f"fmin {mel.fmin:g} is not under fmax, {mel.fmax or nyquist:g}")
        return self


def _groups(pattern: str) -> list[str]:
    try:
        return list(regex.compile(pattern).groupindex)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


def check_address(root: str) -> str:
    """Return a root that can be told to everybody."""
    if not root:
        raise ValueError("is empty; give a folder or a URL")
    if root.startswith(("s3://", "s3a://")) and not root.split("://", 1)[1].split("/", 1)[0]:
        raise ValueError("names no bucket; give s3://BUCKET/FOLDER")
    if "://" in root and "@" in root.split("://", 1)[1].split("/", 1)[0]:
        raise ValueError("holds credentials; put them in storage_options, best by ${VAR}")
    if "://" in root and "?" in root:
        raise ValueError("has a query behind ?, which can hold a signature or a version; give a plain address")
    return root
