"""The sentences of `clipmill forget`."""

from __future__ import annotations

from collections.abc import Mapping

from clipmill.pipelines.cli.wording import size
from clipmill.pipelines.dataset.forget import Done
from clipmill.pipelines.dataset.survey import Survey
from clipmill.schemas.plural import counted
from clipmill.stages.storage.root import Root

_NOT_REACHED = "not reached  exports outside of this folder, copies and backups, versions that a store keeps of objects, and the corpus itself"


def forgetting(found: Survey) -> list[str]:
    """Return what `forget` is about to do."""
    ids = [*found.recordings, *found.absent]
    lines = (
        [f"to forget    {counted(len(ids), 'recording')}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"]
        if ids
        else []
    )
    if found.cut_off:
        lines.append(
            f"finishes     a forget of {found.cut_off} that was cut off; give its ids again where they are not told here"
        )
    if found.absent:
        lines.append(f"not here     {counted(len(found.absent), 'recording')} of these; no build will bring them in")
    lines += _twins(found.twins)
    if found.last is not None:
        touched = len(found.last.commits) - len(found.untouched)
        lines.append(
            f"publishes    a snapshot without them: {counted(touched, 'shard')} made from what is stored, {len(found.untouched):,} as they are"
        )
    if found.holding:
        lines.append(
            f"removes      {_numbers(found.holding)}, {'which holds or names them' if len(found.holding) == 1 else 'which hold or name them'}"
        )
    groups = {"exports": found.garbage.exports, "shards": found.garbage.shards}
    for name, files in groups.items():
        if files:
            lines.append(f"removes      {len(files):,} files of {name}, {size(sum(files.values()))}")
    if found.n_retries:
        lines.append(f"removes      {found.n_retries:,} of the recordings that were tried again")
    n_files = len(list(found.garbage.paths))
    if n_files:
        lines.append(f"in all       {n_files:,} files, {size(found.garbage.size_bytes)}, with what no snapshot names")
    if not found.is_anything:
        lines.append("nothing to do: nothing that was forgotten is left here")
    return lines


def forgot(done: Done, root: Root) -> list[str]:
    """Return what `forget` did, and what its search says."""
    n = len(done.recordings) + len(done.absent)
    lines = [
        f"forgotten    {counted(n, 'recording')}; no build brings them back"
        if n
        else "forgotten    nothing that was here still"
    ]
    lines += _twins(done.twins)
    if done.published is not None:
        lines.append(
            f"published    snapshot {done.published}: {counted(done.shards_made, 'shard')} made without them,"
            f" {done.shards_dropped:,} that held nothing else left out"
        )
    if done.nothing_left:
        lines.append(
            f"             nothing is left in {', '.join(done.nothing_left)}; limits do not hold a deletion back"
        )
    if done.inexact:
        lines.append(
            f"             {counted(len(done.inexact), 'shard')} came of an older clipmill: their sums still count annotations, dropped clips"
            " and decoded seconds of what went, and the next build makes them from their recordings"
        )
    if done.removed_files:
        gone = f"{_numbers(done.removed_snapshots)} with what nothing else needs, " if done.removed_snapshots else ""
        lines.append(f"removed      {gone}{done.removed_files:,} files, {size(done.removed_bytes)}")
    if not done.searched:
        lines.append(
            "searched     nothing: which ids it was cannot be told from their hashes; give the ids to search for them"
        )
        return [*lines, _NOT_REACHED]
    t = done.traces
    searched = f"{t.files:,} files, {size(t.size_bytes)}, and {t.parquet_rows:,} rows of Parquet decoded"
    if done.is_clean:
        lines.append(f"searched     {searched}: their ids, addresses and clips' names stand nowhere under {root.url}")
    else:
        lines.append(f"searched     {searched}:")
        lines += [f"  still named in {row['path']}: {row['name']}" for row in t.found[:20]]
        lines += [f"  cannot be read: {row['path']}: {row['reason']}" for row in t.not_read[:20]]
        lines.append("             remove what is yours of these, then the same command again searches again")
    return [*lines, _NOT_REACHED]


def _numbers(snapshots: list[int]) -> str:
    return f"snapshot{'s' if len(snapshots) > 1 else ''} {', '.join(map(str, snapshots))}"


def _twins(twins: Mapping[str, list[str]]) -> list[str]:
    return [
        f"same content {recording} is also {', '.join(others[:5])}, which stays unless it is forgotten too"
        for recording, others in list(twins.items())[:10]
    ]
