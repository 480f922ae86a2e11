"""The sentences that the command line prints: sums, sizes, places."""

from __future__ import annotations

from typing import Any

from pipelines.build import Report
from pipelines.plan import Plan
from schemas.layout import Snapshot
from schemas.reasons import DROP_RULES, REASONS


def duration(seconds: float) -> str:
    """Return ``0.4 s``, ``3 min 5 s`` or ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def size(n_bytes: int) -> str:
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def accounting(s: Snapshot) -> list[str]:
    """Return the sums that were checked, one line each."""
    c = s.counts
    lines = [
        f"recordings   {s.recordings_listed:,} listed = {c.recordings_used:,} used + {c.recordings_rejected:,} rejected"
        f" + {s.recordings_without_annotations:,} without annotations"
    ]
    if s.annotations_read:
        lines.append(
            f"annotations  {s.annotations_read:,} read = {c.annotations_used:,} used + {c.annotations_rejected:,} rejected"
        )
    dropped = "".join(f" + {n:,} dropped ({rule})" for rule, n in sorted(c.dropped.items()))
    lines.append(
        f"clips        {c.clips_candidates:,} candidates = {c.clips_kept:,} kept{dropped or ' + 0 dropped'} + {c.clips_rejected:,} rejected"
    )
    return lines


def rejections(counts: dict[str, int]) -> list[str]:
    return [
        f"{n:>8,}  {code}: {REASONS[code].meaning if code in REASONS else ''}" for code, n in sorted(counts.items())
    ]


def rules(dropped: dict[str, int]) -> list[str]:
    return [f"{n:>8,}  {rule}: {DROP_RULES.get(rule, '')}" for rule, n in sorted(dropped.items())]


def splits(by_split: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{name:<12} {side['clips']:>8,} clips  {duration(side['seconds']):>12}  {side['shards']:>5,} shards"
        for name, side in sorted(by_split.items())
    ]


def outcome(report: Report) -> list[str]:
    """Return what a build did, for people."""
    lines: list[str] = []
    s = report.snapshot
    if s is not None:
        lines += accounting(s)
        if s.counts.rejected:
            lines += ["rejected by reason (see `clipmill failures`):", *rejections(s.counts.rejected)]
        lines += splits(s.by_split)
    speed = f", {report.decoded_s / report.work_s:,.0f} x realtime" if report.work_s and report.decoded_s else ""
    lines.append(
        f"shards       {report.shards_planned:,} planned: {report.shards_built:,} built, {report.shards_reused:,} reused,"
        f" {len(report.failures):,} failed"
    )
    lines.append(
        f"time         {report.wall_s:.1f} s: plan {report.plan_s:.1f} s, starting Ray {report.startup_s:.1f} s,"
        f" work {report.work_s:.1f} s ({duration(report.decoded_s)} of audio{speed})"
    )
    if report.status == "published" and s is not None:
        lines.append(
            f"published    snapshot {s.number} of {s.name}: {s.counts.clips_kept:,} clips, {size(s.bytes_stored)}, in {report.root}"
        )
    elif report.status == "unchanged" and s is not None:
        lines.append(f"unchanged    nothing to do; snapshot {s.number} in {report.root} is up to date")
    return lines


def planned(plan: Plan, missing: int) -> list[str]:
    """Return what a build would do."""
    n_used = plan.recordings_listed - plan.recordings_without_annotations - plan.recordings_rejected
    lines = [
        f"recordings   {plan.recordings_listed:,} listed: {n_used:,} to read, {plan.recordings_rejected:,} rejected,"
        f" {plan.recordings_without_annotations:,} without annotations"
    ]
    if plan.annotations_read:
        lines.append(
            f"annotations  {plan.annotations_read:,} read, {plan.annotations_rejected:,} of them rejected outside of any shard"
        )
    lines.append(
        f"shards       {len(plan.keys):,}: {missing:,} to build, {len(plan.keys) - missing:,} committed already"
    )
    lines.append(f"audio        about {duration(plan.estimated_s)} by file sizes and annotations")
    if plan.rejections:
        counts: dict[str, int] = {}
        for row in plan.rejections:
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
        lines += ["rejected by reason:", *rejections(counts)]
    return lines
