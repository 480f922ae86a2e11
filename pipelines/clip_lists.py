"""Read the lists of stages in a configuration, check them, and divide them where clips are stored."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.model import nearest
from clipmill.schemas.config.problems import keys_at
from clipmill.schemas.errors import ConfigError, Problem, StageError
from clipmill.schemas.names import TRANSCRIPT_FIELDS, transcript_field
from clipmill.schemas.thresholds import is_number
from clipmill.stages.clips.augment import AugmentClips
from clipmill.stages.clips.keep import Keep
from clipmill.stages.clips.level import LevelGain
from clipmill.stages.clips.measure import MODULES, MeasureClips, find_measure
from clipmill.stages.lookup import check_settings, find_stage
from clipmill.stages.noise_library import Noises
from clipmill.stages.stage import Scope, Stage


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
        about: list[Any] = [kind.identity or kind.section, kind.version, self.stage.in_keys(self.settings)]
        if revisions := dict(self.stage.revisions):
            about.append(revisions)
        return [*about, self.origin] if self.origin else about


def divided(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
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
    stored = {step.key for step in divided(tuple(steps))[1]}
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
            raise ConfigError(
                f"only `level` can follow `augment` in the list; put this before {after.key}", key=step.key
            )
        if isinstance(step.stage, AugmentClips):
            after = step


def check_columns(steps: Sequence[Step]) -> None:
    """Raise ConfigError if two stages of a list add a column of the same name: the second would hide the first."""
    before: dict[str, str] = {}
    for step in steps:
        for field in step.stage.fields:
            if field.name in before:
                raise ConfigError(
                    f"adds the column {field.name!r}, which {before[field.name]} adds before it; leave one of them out",
                    key=step.key,
                )
            before[field.name] = step.key


def _which_measure(keep: Keep, known: Collection[str]) -> str:
    """Return a hint at the measure that would add the missing column."""
    for name in MODULES:
        with contextlib.suppress(ImportError):
            columns = {field.name for field in find_measure(name).columns}
            if missing := columns & set(keep.spec.columns) - set(known):
                return f" (put `- measure: [{name}]` before it, which adds {min(missing)})"
    return ""


def asks_for_clipping(steps: Sequence[Step]) -> bool:
    """Return whether a list has the measure `clipping`, which is counted while clips are cut."""
    return any("clipping" in s.stage.spec.root for s in steps if isinstance(s.stage, MeasureClips))


def steps_of(
    config: Config, source: Source | None, noises: Noises | None = None, field_names: Sequence[str] = ()
) -> Iterator[Step]:
    """Yield the clip stages of a source, or of the sources without a list of their own.

    noises : files of the trees of noises; None: they are not needed
    field_names : the corpus's own fields, in their order; empty while they are not known
    """
    text = transcript_field(field_names)
    for name, settings, key in config.steps_of(source):
        for step in _step(config, name, settings, key, "clip"):
            if noises is not None and isinstance(step.stage, AugmentClips):
                known = replace(step.stage.noise_library, files=noises)
                yield replace(step, stage=replace(step.stage, noise_library=known))
            elif text is not None and isinstance(step.stage, MeasureClips):
                yield replace(step, stage=replace(step.stage, text_at=field_names.index(text)))
            else:
                yield step


def check_has_text(steps: Sequence[Step], field_names: Sequence[str]) -> None:
    """Raise ConfigError if a stage measures the text of clips, and no clip has one. field_names : the corpus's own fields"""
    for step in steps:
        if isinstance(step.stage, MeasureClips) and step.stage.needs_text and transcript_field(field_names) is None:
            there = f"; there are {', '.join(field_names)}" if field_names else ""
            raise ConfigError(
                f"clips have no text to measure: none of the fields {', '.join(TRANSCRIPT_FIELDS)}{there}; say in sources[].text where it"
                " comes from",
                key=step.key,
            )


def computed_steps(config: Config) -> Iterator[Step]:
    """Yield the stages that `features` names."""
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
        if settings is not False and name not in known and nearest(str(name), known) is None:
            yield str(name), None if settings is True else settings, f"features.{name}", "derived"
