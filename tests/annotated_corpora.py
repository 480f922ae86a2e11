"""Small annotated corpora for the tests of annotation files and of their joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.annotations.annotate import Annotated, annotate
from pipelines.annotations.rows import Row
from pipelines.annotations.sheet import read_sheet
from pipelines.inventory import take_inventory
from schemas.annotation_config import Annotations
from schemas.config import Source
from schemas.storage import Root

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
    source = Source.model_validate({"name": "s", "root": str(root), **more})
    return annotate(source, Root(source.root), take_inventory(source, Root(source.root)))
