"""Put the stages of a configuration in order, and derive columns, reasons and versions from what they declare."""

from __future__ import annotations

import contextlib
import importlib.metadata
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import pyarrow as pa

from clipmill.schemas.columns import audio_field, base_fields, corpus_fields, role_of
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.model import fingerprint, nearest
from clipmill.schemas.config.problems import keys_at
from clipmill.schemas.errors import ConfigError, Problem, StageError
from clipmill.schemas.reasons import PLAN_REASONS, Reason
from clipmill.schemas.thresholds import is_number
from clipmill.stages.canonical import CanonicalPcm
from clipmill.stages.clip_chain import ClipChain
from clipmill.stages.clipping import Clipping
from clipmill.stages.clips.augment import AugmentClips
from clipmill.stages.clips.keep import Keep
from clipmill.stages.clips.level import LevelGain
from clipmill.stages.clips.measure import MODULES, MeasureClips, find_measure
from clipmill.stages.decode import Decode
from clipmill.stages.downmix import Downmix
from clipmill.stages.features import Features
from clipmill.stages.images import Images
from clipmill.stages.noise_library import Noises
from clipmill.stages.lookup import check_settings, find_stage, own_names, receive_files, stage_files
from clipmill.stages.resample import Resample
from clipmill.stages.segment import Segment
from clipmill.stages.stage import Scope, Stage
from clipmill.stages.stored_clips import Declared, StoredClips
from clipmill.stages.write import Write

CHUNK_STAGES: tuple[type[Stage], ...] = (Decode, Clipping, Downmix, Resample, Segment)
DERIVED_STAGES: tuple[type[Stage], ...] = (Features, Images)
"""The first and the last derived stage; stages named in `features` come between them."""
_COUNTED = ("clipped_share",)
"""Columns of measures that are counted while clips are cut."""


@dataclass(frozen=True)
class Step:
    """A stage named in the configuration. key : its configuration key; settings : a model; origin : see `clipmill.stages.lookup.Found`"""

    stage: Stage
    key: str
    settings: Any
    origin: str = ""

    @property
    def origin_name(self) -> str:
        """The package of the stage, or its module if it belongs to no package."""
        package = self.origin.split(" ")[0]
        return type(self.stage).__module__ if package == "sha256" else package

    @property
    def identity(self) -> list[Any]:
        """What identifies the stage in keys: name, version, settings, and origin if it is not clipmill's own."""
        kind = type(self.stage)
        about: list[Any] = [kind.identity or kind.section, kind.version, fingerprint(self.settings, by_alias=True)]
        if revisions := dict(self.stage.revisions):
            about.append(revisions)
        return [*about, self.origin] if self.origin else about


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

    def fields(self, field_names: Sequence[str]) -> list[pa.Field]:
        """Return the columns of shards in their order. field_names : the corpus's own"""
        nested = [f for f in (*self.clip_fields, *self.derived_fields) if pa.types.is_nested(f.type)]
        nested.sort(key=lambda f: role_of(f) != "image")  # pictures come right after the audio
        return [
            *base_fields(self.config), *self.measured, *corpus_fields(field_names), audio_field(self.config), *nested,
        ]  # fmt: skip

    @cached_property
    def stage_of_reason(self) -> dict[str, str]:
        """Section of the stage that rejects for a reason, by reason code."""
        return {reason.code: stage.section for stage in reversed(self.stages) for reason in stage.rejects}

    @property
    def noise_names(self) -> set[str]:
        """Names of the trees of noises that stages use."""
        return {name for step in self.steps if isinstance(step.stage, AugmentClips) for name in step.stage.noise_names}

    @property
    def can_use_gpu(self) -> bool:
        """Whether any stage uses a GPU if one is present."""
        return any(stage.on_gpu for stage in self.derived)

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
        """Raise ConfigError if a field of the corpus has the name of a stage's column."""
        own = set(field_names)
        for step in self.steps:
            for field in step.stage.fields:
                if field.name in own:
                    raise ConfigError(
                        f"the corpus has a field {field.name!r}, which is a column of the stage {type(step.stage).section!r}; give the field"
                        " another name in annotations.fields or in the regex, or leave it out",
                        key=step.key,
                    )


