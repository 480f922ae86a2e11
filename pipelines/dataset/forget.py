"""Forget: take recordings out of a dataset and remove all that is left of them, so that no build brings them back.

No snapshot is edited. The order is such that it can be cut off anywhere and run again: the hashes of what is forgotten come first, so that
builds leave it out from then on; then shards without it, made from committed ones; then a snapshot of these; and only when that is there
go the older snapshots, what was exported of them, and their shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from clipmill.pipelines.dataset.gc import find_beside, remove
from clipmill.pipelines.dataset.left_out import digest_of_left_out
from clipmill.pipelines.dataset.notes import begin_forgetting, clean_notes, collecting, end_forgetting
from clipmill.pipelines.dataset.publish import Draft, in_order, publish, sum_up
from clipmill.pipelines.dataset.records_io import (
    read_retries,
    snapshot_numbers,
    sound_commit,
    sound_commits,
    write_forgotten,
)
from clipmill.pipelines.dataset.survey import Survey, is_of, redacted, rejection_rows, strays_of, survey
from clipmill.pipelines.dataset.traces import Needles, Traces, search
from clipmill.schemas.errors import ClipmillError, DonorError
from clipmill.schemas.layout import REJECTED_FILE, commit_path
from clipmill.schemas.records import Commit, Counts, Snapshot
from clipmill.stages.storage.failures import repair_hint
from clipmill.stages.storage.root import Root
from clipmill.stages.write.thin import Thin

Tell = Callable[[str], None]


@dataclass
class Done:
    """What came of it.

    recordings, absent, twins : as in the survey
    published : number of the new snapshot; None where the newest one did not hold the recordings
    nothing_left : splits that have no clips any more
    shards_made, shards_dropped : without the recordings; because nothing else was in them
    inexact : keys of shards whose sums still count some of what went, see `clipmill.stages.write.thin`
    removed : files, and their size; removed_snapshots : numbers
    traces : of the search that followed; searched : whether there were names to search for
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
        return not self.traces.found and not self.traces.not_read

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.is_clean}


def forget(root: Root, given: Sequence[str], also_unknown: bool = False, tell: Tell = lambda said: None) -> Done:
    """Forget recordings, and finish what an earlier run that was cut off has left.

    Parameters
    ----------
    given : ids; those that were forgotten before and are still here are taken with them
    also_unknown : as in `survey`
    tell : hears what is done

    Raises
    ------
    ConfigError : an id is of no recording here; nothing was done
    ClipmillError : a build runs, or a shard that is to be copied is damaged; no snapshot was removed
    """
    with collecting(root, "forget"):
        found = survey(root, given, also_unknown)
        done = Done(found.recordings, found.absent, found.twins)
        begin_forgetting(root)
        more = [r for r in (*found.recordings, *found.absent) if not found.forgotten.holds(r)]
        if more:
            write_forgotten(root, found.forgotten.with_more(more))
        if found.last is not None:
            _publish_without(root, found, found.last, done, tell)
        _remove(root, found, done, tell)
        end_forgetting(root)
        done.searched = bool(found.names.ids)
        if done.searched:
            tell("searching all that is left")
            done.traces = search(root, found.names)
    return done


def _publish_without(root: Root, found: Survey, last: Snapshot, done: Done, tell: Tell) -> None:
    there = sound_commits(root, last.commits)
    if missing := [key for key in last.commits if key not in there]:
        raise ClipmillError(
            f"{root.url}: {len(missing)} of {len(last.commits)} shards of snapshot {last.number} are missing or cut, as {missing[0][:12]};"
            f" no snapshot was removed. {repair_hint(root.url)}; then forget",
            code="root.damaged",
        )
    thin = Thin(root, frozenset(found.recordings))
    commits = [there[key] for key in found.untouched]
    touched = [there[key] for key in last.commits if key in found.shards]
    for i, commit in enumerate(touched):
        tell(f"making shard {i + 1} of {len(touched)} without them")
        made = _thinned(root, thin, commit, done)
        if made is None:
            done.shards_dropped += 1
        else:
            done.shards_made += 1
            commits.append(made)
    draft = _draft(root, found, last, list(there.values()), in_order(commits))
    if problems := draft.snapshot.problems():
        raise ClipmillError("the accounting does not add up, nothing was published or removed: " + "; ".join(problems))
    published = publish(root, draft, last.number)
    if published is None:
        raise ClipmillError(f"{root.url}: a build published meanwhile; nothing was removed, forget again")
    done.published = published.number
    kept = {split for split, side in published.by_split.items() if side["clips"]}
    done.nothing_left = sorted(s for s, side in last.by_split.items() if side["clips"] and s not in kept)


