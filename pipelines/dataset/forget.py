"""Remove recordings and all traces of them from a dataset, so that no build brings them back.

No snapshot is edited. `forget` can be interrupted at any point and run again, because of the order of its steps. It first writes the
hashes of the recordings, so that builds leave them out from then on. It then makes shards without them from committed ones, and publishes
a snapshot of these. Only then does it remove the older snapshots, their exports and their shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from clipmill.pipelines.dataset.gc import find_garbage_beyond, remove
from clipmill.pipelines.dataset.identity import read_identity
from clipmill.pipelines.dataset.index_parts import stored
from clipmill.pipelines.dataset.kept_parts import kept_files
from clipmill.pipelines.dataset.left_out import digest_of_left_out
from clipmill.pipelines.dataset.notes import begin_forgetting, clean_notes, collecting, end_forgetting
from clipmill.pipelines.dataset.publish import Draft, publish, sum_up, with_duplicates
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import (
    describe_missing_shards,
    snapshot_numbers,
    sound_commit,
    sound_commits,
    write_forgotten,
)
from clipmill.pipelines.dataset.shard_set import ShardSet, parts_of, schema_of_manifest
from clipmill.pipelines.dataset.survey import Survey, is_item_of, redact, stray_matcher, survey
from clipmill.pipelines.dataset.traces import Needles, Traces, search
from clipmill.pipelines.dataset.tries import read_retries
from clipmill.pipelines.dataset.upgrade import upgrade
from clipmill.schemas.errors import ClipmillError, DonorError
from clipmill.schemas.layout import FORMAT_VERSION, REJECTED_FILE, commit_path
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Counts, Snapshot
from clipmill.stages.storage.failures import repair_hint
from clipmill.stages.storage.root import Root
from clipmill.stages.write.thin import Thin

Report = Callable[[str], None]


@dataclass
class ForgetResult:
    """The outcome of `forget`.

    recordings, absent, twins : as in `Survey`
    published : number of the new snapshot; None if the newest one did not hold the recordings
    nothing_left : splits that no longer have clips
    shards_made : number of shards made without the recordings
    shards_dropped : number of shards left out because they held nothing else
    inexact : keys of shards whose sums still count some of what was removed, see `clipmill.stages.write.thin`
    removed_files, removed_bytes : number of removed files, and their size
    removed_snapshots : numbers of the removed snapshots
    traces : result of the search that followed
    searched : whether there were names to search for
    """

    recordings: list[str]
    absent: list[str]
    twins: dict[str, list[str]]
    published: int | None = None
    nothing_left: list[str] = field(default_factory=list)
    shards_made: int = 0
    shards_dropped: int = 0
    inexact: list[str] = field(default_factory=list)
    removed_files: int = 0
    removed_bytes: int = 0
    removed_snapshots: list[int] = field(default_factory=list)
    traces: Traces = field(default_factory=Traces)
    searched: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether the search found no traces and could read every file."""
        return not self.traces.found and not self.traces.not_read

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.is_clean}


def forget(
    root: Root, ids: Sequence[str], also_unknown: bool = False, report: Report = lambda line: None
) -> ForgetResult:
    """Forget recordings, and finish an earlier run that was interrupted.

    Parameters
    ----------
    ids : of recordings; recordings that were forgotten before and are still in the dataset are always included
    also_unknown : as in `survey`
    report : called with a line of text before each step

    Raises
    ------
    ConfigError : an id does not belong to a recording of this dataset; nothing was changed
    ClipmillError : a build is running, or a shard that must be copied is damaged; no snapshot was removed
    """
    with collecting(root, "forget"):
        targets = survey(root, ids, also_unknown)
        done = ForgetResult(targets.recordings, targets.absent, targets.twins)
        begin_forgetting(root)
        new = [r for r in (*targets.recordings, *targets.absent) if not targets.forgotten.holds(r)]
        if new:
            write_forgotten(root, targets.forgotten.with_more(new))
        if targets.last is not None:
            _publish_without(root, targets, targets.last, done, report)
        _remove(root, targets, done, report)
        end_forgetting(root)
        done.searched = bool(targets.names.ids)
        if done.searched:
            report("searching the remaining files")
            done.traces = search(root, targets.names)
    return done


