"""Small annotated corpora for the tests of annotation files and of their joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipmill.pipelines.plan.annotations.annotate import annotate
from clipmill.pipelines.plan.annotations.annotated import Annotated, Unusable
from clipmill.pipelines.plan.inventory import take_inventory
from clipmill.schemas.config import Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.registered import complete_sources
from clipmill.stages.annotations.rows import Row
from clipmill.stages.annotations.sheet import read_sheet
from clipmill.stages.storage.root import Root

RANGES = {"start": 0, "end": 1, "label": 2}


def read(text: str | bytes, **spec: Any) -> list[Row]:
    """Rows of a sidecar, without header and with start, end and label unless told otherwise."""
    spec = {"sidecar": "{stem}.csv", "header": False, "columns": RANGES, **spec}
    return read_sheet(text.encode() if isinstance(text, str) else text, Annotations.model_validate(spec)).rows


def ranges(rows: list[Row]) -> list[tuple[float | None, float | None, str | None]]:
    assert not [r.detail for r in rows if r.reason]
    return [(r.start, r.end, r.label) for r in rows]


def join(root: Path, recordings: list[str], files: dict[str, str], **spec: Any) -> Annotated:
    """Lay a source out and annotate it."""
    for name, content in {**dict.fromkeys(recordings, "x"), **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, newline="")
    return annotate_source(root, annotations=spec)


def annotate_source(root: Path, **more: Any) -> Annotated:
    completed, problems = complete_sources({"sources": [{"name": "s", "root": str(root), **more}]})
    assert not problems, problems
    source = Source.model_validate(completed["sources"][0])
    inventory = take_inventory(source, Root(source.root))
    found = annotate(source, Root(source.root), inventory)
    found.read()
    found.by_path = {
        member.path: [(rows.file, Row(1, reason=rows.reason, detail=rows.detail))]
        if isinstance(rows, Unusable)
        else rows
        for members in (list(inventory.recordings), list(inventory.refusals))
        for member, rows in found.each(members)
        if rows is not None
    }
    found.check()
    return found


def field_names(found: Annotated) -> set[str]:
    return {name for rows in found.by_path.values() for _, row in rows for name in row.names}
