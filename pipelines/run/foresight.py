"""Foresight: what a plan tells of the split before any work is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.sides import SideChanges
from clipmill.pipelines.plan.planned_sides import planned_changes, recordings_by_split
from clipmill.pipelines.plan.planning import Plan
from clipmill.pipelines.run.limits import foreseen
from clipmill.schemas.config import Config
from clipmill.schemas.findings import Finding
from clipmill.stages.storage.root import Root


@dataclass
class Foreseen:
    """What a build would make of the split.

    splits : recordings by split; those that were asked for are there with 0 where they have none
    warnings : limits that a build would exceed
    side_changes : since the last snapshot
    """

    splits: dict[str, int]
    warnings: list[Finding]
    side_changes: SideChanges

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def foresee(config: Config, root: Root, plan: Plan) -> Foreseen:
    """Look at the split of a plan, and at the last snapshot where shards differ from it."""
    splits = recordings_by_split(plan, config.split.expected)
    numbers = snapshot_numbers(root)
    last = read_snapshot(root, numbers[-1]) if numbers else None
    changes = planned_changes(root, last, plan) if last is not None else SideChanges()
    return Foreseen(splits, plan.warnings + foreseen(config, splits, changes.moves), changes)
