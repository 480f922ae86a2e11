"""Predict from a plan, before any work, what a build would make of the split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.sides import SideChanges
from clipmill.pipelines.plan.planned_sides import planned_changes, recordings_by_split
from clipmill.pipelines.plan.planning import Plan
from clipmill.pipelines.run.limits import predict_exceeded_limits
from clipmill.schemas.config import Config
from clipmill.schemas.findings import Finding
from clipmill.stages.storage.root import Root


@dataclass
class SplitForecast:
    """What a build would make of the split.

    splits : number of recordings by split; 0 for a split of the configuration that gets none
    warnings : limits that a build would exceed, and likely mistakes
    side_changes : recordings that would move to another split, compared with the last snapshot
    """

    splits: dict[str, int]
    warnings: list[Finding]
    side_changes: SideChanges

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def forecast_split(config: Config, root: Root, plan: Plan) -> SplitForecast:
    """Return what a build of a plan would make of the split. Of the last snapshot, only shards that are not planned are read."""
    splits = recordings_by_split(plan, config.split.expected)
    if plan.limited:  # a few recordings can lack a split, and what moves among them says nothing
        return SplitForecast(splits, plan.warnings, SideChanges())
    numbers = snapshot_numbers(root)
    last = read_snapshot(root, numbers[-1]) if numbers else None
    changes = planned_changes(root, last, plan) if last is not None else SideChanges()
    return SplitForecast(splits, plan.warnings + predict_exceeded_limits(config, splits, changes.moves), changes)
