"""Find which side of the split a plan puts recordings on, and which of them were on another side in the last snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.sides import Placement, SideChanges, compare, find_removed_shards, read_placements
from clipmill.pipelines.plan.planning import Plan
from clipmill.schemas.records import Snapshot
from clipmill.stages.storage.root import Root


def planned_changes(root: Root, last: Snapshot, plan: Plan) -> SideChanges:
    """Return the recordings of the last snapshot that a plan puts on another side of the split."""
    known = set(last.commits)
    added = [plan.shard(i) for i, key in enumerate(plan.keys) if key not in known]
    removed, lost = find_removed_shards(root, last, set(plan.keys))
    same = {c.clips_key for c in removed} & {shard["clips_key"][0].as_py() for shard in added}
    before, unknown = read_placements(root, [c for c in removed if not c.clips_key or c.clips_key not in same])
    after = (row for shard in added if shard["clips_key"][0].as_py() not in same for row in _planned(shard))
    changes = compare(before, after)
    changes.shards_unknown = lost + unknown
    return changes


def recordings_by_split(plan: Plan, splits: Iterable[str]) -> dict[str, int]:
    """Return the number of recordings on each side of the split. splits : sides to include even if they have none"""
    recordings = dict.fromkeys(splits, 0)
    if plan.table.num_rows:
        usable = plan.table.select(["split", "recording_id", "annotations", "reason"])
        usable = usable.filter(has_rows(usable)).select(["split", "recording_id"])
        counts = usable.group_by("split", use_threads=False).aggregate([("recording_id", "count_distinct")])
        recordings |= dict(
            zip(counts["split"].to_pylist(), counts["recording_id_count_distinct"].to_pylist(), strict=True)
        )
    return dict(sorted(recordings.items()))


def has_rows(items: pa.Table) -> pa.ChunkedArray:
    """Return a mask of the items that can have clips: those without annotations, and those with at least one usable row."""
    column = items["annotations"]
    masks = []
    for lists in column.chunks:
        usable = pc.is_null(pc.struct_field(pc.list_flatten(lists), "reason"))
        places = pc.unique(pc.list_parent_indices(lists).filter(usable))
        indices = pa.array(range(len(lists)), places.type)
        masks.append(pc.or_(pc.is_null(lists), pc.is_in(indices, places)))
    return pc.and_(pa.chunked_array(masks, pa.bool_()), pc.is_null(items["reason"]))


def _planned(shard: pa.Table) -> Iterator[Placement]:
    usable = shard.filter(has_rows(shard))
    columns = (usable[name].to_pylist() for name in ("recording_id", "version", "split"))
    yield from zip(*columns, strict=True)
