"""Likely mistakes: what a source's annotations have and its configuration does not use, each with what to write."""

from __future__ import annotations

import re

from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.schemas.config import Source
from clipmill.schemas.findings import Finding

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z_0-9 ]*[A-Za-z_0-9]|[A-Za-z_]")


def likely_mistakes(source: Source, annotated: Annotated) -> list[Finding]:
    """Return warnings about a source whose annotations were gone through. Takes what is none of these out of `annotated.noted`."""
    return [*_column_for_a_text(source), *_unnamed(source, annotated)]


def _column_for_a_text(source: Source) -> list[Finding]:
    """Return a warning where the text of all labels is the name of the column that holds labels."""
    column = source.annotations.columns.get("label") if source.annotations is not None else None
    if column is None or not isinstance(source.label, str) or source.label not in (column, "label"):
        return []
    message = (
        f"source {source.name!r}: label: {source.label} is the text {source.label!r} for every clip, and the column of"
        " annotations.columns.label is then a field, annotation_label; for the column write label: {from: annotation}, or leave `label` out"
    )
    return [Finding("label", 1, 0, message)]


def _unnamed(source: Source, annotated: Annotated) -> list[Finding]:
    """Return a warning about columns that are likely to be meant as roles, with what to write."""
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
        f" {'it' if len(roles) == 1 else 'them'} under annotations.fields, where {'a field is' if len(roles) == 1 else 'fields are'} meant"
    )
    return [Finding("annotations.columns", len(roles), 0, message)]


def _listed(roles: dict[str, str]) -> str:
    return f"{'a column' if len(roles) == 1 else 'columns'} {', '.join(map(repr, roles.values()))}"


def _quoted(where: str | int) -> str:
    """Return a column as it is written in YAML."""
    if isinstance(where, int) or _PLAIN.fullmatch(where):
        return str(where)
    return "'" + where.replace("'", "''") + "'"
