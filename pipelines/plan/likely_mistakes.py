"""Warn about likely mistakes: columns of annotations that the configuration does not use, with what to write."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.schemas.config import Source
from clipmill.schemas.findings import Finding
from clipmill.stages.clips.measure import MeasureClips
from clipmill.stages.stage import Stage

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z_0-9 ]*[A-Za-z_0-9]|[A-Za-z_]")


def likely_mistakes(source: Source, annotated: Annotated) -> list[Finding]:
    """Return warnings about a source whose annotations have been read. Removes notes that turn out not to matter from `annotated.noted`."""
    return [*_column_for_a_text(source), *_unnamed(source, annotated)]


def divided_texts(source: Source, stages: Iterable[Stage]) -> list[Finding]:
    """Return a warning if a row's text is measured of clips that are parts of the row. stages : clip stages of the source"""
    mode = source.segment.mode
    if source.annotations is None or mode not in ("window", "silence", "speech"):
        return []
    if not any(isinstance(stage, MeasureClips) and stage.needs_text for stage in stages):
        return []
    message = (
        f"source {source.name!r}: segment.mode: {mode} makes several clips of a row, each with the text of the whole row, so"
        " characters_per_s is too high; use mode: annotation, or leave the measure out of sources[].clips for this source"
    )
    return [Finding("measure", 1, 0, message)]


def _column_for_a_text(source: Source) -> list[Finding]:
    """Return a warning if `label` is a fixed text that is also the name of the column with labels."""
    column = source.annotations.columns.get("label") if source.annotations is not None else None
    if column is None or not isinstance(source.label, str) or source.label not in (column, "label"):
        return []
    message = (
        f"source {source.name!r}: label: {source.label} gives every clip the text {source.label!r}, and the column of"
        " annotations.columns.label becomes a field, annotation_label; to use the column, write label: {from: annotation}, or omit `label`"
    )
    return [Finding("label", 1, 0, message)]


def _unnamed(source: Source, annotated: Annotated) -> list[Finding]:
    """Return a warning about columns that are probably meant as roles, with what to write."""
    roles = dict(annotated.unnamed_roles)
    if not source.label_from_rows:
        roles.pop("label", None)
    if source.annotations is None or not roles:
        annotated.noted.pop("roles_not_named", None)
        return []
    written = ", ".join(f"{role}: {_quoted(where)}" for role, where in {**source.annotations.columns, **roles}.items())
    message = (
        f"source {source.name!r}: the annotations have {_listed(roles)}, which annotations.columns does not name, so"
        f" {'it is' if len(roles) == 1 else 'they are'} not read as {', '.join(roles)}: write columns: {{{written}}}; or name"
        f" {'it' if len(roles) == 1 else 'them'} under annotations.fields, if {'a field is' if len(roles) == 1 else 'fields are'} intended"
    )
    return [Finding("annotations.columns", len(roles), 0, message)]


def _listed(roles: dict[str, str]) -> str:
    return f"{'a column' if len(roles) == 1 else 'columns'} {', '.join(map(repr, roles.values()))}"


def _quoted(where: str | int) -> str:
    """Return a column's name or index as YAML."""
    if isinstance(where, int) or _PLAIN.fullmatch(where):
        return str(where)
    return "'" + where.replace("'", "''") + "'"
