"""The pipeline in one screen: the stages that a recording and its clips go through, and what follows from what these declare."""

from __future__ import annotations

import importlib.metadata
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
from clipmill.stages.canonical import CanonicalPcm
from clipmill.stages.clip_chain import ClipChain
from clipmill.stages.decode import Decode
from clipmill.stages.downmix import Downmix
from clipmill.stages.features import Features
from clipmill.stages.images import Images
from clipmill.stages.lookup import check_settings, find_stage, own_names, receive_files, stage_files
from clipmill.stages.resample import Resample
from clipmill.stages.segment import Segment
from clipmill.stages.stage import Scope, Stage
from clipmill.stages.write import Write

CHUNK_STAGES: tuple[type[Stage], ...] = (Decode, Downmix, Resample, Segment)
DERIVED_STAGES: tuple[type[Stage], ...] = (Features, Images)
"""Around those that `features` names: pictures come last."""


@dataclass(frozen=True)
class Step:
    """A stage of a list in the configuration. key : where it stands; settings : a model; origin : see `clipmill.stages.lookup.Found`"""

    stage: Stage
    key: str
    settings: Any
    origin: str = ""

    @property
    def origin_name(self) -> str:
        """The package that the stage is of, or the module's name for one that is of none."""
        package = self.origin.split(" ")[0]
        return type(self.stage).__module__ if package == "sha256" else package

    @property
    def identity(self) -> list[Any]:
        """What of it stands in keys."""
        kind = type(self.stage)
        about = [kind.identity or kind.section, kind.version, fingerprint(self.settings, by_alias=True)]
        return [*about, self.origin] if self.origin else about


@dataclass(frozen=True)
class Chain:
    """The stages of a configuration, in order.

    chunk : pieces of recordings, up to clips
    clips : clip stages by source
    canonical : makes PCM of clips
    derived : computed from stored clips
    """

    config: Config
    chunk: tuple[Stage, ...]
    clips: Mapping[str, tuple[Step, ...]]
    common: tuple[Step, ...]
    canonical: Stage
    derived: tuple[Stage, ...]
    computed: tuple[Step, ...]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Stages of the configuration's lists: for all sources, for one, and computed from clips."""
        return (*self.common, *(step for steps in self.clips.values() for step in steps), *self.computed)

    @property
    def to_clips(self) -> tuple[Stage | ClipChain, ...]:
        """The stages from a plan to the PCM of clips."""
        by_source = {name: tuple(step.stage for step in steps) for name, steps in self.clips.items()}
        through = (ClipChain(by_source, self.clip_fields),) if any(by_source.values()) else ()
        return (*self.chunk, *through, self.canonical)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All of them; each clip stage once for every place where it is named."""
        clip_stages = {step.key: step.stage for step in self.steps if step.stage.scope == "clip"}
        return (*self.chunk, *clip_stages.values(), self.canonical, *self.derived)

    @cached_property
    def clip_fields(self) -> tuple[pa.Field, ...]:
        """Columns that clip stages add, of all sources."""
        return _distinct(step.stage for step in self.steps if step.stage.scope == "clip")

    @cached_property
    def derived_fields(self) -> tuple[pa.Field, ...]:
        return _distinct(self.derived)

    @cached_property
    def measured(self) -> tuple[pa.Field, ...]:
        """Columns of stages that hold one value a clip, which stand in manifests too."""
        return tuple(f for f in (*self.clip_fields, *self.derived_fields) if not pa.types.is_nested(f.type))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.derived_fields if role_of(f) == "feature")

    def fields(self, field_names: Sequence[str]) -> list[pa.Field]:
        """Return the columns of shards in their order. field_names : the corpus's own"""
        nested = [f for f in (*self.clip_fields, *self.derived_fields) if pa.types.is_nested(f.type)]
        nested.sort(key=lambda f: role_of(f) != "image")  # pictures stand beside the audio
        return [
            *base_fields(self.config), *self.measured, *corpus_fields(field_names), audio_field(self.config), *nested,
        ]  # fmt: skip

    @cached_property
    def stage_of_reason(self) -> dict[str, str]:
        """The section of the stage that rejects for a reason."""
        return {reason.code: stage.section for stage in reversed(self.stages) for reason in stage.rejects}

    @property
    def can_use_gpu(self) -> bool:
        """Whether any of the stages works on a GPU where there is one."""
        return any(stage.on_gpu for stage in self.derived)

    @property
    def clip_sections(self) -> set[str]:
        """Sections of the stages up to the PCM of clips."""
        derived = {id(stage) for stage in self.derived}
        return {stage.section for stage in self.stages if id(stage) not in derived}

    @property
    def words(self) -> dict[str, list[str]]:
        """Meanings of rules and reasons that are not clipmill's own, for a snapshot; of a reason the remedy, too."""
        rules = {rule: [meaning] for stage in self.stages for rule, meaning in stage.drops.items()}
        reasons = {reason.code: [reason.meaning, reason.remedy] for stage in self.stages for reason in stage.rejects}
        return {
            code: words
            for code, words in {**rules, **reasons}.items()
            if code not in {**known_rules(), **known_reasons()}
        }

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that a shard's bytes depend on."""
        wanted = {name: stage.section for stage in reversed(self.stages) for name in stage.libraries}
        wanted |= dict.fromkeys((*Write.libraries, "ray"), "write")
        own = {step.origin_name: step.origin.split(" ")[1] for step in self._foreign}
        return {name: _version(name, section) for name, section in wanted.items()} | own

    @property
    def origins(self) -> dict[str, str]:
        """Of stages of other packages, by the name that the configuration gives them, which code they are."""
        return {step.key: step.origin for step in self._foreign}

    @property
    def sources(self) -> dict[str, str]:
        """Texts of the files of stages that are no part of an installed package, by the module's name, for other processes."""
        return {name: text for step in self._foreign for name, text in stage_files(type(step.stage)).items()}

    @property
    def _foreign(self) -> list[Step]:
        return [step for step in self.steps if step.origin]

    def check_names(self, field_names: Sequence[str]) -> None:
        """Raise ConfigError where a field of the corpus has the name of a stage's column."""
        own = set(field_names)
        for step in self.steps:
            for field in step.stage.fields:
                if field.name in own:
                    raise ConfigError(
                        f"the corpus has a field {field.name!r}, which is a column of the stage {type(step.stage).section!r}; give the field"
                        " another name in annotations.fields or in the regex, or leave it out",
                        key=step.key,
                    )