def chain_of(config: Config, device: str | None = None, noises: Noises | None = None) -> Chain:
    """Return the stages of a configuration.

    device : of derived stages that can use a GPU, cpu | cuda | auto; None: as configured
    noises : the files of the trees of noises that stages use, by the trees' names; None: they are not needed

    Raises
    ------
    ConfigError, StageError : a stage is unknown, or its settings are wrong
    """
    whole = tuple(_with_noises(_steps(config, None), noises))
    lists = {
        s.name: tuple(_with_noises(_steps(config, s), noises)) if s.clips is not None else whole for s in config.sources
    }
    for steps in lists.values():
        check_keep(steps)
        check_augment(steps)
    common, common_stored = _divided(whole)
    clips, stored = ({name: _divided(steps)[i] for name, steps in lists.items()} for i in (0, 1))
    kinds = [k for k in CHUNK_STAGES if k is not Clipping or any(map(_asks_for_clipping, lists.values()))]
    chunk = tuple(stage for kind in kinds if (stage := kind.of(config)) is not None)
    if any(step.stage.changes_samples for steps in clips.values() for step in steps):
        chunk = tuple(replace(s, as_float=True) if isinstance(s, Segment) else s for s in chunk)
    canonical = CanonicalPcm.of(config)
    assert canonical is not None  # noqa: S101 - every chain has it
    computed = tuple(_computed(config))
    first, last = (kind.of(config) for kind in DERIVED_STAGES)
    derived = tuple(stage for stage in (first, *(step.stage for step in computed), last) if stage is not None)
    if device is not None:
        derived = tuple(replace(s, device=device) if isinstance(s, Features) else s for s in derived)
    return Chain(config, chunk, clips, common, stored, common_stored, canonical, derived, computed)


