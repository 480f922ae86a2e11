"""Classes: the order of a dataset's labels, by which they have their ids. No shard holds an id, so the order can grow."""

from __future__ import annotations

import json

from clipmill.schemas.config import Config
from clipmill.schemas.records import Snapshot

_PASTED = 200
"""Up to so many classes the line to paste is given; more are no list that somebody keeps by hand."""


def classes_of(snapshot: Snapshot) -> list[str]:
    """Return a snapshot's labels in the order of their ids: as it states, or sorted where it was made before the order was kept."""
    return snapshot.classes or sorted(label for label in snapshot.seconds.clips_by_label if label)


def class_order(config: Config, new: Snapshot, last: Snapshot | None) -> list[str]:
    """Return the order of a new snapshot's classes.

    That of `classes` in the configuration. Without it the order of the last snapshot, so that ids stay, and behind it, sorted, the
    labels that came since. A label that went keeps its place.
    """
    if config.classes is not None:
        return list(config.classes)
    kept = classes_of(last) if last is not None else []
    return [*kept, *sorted({label for label in new.seconds.clips_by_label if label} - set(kept))]


def describe_class_changes(config: Config, new: Snapshot, last: Snapshot | None) -> list[str]:
    """Return what a build says of classes: those that came, and ids that are other ones now."""
    if last is None:
        return []
    before, now = classes_of(last), new.classes
    lines = []
    came = [c for c in now if c not in set(before)]
    moved = [c for i, c in enumerate(before) if i >= len(now) or now[i] != c]
    if came and not moved:
        first = len(now) - len(came)
        lines.append(
            f"classes      {_names(came)} {'is' if len(came) == 1 else 'are'} new: label ids from {first} on; the others keep theirs"
        )
    if moved:
        lines.append(
            f"classes      other ids than in snapshot {last.number} for {_names(moved)}: models trained on that one do not fit this order"
        )
    if came and config.classes is None and len(now) <= _PASTED:
        lines.append(
            f"classes      to fix the order, put into the configuration: classes: {json.dumps(now, ensure_ascii=False)}"
        )
    return lines


def _names(labels: list[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5:,} more" if len(labels) > 5 else "")
