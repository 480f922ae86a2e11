"""Read the content of annotation files as a configuration says, for tests of formats."""

from __future__ import annotations

from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.registered import complete, find_format
from clipmill.stages.annotations.rows import AmbiguousError, Row, SettingError, UnreadableError

DECLARED = (UnreadableError, SettingError, AmbiguousError)
"""What reading an annotation file may raise, whatever the file holds."""


def spec_of(name: str, **given: Any) -> Annotations:
    """Return the configuration of a format, complete. A sidecar is assumed unless it is a table or the format has a default."""
    written: dict[str, Any] = {"format": name, **given}
    if "table" not in given and "sidecar" not in given and find_format(name).sidecar is None:
        written["sidecar"] = "{stem}.x"
    completed, problems = complete(written, "annotations")
    assert not problems, problems
    return Annotations.model_validate(completed)


def read_noted(name: str, content: str | bytes, path: str = "", **given: Any) -> tuple[list[Row], dict[str, int]]:
    """Return the rows of a file and the notes on how it was read."""
    data = content.encode() if isinstance(content, str) else content
    sheet = find_format(name).open(data, spec_of(name, **given), path)
    rows = [row for _, row in sheet]
    return rows, dict(sheet.noted)


def read_as(name: str, content: str | bytes, **given: Any) -> list[Row]:
    """Return the rows of a file."""
    return read_noted(name, content, **given)[0]


def spans(rows: list[Row]) -> list[tuple[float | None, float | None, str | None]]:
    """Return start, end and label of rows, none of which may be rejected."""
    assert not [row.detail for row in rows if row.reason is not None]
    return [(row.start, row.end, row.label) for row in rows]


def reasons(rows: list[Row]) -> list[str | None]:
    """Return why rows are rejected."""
    return [row.reason for row in rows]
