"""Define the configuration of a build as typed, checked, frozen values. `clipmill.pipelines.config_file` reads it from YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from clipmill.schemas.config.address import check_address as check_address
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.annotation_roles import LABEL_COLUMNS
from clipmill.schemas.config.audio_config import Audio, Channels, Track
from clipmill.schemas.config.clip_config import Steps
from clipmill.schemas.config.feature_config import Features
from clipmill.schemas.config.label_config import From, Label, as_label, named_groups
from clipmill.schemas.config.limits_config import Limits
from clipmill.schemas.config.model import Frozen, Name, Positive, did_you_mean, error_at, later, written_as
from clipmill.schemas.config.noise_config import Noise
from clipmill.schemas.config.output_config import Output as Output
from clipmill.schemas.config.raw_config import Raw, names_extension
from clipmill.schemas.config.segment_config import Segment as Segment
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.config.text_config import Text
from clipmill.schemas.label_columns import EVENTS_COLUMN, LABELS_COLUMN
from clipmill.schemas.names import normalize_names

AUDIO_EXTENSIONS = (
    "wav wave rf64 w64 bwf flac ogg oga opus mp3 mp2 mpga aif aiff aifc au snd caf m4a mp4 aac mka webm wma amr 3gp "
    "sph sd2 voc iff svx nist mov mkv "
    "mp1 m4b m4r spx oggflac ogx ogv 3g2 asf wv tta ape mpc tak dsf dff ac3 eac3 ec3 ts"
).split()
"""Extensions of audio files. Video containers that accompany extracted audio in many corpora (avi, flv, mpg, vob) are left out, because
each recording would occur twice. The plan reports them as passed over; they are used when `include` names them."""


class Source(Frozen):
    """Configure one tree of recordings, which are labelled and cut in the same way."""

    name: Name = Field(description="of the source; each clip has it, and no two sources have the same")
    root: str = Field(description="folder or address, such as s3://bucket/prefix")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="endpoint and credentials of a store; see docs/s3.md"
    )
    include: list[str] = Field(
        default_factory=lambda: ["**/*"], description="patterns; only known audio extensions unless one is named"
    )
    exclude: list[str] = Field(default_factory=list, description="patterns of what is left out")
    any_name: bool = later(
        False, description="patterns that name no extension take every file; those that are not audio are rejected"
    )
    follow_links: bool = Field(False, description="read symbolic links that lead out of the root")
    version: Literal["auto", "sha256"] = Field("auto", description="auto: size and mtime, or the store's ETag")
    bytes_per_second: Positive | None = Field(None, description="for sizing shards; default: typical of the extension")
    annotations: Annotations | None = Field(
        None, description="tables or files of annotations: what is cut out, labels and fields; see docs/annotations.md"
    )
    joins: list[Annotations] = later(
        [],
        description="more annotations, joined to the rows of `annotations`; a list under `annotations` says the same",
    )
    segment: Segment = Field(Segment(), description="how clips are cut out of recordings")
    label: Annotated[Label | None, written_as(str | int | float | From | None)] = Field(
        None, description="one label for all clips, or where labels come from"
    )
    fields: str | None = Field(None, description="regex on the path; its named groups become fields of each clip")
    raw: Raw | None = later(None, description="the files have no header: all of each is samples of this kind")
    channels: Channels | None = later(None, description="instead of audio.channels")
    track: Track | None = later(None, description="instead of audio.track")
    clips: Steps | None = later(None, description="clip stages of this source, instead of the list `clips`")
    text: Text | None = later(None, description="transcripts: where they come from, and how they are made uniform")

    @property
    def all_annotations(self) -> list[Annotations]:
        """Return the annotations, and those that are joined to them."""
        return [self.annotations, *self.joins] if self.annotations is not None else []

    @property
    def channel_by_row(self) -> bool:
        """Return whether each annotation row names the channel of its clips."""
        return self.annotations is not None and "channel" in self.annotations.columns

    @property
    def label_from_rows(self) -> bool:
        """Return whether a clip's label is that of its annotation row."""
        return self.label is None or (isinstance(self.label, From) and self.label.from_ in (None, "annotation"))

    @property
    def has_label_lists(self) -> bool:
        """Return whether its clips have lists of labels."""
        return isinstance(self.label, From) and self.label.makes_lists

    @property
    def labels_by_overlap(self) -> bool:
        """Return whether annotation rows label the clips that they overlap, and cut none."""
        return isinstance(self.label, From) and self.label.by_overlap is not None

    @property
    def has_events(self) -> bool:
        """Return whether its clips know when each label is heard in them: labels come from annotation rows with times."""
        return self.has_label_lists and self.label_from_rows and any(each.is_timed for each in self.all_annotations)

    @property
    def tolerance_s(self) -> float:
        """Return how far an annotated range may reach beyond its recording, in seconds."""
        return self.annotations.end_tolerance_s if self.annotations is not None else 0.0

    @field_validator("root")
    @classmethod
    def _no_credentials(cls, root: str) -> str:
        return check_address(root)

    @field_validator("fields")
    @classmethod
    def _named_groups(cls, fields: str | None) -> str | None:
        if fields is not None and not named_groups(fields):
            raise ValueError("the regex needs at least one named group: (?P<speaker>...)")
        return fields

    @field_validator("label", mode="before")
    @classmethod
    def _label_text(cls, label: Any) -> Any:
        return as_label(label)

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.raw is not None and not all(names_extension(p) for p in self.include):
            raise ValueError(
                "with `raw` every file is read as samples without a header, whatever it contains, so each pattern of"
                ' `include` must end in an extension, as in include: ["**/*.pcm"]'
            )
        if self.raw is not None and self.track is not None:
            raise ValueError(
                "`raw` and `track` exclude each other: samples without a header have no tracks; leave `track` out"
            )
        if self.channel_by_row and self.channels is not None:
            raise ValueError(
                "`channels` and `annotations.columns.channel` exclude each other: each row takes the channel that it names; leave"
                " `channels` out (a field of this name goes under annotations.fields)"
            )
        if self.joins and self.annotations is None:
            raise ValueError("`joins` needs `annotations`, to whose rows they are joined")
        if self.segment.mode == "annotation" and self.annotations is None:
            raise ValueError("segment mode annotation needs `annotations`")
        if isinstance(self.label, From) and self.label.from_ == "annotation":
            if self.annotations is None:
                raise ValueError("a label from the annotation needs `annotations`")
            if "label" not in self.annotations.columns and self.label.one_hot is None:
                raise ValueError("a label from the annotation needs `annotations.columns.label`")
        if self.text is not None and self.text.from_ == "label":
            if self.annotations is None:
                raise ValueError("text.from: label is the label of annotation rows, so it needs `annotations`")
            if not any(each.format != "csv" or "label" in each.columns for each in self.all_annotations):
                raise ValueError("text.from: label needs `annotations.columns.label`")
        if isinstance(self.label, From) and self.label.from_ is None and self.annotations is None:
            raise ValueError("`label` needs `from` in a source without annotations: folder, or path with a regex")
        self._check_label_lists()
        return self

    def _check_label_lists(self) -> None:
        """Check the keys about several labels against annotations and segment."""
        if not isinstance(self.label, From) or self.annotations is None:
            return
        if self.label.one_hot is not None and "label" in self.annotations.columns:
            raise ValueError(
                "`label.one_hot` and `annotations.columns.label` exclude each other: labels are columns, or in one column; remove one of them"
            )
        has_labels = self.label.one_hot is not None or any("label" in each.columns for each in self.all_annotations)
        if self.has_label_lists and self.label_from_rows and not has_labels:
            raise ValueError("several labels from annotations need `annotations.columns.label`, or `label.one_hot`")
        if self.labels_by_overlap and self.segment.mode == "annotation":
            raise ValueError(
                "`label.by_overlap` and segment mode annotation exclude each other: rows that label do not cut; give another mode, such"
                " as {mode: window, length_s: 3}, or remove `by_overlap`"
            )


