"""The summary of a build: what was asked, what came of it, what fell short, where it is, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from clipmill.pipelines.cli.damage_wording import describe_mending
from clipmill.pipelines.cli.limit_wording import describe_limited
from clipmill.pipelines.cli.measured_wording import describe_duplicates, describe_measured, describe_notes_on_clips
from clipmill.pipelines.cli.screen_layout import Section
from clipmill.pipelines.cli.wording import (
    describe_accounting,
    describe_notes,
    describe_passed_over,
    describe_rejections,
    describe_saturated_sources,
    describe_side_changes,
    describe_splits,
)
from clipmill.pipelines.dataset.inspection import describe_saturation
from clipmill.pipelines.run.report import Report
from clipmill.schemas.legible_amounts import format_duration, format_size
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Snapshot

_BUSY = 0.9  # from this share on, the GPUs are the bottleneck, not the CPUs that decode


def describe_build(report: Report) -> list[str]:
    """Return the lines about what a build did, without errors and hints."""
    return [line for section in summary(report) for line in section.lines if not section.err]


def summary(report: Report) -> list[Section]:
    """Return what `clipmill build` prints at its end."""
    s = report.snapshot
    show, failures = f"`clipmill show {report.root}`", f"`clipmill failures {report.root}`"
    sections = [
        Section("limit", describe_limited(report.limited, report.root.rstrip("/")), keep=2),
        Section("passed over", describe_passed_over(report.passed_over), what="source"),
    ]
    if s is not None:
        sections += [
            Section("asked", _asked(s.config)),
            Section("accounting", describe_accounting(s), keep=4),
            Section("notes", describe_notes(s.noted), what="note"),
            Section("rejected", _rejected(s), keep=2, what="reason", where=failures),
            Section("remarks", _remarks(report), where=failures),
            Section("splits", describe_splits(s.by_split), keep=2, what="split", where=show),
            Section("classes", report.classes),
            Section("saturated", _saturated(report, s), what="source"),
            Section("sides", describe_side_changes(report.side_changes, "moved")),
        ]
    warnings = [f"warning      {finding.message}" for finding in report.warnings]
    duplicates = s.duplicates if s is not None and report.status != "unchanged" else {}
    return [
        *sections,
        Section("warnings", warnings, keep=1, what="warning"),
        Section("work", [_shards(report), _time(report)], keep=2),
        Section("features", _features(report)),
        Section("storage", [f"storage      {weakness}" for weakness in report.storage_weaknesses]),
        Section("duplicates", describe_duplicates(duplicates)),
        Section("measured", describe_measured(report.measured), what="column", where=show),
        Section("notes on clips", describe_notes_on_clips(report.clip_notes), what="column", where=show),
        Section("repaired", describe_mending(vars(report))),
        Section("outcome", _outcome(report), keep=1, whole=True),
        Section("next", _next(report), keep=1, whole=True),
        *errors(report),
    ]


def errors(report: Report) -> list[Section]:
    """Return what made a build fail or kept it from being published, and the hint what to do about that."""
    failed = [f"error: {counted(n, 'shard')}: {message}" for message, n in Counter(report.failures).most_common()]
    verdict = "accepted" if report.accepted else "not published"
    return [
        Section("errors", failed, keep=1, what="message", err=True),
        Section("unrepaired", _unrepaired(report), keep=1, what="problem", err=True),
        Section("limits", [f"{verdict}: {finding.message}" for finding in report.limits], 1, "limit", err=True),
        Section("hint", _hint(report), keep=1, err=True, whole=True),
    ]


def _is_made(name: str, settings: Any) -> bool:
    """Return whether a key under `features` has something computed. Only stages may be named with nothing behind the name."""
    if name in ("device", "dtype") or settings is False:
        return False
    return settings is not None or name not in ("spectrogram", "log_mel", "mfcc")


def _asked(config: Mapping[str, Any]) -> list[str]:
    """Return a line with what the configuration asks for."""
    sources = config.get("sources") or []
    audio, features, output = (config.get(key) or {} for key in ("audio", "features", "output"))
    rate_hz, channels = audio.get("sample_rate_hz"), audio.get("channels")
    form = " ".join([f"{rate_hz:,} Hz" if rate_hz else "the recordings' own rates", str(channels or "")]).rstrip()
    made = [name for name, settings in features.items() if _is_made(name, settings)]
    parts = [
        counted(len(sources), "source"),
        form,
        ", ".join(made) or "no features",
        " and ".join(output.get("formats") or ["parquet"]),
    ]
    return [f"asked        {'; '.join(part for part in parts if part)}"]


def _rejected(s: Snapshot) -> list[str]:
    if not s.counts.rejected:
        return []
    lines = describe_rejections(s.counts.rejected, s.words)
    return ["rejected by reason (see `clipmill failures`):", *lines]


def _remarks(report: Report) -> list[str]:
    lines = ["remarks on recordings that were used (see `clipmill failures`):"] if report.remarks else []
    for group in report.remarks:
        lines.append(f"{group['count']:>8,}  {group['code']}: {group['meaning']}")
        lines += [f"          {row['source_uri']}: {row['detail']}" for row in group["examples"]]
    return lines


def _saturated(report: Report, s: Snapshot) -> list[str]:
    """Return the lines about saturation. Clips whose share is unknown are mentioned only if the build changed something."""
    saturation = describe_saturation(s)
    if report.status == "unchanged":
        saturation["clips_unknown"] = 0
    return describe_saturated_sources(saturation, s.config.get("limits", {}).get("max_saturated_share") is not None)


def _shards(report: Report) -> str:
    from_clips = f" ({report.shards_from_clips:,} of them from committed clips)" if report.shards_from_clips else ""
    untried = f", {report.shards_untried:,} not tried because too many failed"
    return (
        f"shards       {report.shards_planned:,} planned: {report.shards_built:,} built{from_clips}, {report.shards_reused:,} reused,"
        f" {len(report.failures):,} failed" + untried * bool(report.failures and report.shards_untried)
    )


def _time(report: Report) -> str:
    parts = [f"plan {format_duration(report.plan_s)}"]
    if report.startup_s:
        parts.append(f"starting and stopping Ray {format_duration(report.startup_s)}")
    if report.work_s:
        speed = f", {report.decoded_s / report.work_s:,.0f} x realtime" if report.decoded_s else ""
        parts.append(f"work {format_duration(report.work_s)} ({format_duration(report.decoded_s)} of audio{speed})")
    return f"time         {format_duration(report.wall_s)}: {', '.join(parts)}"


def _features(report: Report) -> list[str]:
    if report.features_busy is None:
        return []
    busy = f"features     the GPUs were busy for {report.features_busy:.0%} of the working time: "
    slow = f"decoding is {1 / max(report.features_busy, 1e-3):.1f} x too slow for them; more CPUs would help"
    return [busy + ("decoding keeps up with them" if report.features_busy >= _BUSY else slow)]


def _outcome(report: Report) -> list[str]:
    s = report.snapshot
    if report.status == "published" and s is not None:
        clips, size = counted(s.counts.clips_kept, "clip"), format_size(s.bytes_stored)
        return [f"published    snapshot {s.number} of {s.name}: {clips}, {size}, in {report.root}"]
    if report.status == "unchanged" and s is not None:
        return [f"unchanged    nothing to do; snapshot {s.number} in {report.root} is up to date"]
    return []


def _next(report: Report) -> list[str]:
    if report.status == "published":
        return [
            f"next         `clipmill show {report.root}` for splits and labels, `clipmill report {report.root}` to look and listen"
        ]
    if report.status == "failed":
        return ["next         remove the cause; the same command then continues from what is committed"]
    return []


def _unrepaired(report: Report) -> list[str]:
    return [f"error: {problem}" for problem in (report.verified or {}).get("unrepaired", ())]


def _hint(report: Report) -> list[str]:
    """Return what to do about limits that were exceeded, and that no clip was kept."""
    s = report.snapshot
    nothing_kept = s is not None and s.counts.clips_kept == 0
    lines = ["warning: no clip was kept; see above what was dropped and rejected"] if nothing_kept else []
    if report.limits and not report.accepted and nothing_kept:
        lines.append(
            f"there is nothing to train on: `clipmill failures {report.root}` shows why, with examples and remedies"
        )
    elif report.limits and not report.accepted:
        lines.append("everything is built; the same command with --accept publishes it anyway")
    return lines
