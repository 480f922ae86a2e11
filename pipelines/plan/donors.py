"""Find donors: committed shards from whose clips others can be made without reading a recording."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from clipmill.pipelines.chain import DERIVED_STAGES, Chain
from clipmill.pipelines.dataset.records_io import sound_commits
from clipmill.pipelines.plan.excluded import excluded_in
from clipmill.pipelines.plan.planning import Plan
from clipmill.schemas.errors import DonorError
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.reread import Reread
from clipmill.stages.storage.root import Root


def find_donors(root: Root, plan: Plan, last: Snapshot | None, chain: Chain) -> dict[str, str]:
    """Return the keys of a snapshot's shards from whose clips planned shards can be made, by clips key. last : the snapshot"""
    if last is None:
        return {}
    others = set(last.commits) - set(plan.keys)
    wanted = set(plan.table["clips_key"].unique().to_pylist()) - {""}
    excluded: dict[str, frozenset[str]] = {}
    for i in range(len(plan.keys)) if plan.excluded else ():
        if ids := excluded_in(shard := plan.shard(i)):
            excluded[shard["clips_key"][0].as_py()] = ids

    def reread(clips_key: str) -> Reread:
        stored = replace(chain.on_stored, excluded=excluded.get(clips_key, frozenset()))
        return Reread(root, "", (), stored=stored)

    sections = chain.clip_sections
    return {
        commit.clips_key: key
        for key, commit in sound_commits(root, others).items()
        if commit.clips_key in wanted
        and not _lacks_clips(commit, sections)
        and not _may_gain_clips(commit, reread(commit.clips_key))
    }


def _may_gain_clips(commit: Commit, reread: Reread) -> bool:
    """Return whether clips that a shard dropped may be kept now, which only their recordings can tell or give."""
    try:
        dropped = reread.dropped(commit)
    except DonorError:
        return True
    return dropped is not None and dropped["rule"].null_count > 0


def _lacks_clips(commit: Commit, clip_sections: Collection[str]) -> bool:
    """Return whether derived stages rejected clips of a shard. These are missing in it, and may be wanted now.

    clip_sections : sections of the stages up to clips, which are the same in shards with the same clips key
    """
    derived = {reason.code for kind in DERIVED_STAGES for reason in kind.rejects}  # older records name the wrong stage
    return any(
        row.get("kind") == "clip" and (row["reason"] in derived or row.get("stage") not in clip_sections)
        for row in commit.rejections
    )
