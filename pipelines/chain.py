"""Put the stages of a configuration in order, and derive columns, reasons and versions from what they declare."""

from __future__ import annotations

import importlib.metadata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import pyarrow as pa

from clipmill.pipelines.clip_lists import (
    Step,
    asks_for_clipping,
    check_augment,
    check_columns,
    check_has_text,
    check_keep,
    computed_steps,
    divided,
    steps_of,
)
from clipmill.schemas.columns import audio_field, base_fields, beside, corpus_fields, is_summed, role_of
from clipmill.schemas.config import Config
from clipmill.schemas.config import Segment as SegmentSpec
from clipmill.schemas.errors import ConfigError, StageError
from clipmill.schemas.reasons import PLAN_REASONS, Reason
from clipmill.stages.canonical import CanonicalPcm
from clipmill.stages.clip_chain import ClipChain
from clipmill.stages.clipping import Clipping
from clipmill.stages.clips.augment import AugmentClips
from clipmill.stages.clips.level import LevelGain
from clipmill.stages.decode import Decode
from clipmill.stages.decode.first_pass import ActivityListener, FirstPass
from clipmill.stages.downmix import Downmix
from clipmill.stages.exclude_clips import ExcludeClips
from clipmill.stages.features import Features
from clipmill.stages.images import Images
from clipmill.stages.lookup import find_stage, own_names, receive_files, stage_files
from clipmill.stages.noise_library import Noises
from clipmill.stages.recording_level import RecordingLevel
from clipmill.stages.resample import QUALITY, Resample
from clipmill.stages.segment import Segment
from clipmill.stages.silence_clips import SilenceClips
from clipmill.stages.speech_clips import SpeechClips
from clipmill.stages.stage import Scope, Stage
from clipmill.stages.stored_clips import Declared, StoredClips
from clipmill.stages.write import Write

CHUNK_STAGES: tuple[type[Stage], ...] = (Decode, Clipping, Downmix, Resample, Segment)
DERIVED_STAGES: tuple[type[Stage], ...] = (Features, Images)
"""The first and the last derived stage; stages named in `features` come between them."""
_COUNTED = ("clipped_share",)
"""Columns of measures that are counted while clips are cut."""