def _publish_without(root: Root, targets: Survey, last: Snapshot, done: ForgetResult, report: Report) -> None:
    """Publish the newest snapshot again without the recordings."""
    committed = sound_commits(root, last.commits)
    if missing := [key for key in last.commits if key not in committed]:
        raise ClipmillError(
            f"{describe_missing_shards(root, last, missing)}; no snapshot was removed. {repair_hint(root.url)}; then run forget again",
            code="root.damaged",
        )
    thin = Thin(root, frozenset(targets.recordings))
    shards = ShardSet(root, parts_of(root, last))
    untouched = set(targets.untouched)
    for i, table in shards.known():
        for row in table.to_pylist():
            if row["key"] in untouched:
                shards.add_known(i, row)
    for key in targets.untouched:
        if key not in shards:
            shards.add(committed[key])
    touched = [committed[key] for key in last.commits if key in targets.shards]
    for i, commit in enumerate(touched):
        report(f"making shard {i + 1} of {len(touched)} without the recordings")
        thinned = _thin_shard(root, thin, commit, done)
        if thinned is None:
            done.shards_dropped += 1
        else:
            done.shards_made += 1
            shards.add(thinned)
    draft = with_duplicates(_draft(root, targets, last, shards))
    if problems := draft.snapshot.problems():
        raise ClipmillError("the accounting does not add up; nothing was published or removed: " + "; ".join(problems))
    published = publish(root, draft, last.number)
    if published is None:
        raise ClipmillError(
            f"{root.url}: a build published a snapshot in the meantime; nothing was removed; run forget again"
        )
    if read_identity(root).format_version < FORMAT_VERSION:
        upgrade(root, published.commits)
    done.published = published.number
    remaining = {split for split, side in published.by_split.items() if side["clips"]}
    done.nothing_left = sorted(s for s, side in last.by_split.items() if side["clips"] and s not in remaining)


def _thin_shard(root: Root, thin: Thin, commit: Commit, done: ForgetResult) -> Commit | None:
    """Return a shard without the recordings, making it unless it exists; None if it would be empty."""
    try:
        kept = thin.remaining_rows(commit)
        if not kept.num_rows:
            return None
        key, _, is_exact = thin.key_of(commit, kept)
        copy = sound_commit(root, key)
        if copy is None:
            thinned = thin(commit, kept)
            copy, is_exact = thinned.commit, thinned.is_exact
            root.write_bytes(commit_path(copy.key), copy.to_json())
    except DonorError as error:
        raise ClipmillError(
            f"{error}; no snapshot was removed. Run `clipmill verify {root.url}`, which marks everything that is damaged, then build again, which"
            " repairs it, and run forget again",
            code="root.damaged",
        ) from None
    if not is_exact:
        done.inexact.append(copy.key)
    return copy


def _draft(root: Root, targets: Survey, last: Snapshot, shards: ShardSet) -> Draft:
    """Return a draft of the last snapshot without the recordings. Everything else is carried over."""
    published = Published(root, last)
    rows = published.rejections()
    n_of_shards = sum(part.table("rejections", ["kind"]).num_rows for part in published.parts)
    of_plan = rows.slice(0, rows.num_rows - n_of_shards).to_pylist()
    removed, is_stray = set(targets.recordings), stray_matcher(targets.recordings)
    remaining = [r for r in of_plan if r["recording_id"] not in removed and not is_stray(r)]
    by_reason: dict[str, int] = {}
    for row in remaining:
        by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + 1
    kinds = [row["kind"] for row in remaining]
    plan = Counts(
        recordings_rejected=kinds.count("recording"), annotations_rejected=kinds.count("annotation"), rejected=by_reason
    )
    parts = stored(root, shards.parts(schema_of_manifest(last)), schema_of_manifest(last))
    sums = sum_up(root, parts, plan)
    n_recordings, n_annotations = (_outcomes(last.counts, kind) - _outcomes(sums.counts, kind) for kind in _KINDS)
    snapshot = replace(
        last,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commits=shards.keys,
        format_version=FORMAT_VERSION,
        counts=sums.counts,
        seconds=sums.seconds,
        by_split=sums.by_split,
        labels=sums.labels,
        statistics=sums.statistics,
        bytes_stored=sums.bytes_stored,
        recordings_forgotten=last.recordings_forgotten + n_recordings,
        annotations_read=last.annotations_read - n_annotations,
        config=redact(last.config, targets.recordings, targets.names.uris),
        side_changes={},
    )
    return Draft(replace(snapshot, plan_digest=digest_of_left_out(snapshot, remaining)), parts, remaining)


_KINDS = ("recordings", "annotations")


def _outcomes(counts: Counts, kind: str) -> int:
    return int(getattr(counts, f"{kind}_used") + getattr(counts, f"{kind}_rejected"))


def _remove(root: Root, targets: Survey, done: ForgetResult, report: Report) -> None:
    """Remove the snapshots that hold the recordings, and the files that no other snapshot needs."""
    kept = [n for n in snapshot_numbers(root) if n not in targets.holding]
    needles = Needles(targets.names)
    garbage = find_garbage_beyond(root, kept, targets.excluded)
    garbage.notes |= {p: n for p, n in targets.garbage.notes.items() if p == REJECTED_FILE}
    if targets.is_new:
        garbage.annotations = kept_files(root)
    garbage.retries_removed |= {i: e for i, e in read_retries(root).items() if is_item_of(i, targets.recordings)}
    done.removed_snapshots = garbage.dropped
    done.removed_files, done.removed_bytes = len(list(garbage.paths)), garbage.size_bytes
    if done.removed_files:
        report(f"removing {counted(done.removed_files, 'file')}")
    remove(root, garbage)
    clean_notes(root, targets.excluded, needles.is_in_text)
