"""The lines that `clipmill gc` and `clipmill forget` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipmill.pipelines.cli.wording import align_count
from clipmill.pipelines.dataset.forget import ForgetResult
from clipmill.pipelines.dataset.gc import Garbage
from clipmill.pipelines.dataset.survey import Survey
from clipmill.schemas.legible_amounts import format_size
from clipmill.schemas.plural import counted
from clipmill.stages.storage.root import Root

_NOT_REACHED = "not reached  exports outside of this folder, copies and backups, old versions of objects in a store, and the corpus itself"


def describe_garbage(garbage: Garbage, removed: bool) -> list[str]:
    """Return the lines about what `gc` found, or removed."""
    verb = "removed" if removed else "to remove"
    groups = {
        "snapshots": (garbage.snapshots, _number_snapshots(garbage.dropped) if garbage.dropped else "unfinished snapshots"),
        "exports": (garbage.exports, "exports of snapshots that are not kept"),
        "shards": (garbage.shards, "shards that no kept snapshot names"),
        "builds": (garbage.notes, "notes of earlier builds"),
        "leftovers": (garbage.leftovers, "remains of interrupted writes"),
        "annotations": (garbage.annotations, "what annotation files gave before"),
    }  # fmt: skip
    lines = [
        f"{name:<12} {align_count(len(files), 'file', 8)} {format_size(sum(files.values())):>12}  {what}"
        for name, (files, what) in groups.items()
        if files
    ]
    if garbage.held:
        lines.append(
            f"held         {align_count(garbage.held, 'shard', 8).rstrip()} for a build that was interrupted or not published, so it can continue"
        )
    if garbage.retries:
        lines.append(f"retries      {garbage.retries:>8,} for recordings that are in no kept shard")
    n_files = len(list(garbage.paths))
    if not n_files and not garbage.retries:
        lines.append("nothing to remove")
    else:
        lines.append(f"{verb:<12} {align_count(n_files, 'file', 8)} {format_size(garbage.size_bytes):>12}")
        if not removed:
            lines.append("nothing has been removed; the same command with --delete removes it")
    return lines


def describe_survey(survey: Survey) -> list[str]:
    """Return the lines about what `forget` is going to do."""
    ids = [*survey.recordings, *survey.absent]
    them = "it" if len(ids) == 1 else "them"
    lines = (
        [f"to forget    {counted(len(ids), 'recording')}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"]
        if ids
        else []
    )
    if survey.cut_off:
        lines.append(
            f"finishes     a forget of {survey.cut_off} that was interrupted; give its ids again if they are not listed here"
        )
    if survey.absent:
        lines.append(f"not here     {counted(len(survey.absent), 'recording')} of these; no build will add them")
    lines += _twins(survey.twins)
    if survey.last is not None:
        affected = len(survey.last.commits) - len(survey.untouched)
        lines.append(
            f"publishes    a snapshot without {them}: {counted(affected, 'shard')} made again, {len(survey.untouched):,} unchanged"
        )
    if survey.holding:
        lines.append(
            f"removes      {_number_snapshots(survey.holding)}, which {'contains or names' if len(survey.holding) == 1 else 'contain or name'} {them}"
        )
    groups = {"exports": survey.garbage.exports, "shards": survey.garbage.shards}
    for name, files in groups.items():
        if files:
            lines.append(f"removes      {counted(len(files), 'file')} of {name}, {format_size(sum(files.values()))}")
    if survey.n_retries:
        lines.append(f"removes      {counted(survey.n_retries, 'record')} of retries")
    n_files = len(list(survey.garbage.paths))
    if n_files:
        lines.append(
            f"in total     {counted(n_files, 'file')}, {format_size(survey.garbage.size_bytes)}, including what no snapshot names"
        )
    if not survey.has_work:
        lines.append("nothing to do: no trace of forgotten recordings is left here")
    return lines


def describe_forgotten(done: ForgetResult, root: Root) -> list[str]:
    """Return the lines about what `forget` did and what it still found."""
    n = len(done.recordings) + len(done.absent)
    lines = [
        f"forgotten    {counted(n, 'recording')}; no build brings {'it' if n == 1 else 'them'} back"
        if n
        else "forgotten    nothing: no forgotten recording was left here"
    ]
    lines += _twins(done.twins)
    if done.published is not None:
        lines.append(
            f"published    snapshot {done.published}: {counted(done.shards_made, 'shard')} made again,"
            f" {done.shards_dropped:,} dropped because nothing else was in {'it' if done.shards_dropped == 1 else 'them'}"
        )
    if done.nothing_left:
        lines.append(
            f"             no clips are left in {', '.join(done.nothing_left)}; limits do not prevent forgetting"
        )
    if done.inexact:
        lines.append(
            f"             {counted(len(done.inexact), 'shard')} from an older clipmill: the sums still include annotations, dropped clips"
            " and decoded seconds of what was removed; the next build corrects this by reading the recordings again"
        )
    if done.removed_files:
        removed = (
            f"{_number_snapshots(done.removed_snapshots)} and files that nothing else needs: "
            if done.removed_snapshots
            else ""
        )
        lines.append(f"removed      {removed}{counted(done.removed_files, 'file')}, {format_size(done.removed_bytes)}")
    if not done.searched:
        lines.append(
            "searched     nothing: the ids cannot be derived from their hashes; give the ids to search for them"
        )
        return [*lines, _NOT_REACHED]
    t = done.traces
    scope = f"{counted(t.files, 'file')}, {format_size(t.size_bytes)}, and {counted(t.parquet_rows, 'row')} of Parquet"
    if done.is_clean:
        lines.append(f"searched     {scope}: none of their ids, addresses or clip names is left under {root.url}")
    else:
        lines.append(f"searched     {scope}:")
        lines += [f"  still named in {row['path']}: {row['name']}" for row in t.found[:20]]
        lines += [f"  cannot be read: {row['path']}: {row['reason']}" for row in t.not_read[:20]]
        lines.append("             remove these files if they are yours, then run the same command to search again")
    return [*lines, _NOT_REACHED]


def _twins(twins: Mapping[str, list[str]]) -> list[str]:
    return [
        f"same content {recording} is also {', '.join(others[:5])}, which stays unless it is forgotten too"
        for recording, others in list(twins.items())[:10]
    ]


def _number_snapshots(numbers: Sequence[int]) -> str:
    """Return ``snapshot 2``, or ``snapshots 1, 2``."""
    return f"snapshot{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