@dataclass(frozen=True)
class Chain:
    """The stages of a configuration, in order.

    chunk : stages that read recordings in chunks, up to the cutting of clips
    clips : clip stages by source, up to the canonical PCM
    common : clip stages of sources without a list of their own, up to the canonical PCM
    stored, common_stored : the last clip stages of the lists, if these can work on stored clips, so that they need no recording
    canonical : the stage that makes PCM of clips
    derived : stages that work on stored clips
    computed : those of `derived` that `features` names
    """

    config: Config
    chunk: tuple[Stage, ...]
    clips: Mapping[str, tuple[Step, ...]]
    common: tuple[Step, ...]
    stored: Mapping[str, tuple[Step, ...]]
    common_stored: tuple[Step, ...]
    canonical: Stage
    derived: tuple[Stage, ...]
    computed: tuple[Step, ...]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All stages that the configuration names: for all sources, for single ones, and for features."""
        of_sources = (step for name in self.clips for step in self.of_source(name))
        return (*self.common, *self.common_stored, *of_sources, *self.computed)

    def of_source(self, name: str) -> tuple[Step, ...]:
        """Return the list of clip stages that the clips of a source pass through."""
        return (*self.clips[name], *self.stored[name])

    @property
    def to_clips(self) -> tuple[Stage | ClipChain, ...]:
        """The stages from a plan to the PCM of clips."""
        by_source = {name: tuple(step.stage for step in own) for name, own in self.clips.items()}
        through = (ClipChain(by_source, self.cut_fields),) if any(by_source.values()) else ()
        return (*self.chunk, *through, self.canonical)

    @property
    def on_stored(self) -> StoredClips:
        """The clip stages that work on stored clips, before all derived stages."""
        stored = {name: tuple(step.stage for step in own) for name, own in self.stored.items()}
        earlier = {name: tuple(Declared.by(step.stage) for step in own) for name, own in self.clips.items()}
        fields = _distinct(step.stage for steps in self.stored.values() for step in steps)
        measured = [f for f in self.clip_fields if not pa.types.is_nested(f.type)]
        return StoredClips(stored, earlier, fields, measured)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All stages. A clip stage occurs once for each place where it is named."""
        clip_stages = {step.key: step.stage for step in self.steps if step.stage.scope == "clip"}
        return (*self.chunk, *clip_stages.values(), self.canonical, *self.derived)

    @cached_property
    def cut_fields(self) -> tuple[pa.Field, ...]:
        """Columns that clips have before the stages that work on stored clips."""
        counted = [f for f in self.clip_fields if f.name in _COUNTED] if self._counts_clipping else []
        fields = _distinct(step.stage for steps in self.clips.values() for step in steps)
        return (*fields, *(f for f in counted if f not in fields))

    @property
    def has_clip_stages(self) -> bool:
        """Whether any source's clips pass through stages of a list."""
        return any(self.of_source(name) for name in self.clips)

    @property
    def _counts_clipping(self) -> bool:
        return any(isinstance(stage, Clipping) for stage in self.chunk)

    @cached_property
    def clip_fields(self) -> tuple[pa.Field, ...]:
        """Columns that the clip stages of all sources add."""
        return _distinct(step.stage for step in self.steps if step.stage.scope == "clip")

    @cached_property
    def derived_fields(self) -> tuple[pa.Field, ...]:
        """Columns that derived stages add."""
        return _distinct(self.derived)

    @cached_property
    def measured(self) -> tuple[pa.Field, ...]:
        """Columns of stages with one value per clip. Manifests have them too."""
        return tuple(f for f in (*self.clip_fields, *self.derived_fields) if not pa.types.is_nested(f.type))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns with features."""
        return tuple(f.name for f in self.derived_fields if role_of(f) == "feature")

    @cached_property
    def unsummed_names(self) -> tuple[str, ...]:
        """Names of features that no statistics are made of: whole numbers that are names, and matrices whose rows are frames."""
        return tuple(f.name for f in self.derived_fields if role_of(f) == "feature" and not is_summed(f))

    @property
    def names_beside(self) -> tuple[str, ...]:
        """Names of the columns that lie in files of their own beside the shards."""
        return tuple(f.name for f in self.derived_fields) if self.config.output.features == "beside" else ()

    def fields(self, field_names: Sequence[str]) -> list[pa.Field]:
        """Return the columns of shards in their order. field_names : the corpus's own"""
        nested = [f for f in (*self.clip_fields, *self.derived_fields) if pa.types.is_nested(f.type)]
        nested.sort(key=lambda f: role_of(f) != "image")  # pictures come right after the audio
        columns = [
            *base_fields(self.config), *self.measured, *corpus_fields(field_names), audio_field(self.config), *nested,
        ]  # fmt: skip
        return [beside(f) if f.name in self.names_beside else f for f in columns]

    @cached_property
    def stage_of_reason(self) -> dict[str, str]:
        """Section of the stage that rejects for a reason, by reason code."""
        return {reason.code: stage.section for stage in reversed(self.stages) for reason in stage.rejects}

    @property
    def noise_names(self) -> set[str]:
        """Names of the trees of noises that stages use."""
        return {name for step in self.steps if isinstance(step.stage, AugmentClips) for name in step.stage.noise_names}

    def makes_no_copies(self, split: str) -> bool:
        """Return whether there is `augment` in the list of sources without a list of their own, but not for a split."""
        stages = [step.stage for step in self.common if isinstance(step.stage, AugmentClips)]
        return bool(stages) and not any(stage.is_copied(split) for stage in stages)

    @property
    def can_use_gpu(self) -> bool:
        """Whether any stage uses a GPU if one is present."""
        return any(stage.wants_gpu for stage in self.derived)

    @property
    def clip_sections(self) -> set[str]:
        """Sections of the stages up to the PCM of clips."""
        derived = {id(stage) for stage in self.derived}
        return {stage.section for stage in self.stages if id(stage) not in derived}

    @property
    def words(self) -> dict[str, list[str]]:
        """Meanings of rules and reasons of other packages' stages, by code, for snapshots; for a reason also the remedy."""
        rules = {rule: [meaning] for stage in self.stages for rule, meaning in stage.rules.items()}
        reasons = {reason.code: [reason.meaning, reason.remedy] for stage in self.stages for reason in stage.rejects}
        return {
            code: words
            for code, words in {**rules, **reasons}.items()
            if code not in {**known_rules(), **known_reasons()}
        }

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that a shard's bytes depend on."""
        wanted = {name: stage.section for stage in reversed(self.stages) for name in stage.packages}
        wanted |= dict.fromkeys((*Write.libraries, "ray"), "write")
        if any(source.segment.mode == "speech" for source in self.config.sources):
            wanted |= dict.fromkeys(("silero-vad", "onnxruntime", "soxr"), "segment")
        own = {step.origin_name: step.origin.split(" ")[1] for step in self._foreign}
        return {name: _version(name, section) for name, section in wanted.items()} | own

    @property
    def origins(self) -> dict[str, str]:
        """Origins of other packages' stages, by configuration key: which code they are."""
        return {step.key: step.origin for step in self._foreign}

    @property
    def sources(self) -> dict[str, str]:
        """Source texts of stages that are not part of an installed package, by module name, for other processes."""
        return {name: text for step in self._foreign for name, text in stage_files(type(step.stage)).items()}

    @property
    def _foreign(self) -> list[Step]:
        return [step for step in self.steps if step.origin]

    def check_names(self, field_names: Sequence[str]) -> None:
        """Raise ConfigError if a field of the corpus has the name of a stage's column, or if there is none that a stage needs."""
        check_has_text(self.steps, field_names)
        own = set(field_names)
        for step in self.steps:
            for field in step.stage.fields:
                if field.name in own:
                    raise ConfigError(
                        f"the corpus has a field {field.name!r}, which is a column of the stage {type(step.stage).section!r}; give the field"
                        " another name in annotations.fields or in the regex, or leave it out",
                        key=step.key,
                    )


