"""Draft the snapshot of a build from its commits and its plan."""

from __future__ import annotations

from datetime import UTC, datetime

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.publish import Draft, in_order, sum_up
from clipmill.pipelines.plan.planning import Plan
from clipmill.schemas.columns import describe_columns
from clipmill.schemas.records import Commit, Counts, Snapshot


def draft_snapshot(file: ConfigFile, plan: Plan, commits: list[Commit]) -> Draft:
    """Return the draft of a snapshot: totals of the commits, and what the plan left out or rejected."""
    commits = in_order(commits)
    by_reason: dict[str, int] = {}
    for row in plan.rejections:
        by_reason[str(row["reason"])] = by_reason.get(str(row["reason"]), 0) + 1
    counts = Counts(
        recordings_rejected=plan.recordings_rejected, annotations_rejected=plan.annotations_rejected, rejected=by_reason
    )
    sums = sum_up(commits, counts)
    chain = chain_of(file.config)
    snapshot = Snapshot(
        number=0,
        name=file.config.name,
        parent=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commits=sorted(c.key for c in commits),
        counts=sums.counts,
        seconds=sums.seconds,
        by_split=sums.by_split,
        recordings_listed=plan.recordings_listed,
        recordings_without_annotations=plan.recordings_without_annotations,
        annotations_read=plan.annotations_read,
        recordings_forgotten=plan.recordings_forgotten,
        recordings_dropped=dict(sorted(plan.recordings_dropped.items())),
        annotations_dropped=dict(sorted(plan.annotations_dropped.items())),
        annotations_ignored=plan.annotations_ignored,
        noted=dict(sorted(plan.noted.items())),
        plan_digest=plan.digest,
        config=file.public,
        fields=plan.field_names,
        columns=describe_columns(chain.fields(plan.field_names)),
        words=chain.words,
        labels=sums.labels,
        statistics=sums.statistics,
        has_channel=file.config.has_channel_column,
        bytes_stored=sums.bytes_stored,
    )
    return Draft(snapshot, commits, plan.rejections)