class Silence(Frozen):
    """Configure the level below which clips are dropped."""

    min_dbfs: Annotated[float, Field(le=0)] | None = Field(None, description="clips of a lower level are dropped")


_Classes = Annotated[list[str | int | float], Field(min_length=1)]


class Config(Frozen):
    """Configure a whole build."""

    name: Name = Field(description="of the dataset")
    sources: Annotated[list[Source], Field(min_length=1)] = Field(description="trees of recordings")
    audio: Audio = Field(Audio(), description="samples of clips")
    silence: Silence = Field(Silence(), description="short for the stage `silence` of `clips`")
    clips: Steps | None = later(None, description="stages that clips go through, in this order; see docs/stages.md")
    noises: list[Noise] = later([], description="noises and impulse responses for `augment`; no clips are made of them")
    features: Features = Field(Features(), description="what is computed from each clip")
    split: Split = Field(
        Split.model_validate({"train": 1.0}), description="which clips are for training, and which for evaluation"
    )
    output: Output = Field(description="where the dataset is written, and how")
    limits: Limits = Field(Limits(), description="what keeps a finished build from being published")
    exclude_clips: str | None = later(
        None, description="file or address of a list of clip ids, one a line, that are left out"
    )
    classes: Annotated[Annotated[list[str], Field(min_length=1)] | None, written_as(_Classes | None)] = later(
        None, description="all labels, in the order of their ids; other labels are rejected"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, data: Any) -> Any:
        return normalize_names(data)

    @field_validator("exclude_clips")
    @classmethod
    def _no_credentials(cls, address: str | None) -> str | None:
        return check_address(address) if address is not None else None

    @field_validator("classes", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        return [as_label(v) for v in value] if isinstance(value, list) else value

    def channels_of(self, source: Source) -> Channels:
        """Return the channels of a source's recordings that are used: each, where annotation rows choose among them."""
        if source.channel_by_row:
            return "each"
        return source.channels if source.channels is not None else self.audio.channels

    def steps_of(self, source: Source | None = None) -> list[tuple[str, Any, str]]:
        """Return name, settings and key of each clip stage: of one source, or of the sources without a list of their own."""
        if source is not None and source.clips is not None:
            at = next(i for i, s in enumerate(self.sources) if s.name == source.name)
            return [
                (n, s, f"sources[{at}].clips[{i}].{n}") for i, step in enumerate(source.clips) for n, s in step.items()
            ]
        if self.clips is not None:
            return [(n, s, f"clips[{i}].{n}") for i, step in enumerate(self.clips) for n, s in step.items()]
        return (
            [("silence", {"min_dbfs": self.silence.min_dbfs}, "silence")] if self.silence.min_dbfs is not None else []
        )

    def levels_recordings(self, source: Source) -> bool:
        """Return whether the level of a source's whole recordings is wanted, so that each is one item, however long."""
        steps = self.steps_of(source)
        return any(n == "level" and isinstance(s, dict) and s.get("of") == "recording" for n, s, _ in steps)

    def track_of(self, source: Source) -> Track:
        """Return the audio track that is used of a source's recordings."""
        return source.track if source.track is not None else self.audio.track

    @property
    def has_channel_column(self) -> bool:
        """Return whether the dataset has a column of channels: whether any source has a clip for each channel, or for those of its rows."""
        return any(self.channels_of(source) == "each" for source in self.sources)

    @property
    def label_lists(self) -> tuple[str, ...]:
        """Return the names of the columns of labels that the dataset has besides `label`: `labels`, or `labels` and `events`, or none."""
        if not any(source.has_label_lists for source in self.sources):
            return ()
        return (LABELS_COLUMN, EVENTS_COLUMN) if any(source.has_events for source in self.sources) else (LABELS_COLUMN,)

    @model_validator(mode="after")
    def _check(self) -> Config:
        names = [s.name for s in self.sources]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise error_at(
                    f"sources[{i}].name", f"two sources are named {name!r}; each source needs a name of its own"
                )
        if self.audio.sample_format == "float32" and self.output.audio_codec == "flac":
            raise error_at(
                "audio.sample_format", "float32 needs output.audio_codec: wav, since FLAC holds whole numbers only"
            )
        for i, source in enumerate(self.sources):
            segment = source.segment
            if segment.length_s and min(segment.length_s, segment.hop) * self.audio.sample_rate_hz < 1:
                lengths = "length_s and hop_s" if segment.mode == "window" else "length_s"
                raise error_at(
                    f"sources[{i}].segment",
                    f"{lengths} must be at least one sample, {1 / self.audio.sample_rate_hz:g} s",
                )
        noises = [noise.name for noise in self.noises]
        for i, name in enumerate(noises):
            if name in noises[:i]:
                raise error_at(
                    f"noises[{i}].name", f"two trees of noises are named {name!r}; each needs a name of its own"
                )
        self._check_label_columns()
        self._check_classes()
        self._check_split_by_label()
        if self.clips is not None and self.silence.min_dbfs is not None:
            raise error_at("silence", "is short for `clips: [{silence: ...}]`; with `clips`, put it into that list")
        if self.output.features == "beside" and "webdataset" in self.output.formats:
            raise error_at(
                "output.features",
                "beside needs output.formats: [parquet], since the members of a WebDataset sample lie together in one tar; leave"
                " webdataset out, or have features inside",
            )
        if self.output.images is not None and self.features.log_mel is None:
            raise error_at(
                "output.images", "pictures show the log-mel, which is not computed; add `log_mel: {}` to features"
            )
        if self.output.images is not None and self.output.images.range_db is not None:
            mel = self.features.log_mel
            if mel is not None and mel.per_db is None:
                raise error_at(
                    "output.images.range_db",
                    "log_mel is normalised clip by clip, so its values are not in dB; leave range_db out, so that each clip's own range is drawn",
                )
        self._check_features()
        return self

    def _check_features(self) -> None:
        """Check features against the sample rate and the length of clips."""
        rate_hz = self.audio.sample_rate_hz
        nyquist, at_rate = rate_hz / 2, self.features.at(rate_hz)
        for name, mel in (("log_mel", at_rate.log_mel), ("mfcc", at_rate.of_mfcc)):
            if mel is None:
                continue
            of = f"features.{name}"
            preset = getattr(self.features, name).preset
            whose = f"features.{name}.preset {preset}" if preset is not None else f"features.{name}"
            if mel.model_rate_hz not in (None, rate_hz):
                raise error_at(
                    "audio.sample_rate_hz",
                    f"{whose} is for {mel.model_rate_hz} Hz, and this is {rate_hz}; set audio.sample_rate_hz: {mel.model_rate_hz}, or"
                    f" {of}.model_rate_hz: null to compute it at any rate",
                )
            if mel.fmax is not None and not 0 < mel.fmax <= nyquist:
                given = getattr(getattr(self.features, name), "fmax", None) or mel.fmax
                if given < 0:
                    raise error_at(f"{of}.fmax", f"fmax {given:g} is not above -{nyquist:g}, from half the sample rate")
                raise error_at(f"{of}.fmax", f"fmax {mel.fmax:g} exceeds half the sample rate, {nyquist:g}")
            if mel.fmin >= (mel.fmax or nyquist):
                raise error_at(f"{of}.fmin", f"fmin {mel.fmin:g} is not below fmax, {mel.fmax or nyquist:g}")
            if mel.max_s is not None:
                self._check_lengths(mel.max_s, whose, of)

    def _check_lengths(self, max_s: float, whose: str, of: str) -> None:
        """Refuse segments that are meant to be longer than a feature's clips can be. Whole recordings and ranges are measured one by one."""
        for i, source in enumerate(self.sources):
            spec = source.segment
            key, length_s = "length_s", spec.length_s
            if spec.mode == "speech":
                key, length_s = "max_s", spec.max_s
            elif spec.mode not in ("window", "fixed"):
                key, length_s = "max_clip_s", spec.max_clip_s if "max_clip_s" in spec.model_fields_set else None
            if length_s is not None and length_s > max_s:
                raise error_at(
                    f"sources[{i}].segment.{key}",
                    f"{length_s:g} s is more than the {max_s:g} s that a clip of {whose} can have; set {key}: {max_s:g} or less, or"
                    f" {of}.max_s: null to compute it of longer clips",
                )

    def _check_label_columns(self) -> None:
        """Refuse a label column that is carried as a field while clips have no label."""
        for i, source in enumerate(self.sources):
            columns = source.annotations.columns if source.annotations is not None else {}
            if "label" in columns or not source.label_from_rows:
                continue
            for name in columns:
                if name.lower() in LABEL_COLUMNS:
                    raise error_at(
                        f"sources[{i}].annotations.columns.{name}",
                        f"{name!r} is carried as a field, but no clip has a label; did you mean `label: {columns[name]}`? (a field of"
                        " this name goes under annotations.fields)",
                    )

    def _check_split_by_label(self) -> None:
        """Refuse a split that needs one label of each clip."""
        lists = [source.name for source in self.sources if source.has_label_lists]
        key = "stratify" if self.split.stratify is not None else "from" if self.split.from_ == "label" else None
        if lists and key is not None:
            raise error_at(
                f"split.{key}",
                f"clips of source {lists[0]!r} can have several labels, so their label cannot decide the split; write `balance: true`"
                " instead of `stratify`, or split by a field",
            )

    def _check_classes(self) -> None:
        if self.classes is None:
            return
        known = set(self.classes)
        if len(known) < len(self.classes):
            duplicate = next(c for i, c in enumerate(self.classes) if c in self.classes[:i])
            raise error_at("classes", f"{duplicate!r} is listed twice; list each class once")
        for i, source in enumerate(self.sources):
            label = source.label
            labels = {"label": label} if isinstance(label, str) else {}
            if isinstance(label, From):
                labels = {f"label.map.{k}": v for k, v in (label.map or {}).items() if v not in label.drop}
                labels |= {"label.default": label.default} if label.default is not None else {}
                labels |= {"label.none": label.none} if label.none is not None and label.none not in label.drop else {}
            for key, name in labels.items():
                if name not in known:
                    raise error_at(f"sources[{i}].{key}", f"{name!r} is not one of classes{did_you_mean(name, known)}")