def chain_of(config: Config, device: str | None = None) -> Chain:
    """Return the stages of a configuration.

    device : on which derived stages that can work on a GPU do, cpu | cuda | auto; None: as the configuration says

    Raises
    ------
    ConfigError, StageError : a stage that it names is not known, or its settings are wrong
    """
    common = tuple(_steps(config, None))
    clips = {s.name: tuple(_steps(config, s)) if s.clips is not None else common for s in config.sources}
    changes = any(step.stage.changes_samples for steps in clips.values() for step in steps)
    chunk = tuple(stage for kind in CHUNK_STAGES if (stage := kind.of(config)) is not None)
    if changes:
        chunk = tuple(replace(s, as_float=True) if isinstance(s, Segment) else s for s in chunk)
    canonical = CanonicalPcm.of(config)
    assert canonical is not None  # noqa: S101 - it is in every chain
    computed = tuple(_computed(config))
    first, last = (kind.of(config) for kind in DERIVED_STAGES)
    derived = tuple(stage for stage in (first, *(step.stage for step in computed), last) if stage is not None)
    if device is not None:
        derived = tuple(replace(s, device=device) if isinstance(s, Features) else s for s in derived)
    return Chain(config, chunk, clips, common, canonical, derived, computed)


def same_chain(config: Config, origins: Mapping[str, str], sources: Mapping[str, str]) -> Chain:
    """Return the stages of a configuration on a worker.

    origins, sources : of the chain where the build was started

    Raises
    ------
    StageError : one is not here, or is another version
    """
    receive_files(sources)
    chain = chain_of(config)
    for key, origin in origins.items():
        if (here := chain.origins.get(key)) != origin:
            raise StageError(
                f"{key}: the code of this stage is {here or 'missing'} on a worker and {origin} where the build was started; install the same"
                " version on all machines",
                code="stage.other_version",
            )
    return chain