def chain_of(
    config: Config, device: str | None = None, noises: Noises | None = None, field_names: Sequence[str] = ()
) -> Chain:
    """Return the stages of a configuration.

    device : of derived stages that can use a GPU, cpu | cuda | auto; None: as configured
    noises : the files of the trees of noises that stages use, by the trees' names; None: they are not needed
    field_names : the corpus's own fields, for stages that read them; empty while they are not known

    Raises
    ------
    ConfigError, StageError : a stage is unknown, or its settings are wrong
    """
    own = partial(steps_of, noises=noises, field_names=field_names)
    whole = tuple(own(config, None))
    lists = {s.name: tuple(own(config, s)) if s.clips is not None else whole for s in config.sources}
    for steps in lists.values():
        check_keep(steps)
        check_augment(steps)
        check_columns(steps)
    common, common_stored = divided(whole)
    clips, stored = ({name: divided(steps)[i] for name, steps in lists.items()} for i in (0, 1))
    kinds = [k for k in CHUNK_STAGES if k is not Clipping or any(map(asks_for_clipping, lists.values()))]
    chunk = tuple(stage for kind in kinds if (stage := kind.of(config)) is not None)
    chunk = tuple(_with_first_pass(s, config, lists) if isinstance(s, Decode) else s for s in chunk)
    if any(step.stage.changes_samples for steps in clips.values() for step in steps):
        chunk = tuple(replace(s, as_float=True) if isinstance(s, Segment) else s for s in chunk)
    canonical = CanonicalPcm.of(config)
    assert canonical is not None  # noqa: S101 - every chain has it
    computed = tuple(computed_steps(config))
    first, last = (kind.of(config) for kind in DERIVED_STAGES)
    derived = tuple(stage for stage in (first, *(step.stage for step in computed), last) if stage is not None)
    if device is not None:
        derived = tuple(replace(s, device=device) if isinstance(s, Features) else s for s in derived)
    return Chain(config, chunk, clips, common, stored, common_stored, canonical, derived, computed)


