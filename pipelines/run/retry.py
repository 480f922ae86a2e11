"""Retry: try rejected recordings again, after a library, a permission or a limit has changed but not the recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.pipelines.dataset.outcomes import recordings_of
from clipmill.pipelines.dataset.records_io import remove_shard, sound_commits, write_retries
from clipmill.pipelines.run.build import Builder, Report, guarded
from clipmill.schemas.layout import Retries
from clipmill.schemas.reasons import INPUT_CHANGED
from clipmill.schemas.records import Commit


@dataclass
class Retried:
    """What came of it.

    tried : recordings, or parts of long ones, by the reason they had
    rejected_again : those that have the same reason as before
    lost : recordings, or parts, of the same shards that were used before and are rejected now, as under a lowered limit
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
) -> Retried:
    """Decode the rejected recordings of a dataset again, with the shards that hold them, and publish what changed.

    Shards never change, so one whose outcome is another gets a new key; which recordings were tried again, and how often, is
    part of it and stands in `retries.json`. Where nothing came of it, nothing stays of it.

    Parameters
    ----------
    reasons : codes to try again; empty: all
    """
    with guarded(file):
        return _retry(Builder(file, workers, address, quiet).begin(), reasons, accept)


def _retry(builder: Builder, reasons: list[str], accept: bool) -> Retried:
    with BuildNote(builder.root, builder.plan.keys, builder.plan.recordings_listed) as note:
        before = {(c.split, c.bucket): c for c in sound_commits(builder.root, builder.plan.keys).values()}
        tried: dict[str, dict[str, Any]] = {}
        used: set[str] = set()
        for commit in before.values():
            if not (commit.counts.recordings_rejected or commit.counts.spans_rejected):
                continue
            for row in recordings_of(builder.root, commit):
                if row["reason"] is None:
                    used.add(row["item_id"])
                elif row["reason"] not in INPUT_CHANGED and (not reasons or row["reason"] in reasons):
                    tried[row["item_id"]] = row
        bumped: Retries = {
            item: (row["version"], _tries(builder.retries, item, row["version"]) + 1) for item, row in tried.items()
        }
        builder.plan = builder.make_plan({**builder.retries, **bumped})
        commits = builder.commits(note)
        same: set[str] = set()
        if not builder.report.failures:
            for commit in commits:
                old = before.get((commit.split, commit.bucket))
                if old is not None and old.key != commit.key and _outcome(old) == _outcome(commit):
                    same |= {row["item_id"] for row in recordings_of(builder.root, commit)}
                    remove_shard(builder.root, commit)
            changed = {item: entry for item, entry in bumped.items() if item not in same}
            if changed:
                write_retries(builder.root, {**builder.retries, **changed})
            builder.plan = builder.make_plan({**builder.retries, **changed})
            builder.publish(builder.commits(note), accept)
        again: set[str] = set()
        lost: dict[str, str] = {}
        for commit in sound_commits(builder.root, builder.plan.keys).values():
            for row in recordings_of(builder.root, commit):
                if row["item_id"] in tried and row["reason"] == tried[row["item_id"]]["reason"]:
                    again.add(row["item_id"])
                elif row["reason"] is not None and row["item_id"] in used:
                    lost[row["item_id"]] = row["reason"]
        report = builder.report
        report.shards_reused = report.shards_planned - report.shards_built - len(report.failures)
        builder.end(note)
    return Retried(builder.report, {item: row["reason"] for item, row in tried.items()}, again, lost)


def _tries(retries: Retries, item: str, version: str) -> int:
    known, n = retries.get(item, ("", 0))
    return n if known == version else 0


def _outcome(commit: Commit) -> tuple[Any, ...]:
    """What a shard is, without its name."""
    # The table of recordings has the items' digests, of which the number of tries is part.
    files = sorted((o.format, o.sha256) for o in commit.outputs if o.format != "recordings")
    reasons = sorted((r["recording_id"] or "", r["kind"], r["reason"]) for r in commit.rejections)
    return files, reasons, commit.counts
