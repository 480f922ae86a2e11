"""Draft the snapshot of a build from its commits and its plan."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.index_parts import stored
from clipmill.pipelines.dataset.publish import Draft, sum_up
from clipmill.pipelines.dataset.shard_set import ShardSet, schema_of_manifest
from clipmill.pipelines.plan.planning import Plan
from clipmill.schemas.columns import describe_columns
from clipmill.schemas.keys import OLD_CLIP_ID_BITS
from clipmill.schemas.records import Counts, Seconds, Snapshot
from clipmill.stages.storage.root import Root


def draft_snapshot(file: ConfigFile, root: Root, plan: Plan, shards: ShardSet, damaged: Collection[str] = ()) -> Draft:
    """Return the draft of a snapshot: its shards with their totals, and what the plan left out or rejected.

    damaged : paths of files of the last index that must be written again
    """
    by_reason: dict[str, int] = {}
    for row in plan.rejections:
        by_reason[str(row["reason"])] = by_reason.get(str(row["reason"]), 0) + 1
    counts = Counts(
        recordings_rejected=plan.recordings_rejected, annotations_rejected=plan.annotations_rejected, rejected=by_reason
    )
    chain = chain_of(file.config)
    snapshot = Snapshot(
        number=0,
        name=file.config.name,
        parent=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commits=shards.keys,
        counts=counts,
        seconds=Seconds(),
        by_split={},
        recordings_listed=plan.recordings_listed,
        recordings_without_annotations=plan.recordings_without_annotations,
        annotations_read=plan.annotations_read,
        recordings_forgotten=plan.recordings_forgotten,
        recordings_dropped=dict(sorted(plan.recordings_dropped.items())),
        annotations_dropped=dict(sorted(plan.annotations_dropped.items())),
        annotations_ignored=plan.annotations_ignored,
        annotations_merged=plan.annotations_merged,
        label_lists=list(file.config.label_lists),
        noted=dict(sorted(plan.noted.items())),
        plan_digest=plan.digest,
        config=file.public,
        fields=plan.field_names,
        columns=describe_columns(chain.fields(plan.field_names)),
        words=chain.words,
        has_channel=file.config.has_channel_column,
        limited=plan.limited,
        bytes_stored=0,
        clip_id_bits=file.config.output.clip_id_bits or OLD_CLIP_ID_BITS,
    )
    schema = schema_of_manifest(snapshot)
    parts = stored(root, shards.parts(schema, damaged), schema)
    return Draft(replace(snapshot, **vars(sum_up(root, parts, counts))), parts, plan.rejections)
