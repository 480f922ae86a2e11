"""Name the columns of clips that can have several labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

LABELS_COLUMN = "labels"
"""List of a clip's labels, sorted. The column exists only where a source has several labels, see `Config.label_lists`."""

EVENTS_COLUMN = "events"
"""List of what is heard when in a clip, sorted by onset. The column exists only where such a source has annotations with times."""

CLIP_EVENT = pa.struct(
    [
        ("label", pa.string()),
        ("onset_s", pa.float64()),  # from the clip's start, at least 0
        ("offset_s", pa.float64()),  # at most the end of what the clip has of its recording
    ]
)
LIST_FIELDS = {
    LABELS_COLUMN: pa.field(LABELS_COLUMN, pa.list_(pa.string())),
    EVENTS_COLUMN: pa.field(EVENTS_COLUMN, pa.list_(CLIP_EVENT)),
}
"""The columns by name. Null where a source has no such thing, and empty where a clip has no label."""


def label_lists_in(schema: pa.Schema, field_names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the columns of several labels in a schema of shards. field_names : the corpus's own, which may be called so"""
    own = set(field_names)
    return tuple(
        n for n in LIST_FIELDS if n not in own and n in schema.names and pa.types.is_list(schema.field(n).type)
    )


def labels_of(labels: Sequence[str] | None, label: str | None) -> list[str]:
    """Return what a clip counts for in sums by label: its labels, or its label; the empty text where there is none.

    labels : None where clips have one label at most
    """
    return (list(labels) or [""]) if labels is not None else [label or ""]


def list_text(name: str, values: list[Any] | None) -> str | None:
    """Return a list of a clip as the text of a cell; None stays None. Labels are what `label: {several: true}` reads back.

    name : of the column, labels | events
    """
    if values is None:
        return None
    is_plain = name == LABELS_COLUMN and not any({*",[\"'"} & {*label} or label != label.strip() for label in values)
    return ",".join(values) if is_plain else json.dumps(values, ensure_ascii=False)