def _steps(config: Config, source: Source | None) -> Iterator[Step]:
    for name, settings, key in config.steps_of(source):
        yield from _step(config, name, settings, key, "clip")


def _computed(config: Config) -> Iterator[Step]:
    for name, settings in config.features.derived_stages.items():
        yield from _step(config, name, settings, f"features.{name}", "derived")


def _step(config: Config, name: str, settings: Any, key: str, scope: Any) -> Iterator[Step]:
    try:
        found = find_stage(name, scope)
    except StageError as error:
        raise ConfigError(str(error), key=key, code=error.code) from None
    checked = check_settings(found.kind, settings, key)
    stage = found.kind.of(config, checked)
    if stage is not None:
        yield Step(stage, key, checked, found.origin)


def stage_problems(plain: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the stages that a configuration names, also where other parts of it are wrong.

    plain : the configuration as it was written
    """
    problems: list[Problem] = []
    for name, settings, key, scope in _named(plain):
        try:
            check_settings(find_stage(name, scope).kind, {} if settings is None else settings, key)
        except ConfigError as error:
            problems += error.problems
        except StageError as error:
            problems.append(Problem(error.code, str(error), key))
    return problems


def _named(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any, str, Scope]]:
    """Yield name, settings, key and scope of each stage; what has not the form of one is none of them."""
    lists = [("clips", plain.get("clips"))]
    sources = plain.get("sources")
    for i, source in enumerate(sources if isinstance(sources, list) else ()):
        lists.append((f"sources[{i}].clips", source.get("clips") if isinstance(source, dict) else None))
    for key, steps in lists:
        for i, step in enumerate(steps if isinstance(steps, list) else ()):
            named = {step: None} if isinstance(step, str) else step
            if isinstance(named, dict) and len(named) == 1 and all(isinstance(name, str) for name in named):
                for name, settings in named.items():
                    yield name, settings, f"{key}[{i}].{name}", "clip"
    features = plain.get("features")
    known = keys_at(Config, ("features",))
    for name, settings in (features if isinstance(features, dict) else {}).items():
        if name not in known and nearest(str(name), known) is None:
            yield str(name), settings, f"features.{name}", "derived"


def _distinct(stages: Any) -> tuple[pa.Field, ...]:
    """Return the columns of stages, each once. Raises StageError where two give one name to different things."""
    found: dict[str, tuple[pa.Field, str]] = {}
    for stage in stages:
        for field in stage.fields:
            before = found.setdefault(field.name, (field, stage.section))
            if before[0] != field:
                raise StageError(
                    f"the stages {before[1]!r} and {stage.section!r} both have a column {field.name!r}, of {before[0].type} and of {field.type}"
                )
    return tuple(field for field, _ in found.values())


def own_stages(scope: Scope) -> list[type[Stage]]:
    """Return clipmill's own stages for a list of the configuration. Snapshots say what the words of other packages' stages mean."""
    return [find_stage(name, scope).kind for name in own_names(scope)]


@cache
def known_reasons() -> dict[str, Reason]:
    """Return the reasons of clipmill's own stages, and of all that comes before them, by code."""
    kinds = (*CHUNK_STAGES, *own_stages("clip"), *DERIVED_STAGES, *own_stages("derived"))
    declared = (reason for kind in kinds for reason in kind.rejects)
    return {reason.code: reason for reason in (*PLAN_REASONS, *declared)}


@cache
def known_rules() -> dict[str, str]:
    """Return the rules by which clipmill's own stages drop clips, with their meanings."""
    kinds = (*CHUNK_STAGES, *own_stages("clip"))
    return {rule: meaning for kind in kinds for rule, meaning in kind.drops.items()}


def _version(library: str, section: str) -> str:
    """Return the version of a library. Raises StageError when it is not installed. section : of a stage that declares it"""
    try:
        return zlib.ZLIB_RUNTIME_VERSION if library == "zlib" else importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        raise StageError(
            f"stage {section!r} declares the library {library!r}, and no package of this name is installed: install it, or correct"
            " the stage's `libraries`"
        ) from None
