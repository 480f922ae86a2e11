"""Sum up what a block of recordings contributes to a plan besides its items. The plan is the sum of its blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

_COUNTS = (
    "recordings_without_annotations",
    "recordings_rejected",
    "annotations_read",
    "annotations_rejected",
    "annotations_merged",
)
_COUNTERS = ("recordings_dropped", "annotations_dropped", "noted")


class Counts(Protocol):
    """What counts recordings and annotations: a plan, or the outcome of a block."""

    recordings_without_annotations: int
    recordings_rejected: int
    annotations_read: int
    annotations_rejected: int
    annotations_merged: int
    recordings_dropped: Counter[str]
    annotations_dropped: Counter[str]
    noted: Counter[str]


@dataclass
class Outcome:
    """What a block of recordings contributes to a plan besides its items. Plain data, which is kept as JSON.

    rejections : rows of `clipmill.schemas.tables.REJECTIONS`
    clips, clips_s : estimated number of clips and their seconds
    n_without : number of clips without the value that decides the split
    labels_met : labels of `label.map` and `label.drop` that occurred
    n_with_rows : number of recordings with a usable sidecar that has rows; n_annotated : these, and those whose sidecar is unusable
    files_noted, unnamed_roles : as in `Annotated`, of the block's annotation files
    field_names : sorted names of the fields of its items
    """

    recordings_without_annotations: int = 0
    recordings_rejected: int = 0
    annotations_read: int = 0
    annotations_rejected: int = 0
    annotations_merged: int = 0
    recordings_dropped: Counter[str] = field(default_factory=Counter)
    annotations_dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    clips: float = 0.0
    clips_s: float = 0.0
    n_without: int = 0
    labels_met: list[str] = field(default_factory=list)
    n_annotated: int = 0
    n_with_rows: int = 0
    files_noted: dict[str, int] = field(default_factory=dict)
    unnamed_roles: dict[str, str] = field(default_factory=dict)
    field_names: list[str] = field(default_factory=list)

    def add_to(self, plan: Counts) -> None:
        """Add the counts to those of a plan."""
        for name in _COUNTS:
            setattr(plan, name, getattr(plan, name) + getattr(self, name))
        for name in _COUNTERS:
            getattr(plan, name).update(getattr(self, name))

    def to_plain(self) -> dict[str, Any]:
        """Return the outcome as plain data, without what is zero or empty."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name))}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Outcome:
        """Return the outcome of plain data."""
        outcome = cls(**plain)
        for name in _COUNTERS:
            setattr(outcome, name, Counter(getattr(outcome, name)))
        return outcome