def _with_first_pass(decode: Decode, config: Config, lists: Mapping[str, Sequence[Step]]) -> Decode:
    """Return the stage with what it must find out about whole recordings before clips are cut from them."""
    sources = dict(decode.sources)
    for source in config.sources:
        gains = [
            s.stage.spec
            for s in lists[source.name]
            if isinstance(s.stage, LevelGain) and s.stage.spec.of == "recording"
        ]
        level = None
        if gains:
            rate_hz, quality = config.audio.sample_rate_hz, QUALITY[config.audio.resampler]
            level = partial(RecordingLevel, gains[0].to, clip_rate_hz=rate_hz, quality=quality)
        activity = _activity(source.segment)
        if level is not None or activity is not None:
            first = FirstPass(config.channels_of(source), activity, level)
            sources[source.name] = replace(sources[source.name], first_pass=first)
    return replace(decode, sources=sources)


def _activity(segment: SegmentSpec) -> Callable[[int], ActivityListener] | None:
    """Return what makes what finds out where clips are, given the sample rate; None if that does not depend on what is heard."""
    if segment.mode == "silence":
        about = {name: getattr(segment, name) for name in ("below_dbfs", "min_silence_s", "pad_s")}
        return partial(SilenceClips, **about)
    if segment.mode == "speech":
        return partial(
            SpeechClips, **{name: getattr(segment, name) for name in ("min_s", "max_s", "pad_s", "max_gap_s")}
        )
    return None


def same_chain(
    config: Config,
    origins: Mapping[str, str],
    sources: Mapping[str, str],
    noises: Noises | None = None,
    field_names: Sequence[str] = (),
) -> Chain:
    """Return the stages of a configuration on a worker.

    origins, sources, noises, field_names : those of the chain on the machine that started the build

    Raises
    ------
    StageError : a stage is missing here, or has another version
    """
    receive_files(sources)
    chain = chain_of(config, noises=noises, field_names=field_names)
    for key, origin in origins.items():
        if (local := chain.origins.get(key)) != origin:
            raise StageError(
                f"{key}: the code of this stage is {local or 'missing'} on a worker and {origin} where the build was started; install the same"
                " version on all machines",
                code="stage.other_version",
            )
    return chain


def _distinct(stages: Any) -> tuple[pa.Field, ...]:
    """Return the columns of stages, each once. Raises StageError if two columns have one name and differ."""
    columns: dict[str, tuple[pa.Field, str]] = {}
    for stage in stages:
        for field in stage.fields:
            before = columns.setdefault(field.name, (field, stage.section))
            if before[0] != field:
                raise StageError(
                    f"the stages {before[1]!r} and {stage.section!r} both have a column {field.name!r}, with types {before[0].type} and {field.type}"
                )
    return tuple(field for field, _ in columns.values())


def own_stages(scope: Scope) -> list[type[Stage]]:
    """Return clipmill's own stages for a list of the configuration. Snapshots explain the codes of other packages' stages."""
    return [find_stage(name, scope).kind for name in own_names(scope)]


@cache
def known_reasons() -> dict[str, Reason]:
    """Return the reasons of planning and of clipmill's own stages, by code."""
    kinds = (*CHUNK_STAGES, *own_stages("clip"), *DERIVED_STAGES, *own_stages("derived"))
    declared = (reason for kind in kinds for reason in kind.rejects)
    return {reason.code: reason for reason in (*PLAN_REASONS, *declared)}


@cache
def known_rules() -> dict[str, str]:
    """Return the meanings of the rules by which clipmill's own stages drop clips, by rule."""
    kinds: tuple[type[Stage], ...] = (*CHUNK_STAGES, *own_stages("clip"), ExcludeClips)
    return {rule: meaning for kind in kinds for rule, meaning in kind.drops.items()}


def _version(library: str, section: str) -> str:
    """Return the version of a library. Raises StageError if it is not installed. section : of a stage that declares it"""
    try:
        return zlib.ZLIB_RUNTIME_VERSION if library == "zlib" else importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        raise StageError(
            f"stage {section!r} declares the library {library!r}, and no package of this name is installed: install it, or correct"
            " `libraries` of the stage"
        ) from None