def _divided(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the stages of a list up to the canonical PCM, and those behind it, which work on stored clips.

    These are as many from the end as can work on them, from the first that measures on. The order of the list stays.
    """
    at = len(steps)
    while at > 0 and steps[at - 1].stage.suits_stored:
        at -= 1
    while at < len(steps) and not isinstance(steps[at].stage, MeasureClips | Keep):
        at += 1
    return steps[:at], steps[at:]


def check_keep(steps: Sequence[Step]) -> None:
    """Raise ConfigError if a stage `keep` bounds a column that clips do not have at its place."""
    known = {"start_s", "duration_s", "n_samples", "n_channels", "sample_rate_hz"}
    stored = {step.key for step in _divided(tuple(steps))[1]}
    for step in steps:
        if isinstance(step.stage, Keep):
            of_stored = {"level_dbfs", "n_clipped"}
            try:
                if step.key not in stored and (early := of_stored & set(step.stage.spec.columns)):
                    raise ValueError(
                        f"{min(early)} describes the stored clip, which is made later than this; put this behind the last stage that changes"
                        " samples, or use `silence`"
                    )
                step.stage.spec.check_columns(known | of_stored)
            except ValueError as error:
                raise ConfigError(f"{error}{_which_measure(step.stage, known)}", key=step.key) from None
        known |= {field.name for field in step.stage.fields if is_number(field.type)}


def check_augment(steps: Sequence[Step]) -> None:
    """Raise ConfigError if a stage follows `augment` that would treat copies as clips of their own."""
    after: Step | None = None
    for step in steps:
        if after is not None and not isinstance(step.stage, LevelGain):
            raise ConfigError(f"only `level` can follow `augment` in the list; put this before {after.key}", key=step.key)
        if isinstance(step.stage, AugmentClips):
            after = step


def _which_measure(keep: Keep, known: Collection[str]) -> str:
    """Return a hint at the measure that would add the missing column."""
    for name in MODULES:
        with contextlib.suppress(ImportError):
            columns = {field.name for field in find_measure(name).columns}
            if missing := columns & set(keep.spec.columns) - set(known):
                return f" (put `- measure: [{name}]` before it, which adds {min(missing)})"
    return ""


def _asks_for_clipping(steps: Sequence[Step]) -> bool:
    return any("clipping" in s.stage.spec.root for s in steps if isinstance(s.stage, MeasureClips))


def same_chain(
    config: Config, origins: Mapping[str, str], sources: Mapping[str, str], noises: Noises | None = None
) -> Chain:
    """Return the stages of a configuration on a worker.

    origins, sources, noises : those of the chain on the machine that started the build

    Raises
    ------
    StageError : a stage is missing here, or has another version
    """
    receive_files(sources)
    chain = chain_of(config, noises=noises)
    for key, origin in origins.items():
        if (local := chain.origins.get(key)) != origin:
            raise StageError(
                f"{key}: the code of this stage is {local or 'missing'} on a worker and {origin} where the build was started; install the same"
                " version on all machines",
                code="stage.other_version",
            )
    return chain


def _with_noises(steps: Iterable[Step], noises: Noises | None) -> Iterator[Step]:
    for step in steps:
        if noises is not None and isinstance(step.stage, AugmentClips):
            yield replace(step, stage=replace(step.stage, library=replace(step.stage.library, files=noises)))
        else:
            yield step


def _steps(config: Config, source: Source | None) -> Iterator[Step]:
    for name, settings, key in config.steps_of(source):
        yield from _step(config, name, settings, key, "clip")


def _computed(config: Config) -> Iterator[Step]:
    for name, settings in config.features.derived_stages.items():
        yield from _step(config, name, settings, f"features.{name}", "derived")


def _step(config: Config, name: str, settings: Any, key: str, scope: Any) -> Iterator[Step]:
    try:
        match = find_stage(name, scope)
    except StageError as error:
        raise ConfigError(str(error), key=key, code=error.code) from None
    checked = check_settings(match.kind, settings, key)
    stage = match.kind.of(config, checked)
    if stage is not None:
        yield Step(stage, key, checked, match.origin)


def stage_problems(plain: Mapping[str, Any]) -> list[Problem]:
    """Return the problems with the stages that a configuration names, even if other parts of it are wrong.

    plain : the configuration as written, as plain data
    """
    problems: list[Problem] = []
    for name, settings, key, scope in _stages_named_in(plain):
        try:
            check_settings(find_stage(name, scope).kind, {} if settings is None else settings, key)
        except ConfigError as error:
            problems += error.problems
        except StageError as error:
            problems.append(Problem(error.code, str(error), key))
    return problems


def _stages_named_in(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any, str, Scope]]:
    """Yield name, settings, key and scope of each stage. Skips what does not have the form of a stage."""
    lists = [("clips", plain.get("clips"))]
    sources = plain.get("sources")
    for i, source in enumerate(sources if isinstance(sources, list) else ()):
        lists.append((f"sources[{i}].clips", source.get("clips") if isinstance(source, dict) else None))
    for key, steps in lists:
        for i, step in enumerate(steps if isinstance(steps, list) else ()):
            entry = {step: None} if isinstance(step, str) else step
            if isinstance(entry, dict) and len(entry) == 1 and all(isinstance(name, str) for name in entry):
                for name, settings in entry.items():
                    yield name, settings, f"{key}[{i}].{name}", "clip"
    features = plain.get("features")
    known = keys_at(Config, ("features",))
    for name, settings in (features if isinstance(features, dict) else {}).items():
        if name not in known and nearest(str(name), known) is None:
            yield str(name), settings, f"features.{name}", "derived"


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
    kinds = (*CHUNK_STAGES, *own_stages("clip"))
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
