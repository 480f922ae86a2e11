"""Publish what a build has made, unless it is published already or a limit forbids it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.classes import class_order, classes_of, describe_class_changes
from clipmill.pipelines.dataset.inspection import describe_remarks
from clipmill.pipelines.dataset.marks import Mark, remove_marks
from clipmill.pipelines.dataset.measured import count_notes, distributions, dropped_clips, measured_names, note_names
from clipmill.pipelines.dataset.publish import Draft, remark_rows, repair, with_duplicates, write_rejections
from clipmill.pipelines.dataset.publish import publish as publish_draft
from clipmill.pipelines.dataset.records_io import shard_sizes, snapshot_numbers, sound_commit
from clipmill.pipelines.dataset.shard_set import ShardSet
from clipmill.pipelines.dataset.sides import built_changes
from clipmill.pipelines.dataset.upgrade import check_old_sums
from clipmill.pipelines.plan.excluded import excluded_in, not_found
from clipmill.pipelines.plan.planning import Plan
from clipmill.pipelines.run.drafting import draft_snapshot
from clipmill.pipelines.run.limits import find_exceeded_limits, find_limits_of_few, find_shared_clips, find_shortfalls
from clipmill.pipelines.run.report import Report
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.findings import Finding
from clipmill.schemas.index import are_whole, has_record, record_size_bytes
from clipmill.schemas.layout import FORMAT_VERSION, REJECTED_FILE, SNAPSHOTS, commit_path, snapshot_name
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.root import Root

_MOMENT_S = 60.0
_FEW = 0.1
"""A night that adds a smaller share of the shards than this does not list all files a second time."""


@dataclass(frozen=True)
class Built:
    """What a build has made.

    last : the newest snapshot when the sources were listed
    shards : what the next snapshot will hold
    marks : what was found damaged, by path
    damaged : records of shards that were damaged, by key
    is_old : whether the dataset's records are still of an older format version
    seen_at_s : when all files were there, by `time.monotonic`
    """

    file: ConfigFile
    root: Root
    plan: Plan
    last: Snapshot | None
    shards: ShardSet
    marks: Mapping[str, Mark]
    damaged: Mapping[str, bytes]
    is_old: bool
    seen_at_s: float


def publish_built(built: Built, report: Report, accept: bool) -> bool:
    """Publish what was built, and complete the report. accept : publish even if limits are exceeded

    Returns
    -------
    False if another snapshot was published since the sources were listed, so that the plan may be out of date; then nothing was done

    Raises
    ------
    ClipmillError : the accounting does not add up, or files were removed during the build; nothing was published
    """
    file, root, last, shards = built.file, built.root, built.last, built.shards
    numbers = snapshot_numbers(root)
    if numbers[-1:] != ([last.number] if last is not None else []):
        return False
    draft = draft_snapshot(file, root, built.plan, shards, built.marks)
    report.index_damaged = sorted({*shards.damaged, *_of_newest(built)})
    report.remarks = describe_remarks(draft.snapshot.counts.remarked, remark_rows(draft.parts))
    if problems := draft.snapshot.problems():
        raise ClipmillError("the accounting of the build does not add up, nothing is published: " + "; ".join(problems))
    if last is not None and last.format_version < FORMAT_VERSION and last.commits == draft.snapshot.commits:
        check_old_sums(root, last, draft.snapshot)
    few = bool(built.plan.limited)
    short, warned = ([], []) if few else find_shortfalls(file.config, draft.snapshot)
    report.limited = dict(draft.snapshot.limited)
    report.warnings += warned + _not_excluded(built)
    classes = class_order(file.config, draft.snapshot, last)
    draft = replace(draft, snapshot=replace(draft.snapshot, classes=classes))
    report.snapshot = draft.snapshot
    report.classes = describe_class_changes(file.config, draft.snapshot, last)
    same = last is not None and last.has_same_content(draft.snapshot) and classes_of(last) == classes
    if last is not None and same and (not short or last.has_same_request(draft.snapshot)):
        if last.format_version == FORMAT_VERSION and repair(root, last, draft):
            report.status, report.snapshot = "unchanged", replace(last, noted=draft.snapshot.noted)
            report.warnings += short
            _clear_marks(built)
            return True
    elif last is not None and not same:
        shared = {part.part.id for part in draft.parts}
        report.side_changes = built_changes(root, last, shards, shared)
        draft = replace(draft, snapshot=replace(draft.snapshot, side_changes=report.side_changes.moves))
    draft = with_duplicates(draft)
    report.snapshot = draft.snapshot
    report.measured = distributions(root, draft.parts, measured_names(draft.snapshot.columns))
    report.clip_notes = count_notes(draft.parts, note_names(draft.snapshot.columns))
    report.warnings = [f for f in report.warnings if f.limit != "shared_clips"]
    report.warnings += find_shared_clips(draft.snapshot)
    if few:
        report.limits, shares = find_limits_of_few(file.config.limits, draft.snapshot)
        report.warnings += shares
    else:
        report.limits = short if same else short + find_exceeded_limits(file.config.limits, draft.snapshot, last)
    if report.limits and not accept:
        report.status = "not_published"
        report.rejections_sha256 = write_rejections(root, REJECTED_FILE, draft)
        return True
    report.accepted = bool(report.limits)
    _check_all_there(built, draft)
    accepted = replace(draft.snapshot, accepted=[e.message for e in report.limits])
    published = publish_draft(root, replace(draft, snapshot=accepted), last.number if last else None)
    if published is None:
        return False
    report.status, report.snapshot = "published", published
    _clear_marks(built)
    return True


def _not_excluded(built: Built) -> list[Finding]:
    """Return a warning about clips that `exclude_clips` lists and that were not there to be excluded."""
    plan = built.plan
    if not plan.excluded:
        return []
    dropped: set[str] = set()
    for i, key in enumerate(plan.keys):
        if excluded_in(plan.shard(i)) and (commit := sound_commit(built.root, key)) is not None:
            table = dropped_clips(built.root, commit)
            dropped.update(table["clip_id"].to_pylist() if table is not None else ())
    return not_found(built.file.config.exclude_clips, plan.excluded, dropped)


def _of_newest(built: Built) -> set[str]:
    """Return the marked files that belong to the newest snapshot itself: damaged files of older ones cannot be repaired."""
    if built.last is None:
        return set()
    folder = f"{SNAPSHOTS}/{snapshot_name(built.last.number)}/"
    paths = {path for part in built.last.parts for path in part.paths}
    return {path for path in built.marks if path in paths or path.startswith(folder)}


def _clear_marks(built: Built) -> None:
    """Remove the marks of what was repaired."""
    made = {key: content for key, content in built.damaged.items() if key in built.shards}
    keys12 = {key[:12] for key in made}
    files = {output.path for content in made.values() for output in Commit.from_content(content).outputs}
    shards = [path for path, mark in built.marks.items() if mark.key12 in keys12 or path in files]
    remove_marks(built.root, [*sorted(_of_newest(built)), *shards])


def _check_all_there(built: Built, draft: Draft) -> None:
    """Raise ClipmillError if files were removed or truncated during the build: a snapshot must not name them."""
    if n_missing := _n_missing(built, draft):
        lost = counted(n_missing, "shard")
        raise ClipmillError(
            f"{built.root.url}: the files of {lost} were removed or damaged during the build; build again"
        )


def _n_missing(built: Built, draft: Draft) -> int:
    """Return the number of shards whose files are not there. Those that were there a moment ago are not looked for again."""
    root, fresh = built.root, built.shards.fresh_keys
    if (
        root.is_local
        and not built.is_old
        and len(fresh) < _FEW * len(built.shards)
        and time.monotonic() - built.seen_at_s < _MOMENT_S
    ):
        return sum(not _is_there(root, Commit.from_content(built.shards.content_of(key))) for key in fresh)
    sizes = shard_sizes(root)
    columns = ["key", "record_size_bytes", "outputs"]
    return sum(are_whole(part.table("shards", columns), sizes, not built.is_old).count(False) for part in draft.parts)


def _is_there(root: Root, commit: Commit) -> bool:
    """Return whether a shard's files and its record exist in their full sizes."""
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        for path in (commit_path(commit.key), *(output.path for output in commit.outputs)):
            sizes[path] = root.size(path)
    return has_record(sizes, commit.key, record_size_bytes(commit)) and commit.is_whole(sizes)
