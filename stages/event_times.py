"""Change when events are heard in clips that become shorter, faster, or are moved in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from clipmill.schemas.label_columns import EVENTS_COLUMN
from clipmill.stages.arrow_rows import replace_column

Retime = Callable[[float], float]


def with_event_times(table: pa.Table, changed: Mapping[int, tuple[Retime, float]]) -> pa.Table:
    """Return a table in which the events of some clips have other times. They are cut at the clip's edges; what lies beyond is left out.

    The labels of the clips stay as they are.

    changed : by row, what makes new times of old ones, both in seconds from the clip's start, and the clip's new length in seconds
    """
    if not changed or EVENTS_COLUMN not in table.column_names or table[EVENTS_COLUMN].null_count == table.num_rows:
        return table
    events = table[EVENTS_COLUMN].to_pylist()
    for row, (retime, length_s) in changed.items():
        if events[row]:
            events[row] = _cut(events[row], retime, length_s)
    return replace_column(table, EVENTS_COLUMN, pa.array(events, table.schema.field(EVENTS_COLUMN).type))


def _cut(events: list[dict[str, Any]], retime: Retime, length_s: float) -> list[dict[str, Any]]:
    moved = [(max(0.0, retime(e["onset_s"])), min(length_s, retime(e["offset_s"])), e["label"]) for e in events]
    return [
        {"label": label, "onset_s": onset_s, "offset_s": offset_s}
        for onset_s, offset_s, label in sorted(moved)
        if offset_s > onset_s
    ]
