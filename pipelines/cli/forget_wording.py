"""Lines that `clipmill forget` prints."""

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
            f"finishes     a forget of {found.cut_off} that was interrupted; give its ids again if they are not listed here"
        )
    if found.absent:
        lines.append(f"not here     {counted(len(found.absent), 'recording')} of these; no build will add them")
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
            lines.append(f"removes      {counted(len(files), 'file')} of {name}, {size(sum(files.values()))}")
    if found.n_retries:
        lines.append(f"removes      {found.n_retries:,} of the records of retries")
    n_files = len(list(found.garbage.paths))
    if n_files:
        lines.append(
            f"in total     {counted(n_files, 'file')}, {size(found.garbage.size_bytes)}, including what no snapshot names"
        )
    if not found.is_anything:
        lines.append("nothing to do: nothing of what was forgotten is left here")
    return lines


def forgot(done: Done, root: Root) -> list[str]:
    """Return what `forget` did, and what it still found."""
    n = len(done.recordings) + len(done.absent)
    lines = [
        f"forgotten    {counted(n, 'recording')}; no build brings them back"
        if n
        else "forgotten    nothing that was still here"
    ]
    lines += _twins(done.twins)
    if done.published is not None:
        lines.append(
            f"published    snapshot {done.published}: {counted(done.shards_made, 'shard')} made without them,"
            f" {done.shards_dropped:,} left out that held nothing else"
        )
    if done.nothing_left:
        lines.append(f"             nothing is left in {', '.join(done.nothing_left)}; limits do not stop a deletion")
    if done.inexact:
        lines.append(
            f"             {counted(len(done.inexact), 'shard')} from an older clipmill: their sums still count annotations, dropped clips"
            " and decoded seconds of what was removed; the next build makes them from their recordings"
        )
    if done.removed_files:
        gone = f"{_numbers(done.removed_snapshots)} with what nothing else needs, " if done.removed_snapshots else ""
        lines.append(f"removed      {gone}{counted(done.removed_files, 'file')}, {size(done.removed_bytes)}")
    if not done.searched:
        lines.append(
            "searched     nothing: the ids cannot be derived from their hashes; give the ids to search for them"
        )
        return [*lines, _NOT_REACHED]
    t = done.traces
    searched = f"{counted(t.files, 'file')}, {size(t.size_bytes)}, and {counted(t.parquet_rows, 'row')} of Parquet"
    if done.is_clean:
        lines.append(f"searched     {searched}: no id, address or clip name of theirs is left under {root.url}")
    else:
        lines.append(f"searched     {searched}:")
        lines += [f"  still named in {row['path']}: {row['name']}" for row in t.found[:20]]
        lines += [f"  cannot be read: {row['path']}: {row['reason']}" for row in t.not_read[:20]]
        lines.append("             remove the ones that are yours, then run the same command to search again")
    return [*lines, _NOT_REACHED]


def _numbers(snapshots: list[int]) -> str:
    return f"snapshot{'s' if len(snapshots) > 1 else ''} {', '.join(map(str, snapshots))}"


def _twins(twins: Mapping[str, list[str]]) -> list[str]:
    return [
        f"same content {recording} is also {', '.join(others[:5])}, which stays unless it is forgotten too"
        for recording, others in list(twins.items())[:10]
    ]
