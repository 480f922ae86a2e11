"""Fix the order of a dataset's labels, which defines their ids. No shard stores an id, so labels can be added later."""

from __future__ import annotations

import json

from clipmill.schemas.config import Config
from clipmill.schemas.records import Snapshot

_PASTED = 200
"""Up to this number of classes a line to paste is printed; longer lists are not maintained by hand."""


def classes_of(snapshot: Snapshot) -> list[str]:
    """Return a snapshot's labels in the order of their ids: as recorded, or sorted if the snapshot is older than that record."""
    return snapshot.classes or sorted(label for label in snapshot.seconds.clips_by_label if label)


def class_order(config: Config, new: Snapshot, last: Snapshot | None) -> list[str]:
    """Return the order of a new snapshot's classes.

    It is that of `classes` in the configuration. Without `classes` it is the order of the last snapshot, so that ids stay the same, followed
    by new labels, sorted. A label that no longer occurs keeps its position.
    """
    if config.classes is not None:
        return list(config.classes)
    kept = classes_of(last) if last is not None else []
    return [*kept, *sorted({label for label in new.seconds.clips_by_label if label} - set(kept))]


def describe_class_changes(config: Config, new: Snapshot, last: Snapshot | None) -> list[str]:
    """Return the lines that a build prints about new classes, and about classes whose ids have changed."""
    if last is None:
        return []
    before, now = classes_of(last), new.classes
    lines = []
    added = [c for c in now if c not in set(before)]
    moved = [c for i, c in enumerate(before) if i >= len(now) or now[i] != c]
    if added and not moved:
        first = len(now) - len(added)
        lines.append(
            f"classes      {_names(added)} {'is' if len(added) == 1 else 'are'} new: label ids from {first} on; the others keep theirs"
        )
    if moved:
        lines.append(
            f"classes      ids differ from snapshot {last.number} for {_names(moved)}: models trained on that snapshot do not fit this order"
        )
    if added and config.classes is None and len(now) <= _PASTED:
        lines.append(
            f"classes      to fix the order, add to the configuration: classes: {json.dumps(now, ensure_ascii=False)}"
        )
    return lines


def _names(labels: list[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5:,} more" if len(labels) > 5 else "")
