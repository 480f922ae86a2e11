"""Try rejected recordings again after something other than the recordings has changed: a library, a permission, a limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.pipelines.dataset.outcomes import recordings_of
from clipmill.pipelines.dataset.records_io import remove_shard, sound_commits
from clipmill.pipelines.dataset.tries import update_retries
from clipmill.pipelines.run.build import Builder
from clipmill.pipelines.run.display import told
from clipmill.pipelines.run.guard import guarded
from clipmill.pipelines.run.report import Report
from clipmill.schemas.layout import Retries
from clipmill.schemas.reasons import INPUT_CHANGED
from clipmill.schemas.records import Commit
from clipmill.stages.storage.root import Root


@dataclass
class Retried:
    """What a retry did.

    tried : ids of the recordings, or parts of long ones, that were tried again, with the reasons they had
    rejected_again : ids of those that were rejected for the same reason again
    lost : ids in the same shards that were used before and are rejected now (as under a lowered limit), with their reasons
    """

    report: Report
    tried: dict[str, str]
    rejected_again: set[str]
    lost: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.report.to_dict(),
            "tried": self.tried,
            "rejected_again": sorted(self.rejected_again),
            "lost": self.lost,
        }


def retry(
    file: ConfigFile,
    reasons: list[str],
    *,
    workers: int | None = None,
    address: str | None = None,
    quiet: bool = False,
    accept: bool = False,
    numbers: dict[str, Any] | None = None,
) -> Retried:
    """Decode the rejected recordings of a dataset again, with the shards that hold them, and publish what changed.

    Shards never change, so a shard with another outcome gets a new key. How often each recording was tried again is part of that key
    and is kept in `retries.json`. Retries that change nothing leave no trace.

    Parameters
    ----------
    reasons : codes of the rejections to try again; empty: all
    numbers : filled with what was measured (see `clipmill.pipelines.run.build_numbers`), also if the retry raises
    """
    with guarded(file):
        builder = Builder(file, workers, address, quiet)
        with builder.telling(numbers):
            return _retry(builder.begin(), reasons, accept)


def _retry(builder: Builder, reasons: list[str], accept: bool) -> Retried:
    root = builder.root
    with BuildNote(root, builder.plan.keys, builder.plan.recordings_listed, told(builder.quiet)) as note:
        note.measure = builder.measure
        before = sound_commits(root, builder.plan.keys)
        tried, used = _rejected_and_used(root, before.values(), reasons)
        bumped = _bumped(builder.retries, tried)
        builder.plan = builder.make_plan({**builder.retries, **bumped})
        builder.build_missing(note)
        if not builder.report.failures:
            added = sound_commits(root, set(builder.shards.keys) - before.keys())
            undone = _take_back_equal_shards(root, before.values(), list(added.values()))
            changed = {item: entry for item, entry in bumped.items() if item not in undone}
            if changed:
                builder.retries = update_retries(root, lambda now: _with_tries(now, changed))
            builder.plan_again(note)
            builder.build_and_publish(note, accept)
        again, lost = _outcomes(root, sound_commits(root, builder.plan.keys).values(), tried, used)
        report = builder.report
        report.shards_reused = report.shards_planned - report.shards_built - len(report.failures)
        builder.end(note)
    return Retried(report, {item: row["reason"] for item, row in tried.items()}, again, lost)


def _rejected_and_used(
    root: Root, commits: Iterable[Commit], reasons: list[str]
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Return the rows of rejected items that are to be tried again, and the items of the same shards that are used."""
    tried: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    for commit in commits:
        if not (commit.counts.recordings_rejected or commit.counts.spans_rejected):
            continue
        for row in recordings_of(root, commit):
            if row["reason"] is None:
                used.add(row["item_id"])
            elif row["reason"] not in INPUT_CHANGED and (not reasons or row["reason"] in reasons):
                tried[row["item_id"]] = row
    return tried, used


def _bumped(retries: Retries, tried: dict[str, dict[str, Any]]) -> Retries:
    """Return the entries of items with one try more, by which their shards get other keys."""
    return {item: (row["version"], _tries(retries, item, row["version"]) + 1) for item, row in tried.items()}


def _with_tries(now: Retries, changed: Retries) -> Retries:
    """Return the present entries with those of this retry. Of two counts for the same version the higher one stays."""
    ours = {item: (version, max(n, _tries(now, item, version))) for item, (version, n) in changed.items()}
    return {**now, **ours}


def _take_back_equal_shards(root: Root, before: Iterable[Commit], commits: list[Commit]) -> set[str]:
    """Remove new shards that turned out as they were before; return their items."""
    old = {(c.split, c.bucket): c for c in before}
    items: set[str] = set()
    for commit in commits:
        was = old.get((commit.split, commit.bucket))
        if was is not None and was.key != commit.key and _outcome(was) == _outcome(commit):
            items |= {row["item_id"] for row in recordings_of(root, commit)}
            remove_shard(root, commit)
    return items


def _outcomes(
    root: Root, commits: Iterable[Commit], tried: dict[str, dict[str, Any]], used: set[str]
) -> tuple[set[str], dict[str, str]]:
    """Return the items that are rejected for the same reason again, and those that were used before, with their reasons now."""
    again: set[str] = set()
    lost: dict[str, str] = {}
    for commit in commits:
        for row in recordings_of(root, commit):
            if row["item_id"] in tried and row["reason"] == tried[row["item_id"]]["reason"]:
                again.add(row["item_id"])
            elif row["reason"] is not None and row["item_id"] in used:
                lost[row["item_id"]] = row["reason"]
    return again, lost


def _tries(retries: Retries, item: str, version: str) -> int:
    known, n = retries.get(item, ("", 0))
    return n if known == version else 0


def _outcome(commit: Commit) -> tuple[Any, ...]:
    """What a shard is, without its name."""
    # The table of recordings has the items' digests, of which the number of tries is part.
    files = sorted((o.format, o.sha256) for o in commit.outputs if o.format != "recordings")
    reasons = sorted((r["recording_id"] or "", r["kind"], r["reason"]) for r in commit.rejections)
    return files, reasons, commit.counts
