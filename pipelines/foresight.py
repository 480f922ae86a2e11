"""Foresight: what a plan tells of the split before any work is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.limits import empty_planned
from pipelines.plan import Plan
from pipelines.sides import SideChanges, planned_changes, recordings_by_split
from schemas.config import Config
from schemas.layout import read_snapshot, snapshot_numbers
from schemas.storage import Root


@dataclass
class Foreseen:
    """What a build would make of the split.

    splits : recordings by split; those that were asked for are there with 0 where they have none
    warnings : sentences on what would hold the build back, or be told
    side_changes : since the last snapshot
    snapshot : number of the last one, None where there is none
    """

    splits: dict[str, int]
    warnings: list[str]
    side_changes: SideChanges
    snapshot: int | None

    def to_dict(self) -> dict[str, Any]:
        return {"splits": self.splits, "warnings": self.warnings, "side_changes": asdict(self.side_changes)}


def foresee(config: Config, root: Root, plan: Plan) -> Foreseen:
    """Look at the split of a plan, and at the last snapshot where shards differ from it."""
    splits = recordings_by_split(plan, config.split.asked)
    limits = config.limits
    held = "" if limits.allow_empty_splits else "; a build of this is not published (limits.allow_empty_splits)"
    warnings = [f"{message}{held}" for message in empty_planned(config.split, splits)] if any(splits.values()) else []
    numbers = snapshot_numbers(root)
    if not numbers:
        return Foreseen(splits, warnings, SideChanges(), None)
    changes = planned_changes(root, read_snapshot(root, numbers[-1]), plan)
    if changes.crossing > limits.max_side_changes:
        warnings.append(
            f"{changes.crossing:,} of {sum(changes.moves.values()):,} moves are between training and evaluation, and limits.max_side_changes"
            f" allows {limits.max_side_changes:,}: a build of this is not published without --accept"
        )
    return Foreseen(splits, warnings, changes, numbers[-1])