def _thinned(root: Root, thin: Thin, commit: Commit, done: Done) -> Commit | None:
    """Return a shard without the recordings, which is made unless it is there; None when nothing else was in it."""
    try:
        kept = thin.remaining_rows(commit)
        if not kept.num_rows:
            return None
        key, _, is_exact = thin.key_of(commit, kept)
        made = sound_commit(root, key)
        if made is None:
            thinned = thin(commit, kept)
            made, is_exact = thinned.commit, thinned.is_exact
            root.write_bytes(commit_path(made.key), made.to_json())
    except DonorError as error:
        raise ClipmillError(
            f"{error}; no snapshot was removed. Remove the shard's record {root.uri(commit_path(commit.key))} and build again, then forget;"
            f" `clipmill verify {root.url}` names all that is damaged",
            code="root.damaged",
        ) from None
    if not is_exact:
        done.inexact.append(made.key)
    return made


def _draft(root: Root, found: Survey, last: Snapshot, before: list[Commit], commits: list[Commit]) -> Draft:
    """Return the last snapshot without the recordings. What it says of all else is carried over."""
    rows = rejection_rows(root, last.number)
    if len(rows) != sum(last.counts.rejected.values()):
        raise ClipmillError(
            f"{root.url}: the rejections of snapshot {last.number} are missing or damaged; build again, which restores them, then forget",
            code="root.damaged",
        )
    going, stray = set(found.recordings), strays_of(found.recordings)
    of_plan = rows[: len(rows) - sum(len(c.rejections) for c in before)]
    left = [r for r in of_plan if r["recording_id"] not in going and not stray(r)]
    by_reason: dict[str, int] = {}
    for row in left:
        by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + 1
    kinds = [row["kind"] for row in left]
    plan = Counts(
        recordings_rejected=kinds.count("recording"), annotations_rejected=kinds.count("annotation"), rejected=by_reason
    )
    sums = sum_up(commits, plan)
    n_recordings, n_annotations = (_outcomes(last.counts, kind) - _outcomes(sums.counts, kind) for kind in _KINDS)
    snapshot = replace(
        last,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commits=sorted(c.key for c in commits),
        counts=sums.counts,
        seconds=sums.seconds,
        by_split=sums.by_split,
        labels=sums.labels,
        statistics=sums.statistics,
        bytes_stored=sums.bytes_stored,
        recordings_forgotten=last.recordings_forgotten + n_recordings,
        annotations_read=last.annotations_read - n_annotations,
        config=redacted(last.config, found.recordings, found.names.uris),
        side_changes={},
    )
    return Draft(replace(snapshot, plan_digest=digest_of_left_out(snapshot, left)), commits, left)


_KINDS = ("recordings", "annotations")


def _outcomes(counts: Counts, kind: str) -> int:
    return int(getattr(counts, f"{kind}_used") + getattr(counts, f"{kind}_rejected"))


def _remove(root: Root, found: Survey, done: Done, tell: Tell) -> None:
    """Remove the snapshots that hold the recordings and all that no other one needs."""
    kept = [n for n in snapshot_numbers(root) if n not in found.holding]
    needles = Needles(found.names)
    garbage = find_beside(root, kept, found.barred)
    garbage.notes |= {p: n for p, n in found.garbage.notes.items() if p == REJECTED_FILE}
    retries = garbage.retries_left
    garbage.retries_left = {item: entry for item, entry in retries.items() if not is_of(item, found.recordings)}
    garbage.retries = len(read_retries(root)) - len(garbage.retries_left)
    done.removed_snapshots = garbage.dropped
    done.removed_files, done.removed_bytes = len(list(garbage.paths)), garbage.size_bytes
    if done.removed_files:
        tell(f"removing {done.removed_files:,} files")
    remove(root, garbage)
    clean_notes(root, found.barred, needles.names_one)
