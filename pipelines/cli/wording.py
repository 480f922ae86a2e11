"""The lines that the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipmill.pipelines.dataset.diff import Diff
from clipmill.pipelines.dataset.sides import SideChanges, describe_moves
from clipmill.pipelines.plan.estimates import Estimate, annotations_rejected, rejected_by_reason, rejected_examples
from clipmill.pipelines.plan.inventory import passed_over_text
from clipmill.pipelines.plan.planning import Plan
from clipmill.pipelines.run.foresight import SplitForecast
from clipmill.schemas.annotation_notes import annotation_note
from clipmill.schemas.legible_amounts import format_duration, format_size
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Snapshot

_SATURATED = 1e-3
"""Shares from this one on are printed: 16 samples per second at 16 kHz. Music that is normalised to its peak stays far below, clipped
recordings are far above."""
_ADVICE = "; limits.max_saturated_share does not apply to them; to have them counted, build into a new output.root"


def describe_passed_over(files: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a line for each source that has files which are not recordings by name. files : numbers by source and kind"""
    return [f"passed over  {source}: {passed_over_text(counts)}" for source, counts in files.items()]


def describe_notes(notes: Mapping[str, int]) -> list[str]:
    """Return a line for each note on how annotations were interpreted. notes : counts by code"""
    return [f"noted        {annotation_note(code, n)}" for code, n in sorted(notes.items()) if n]


def describe_accounting(snapshot: Snapshot) -> list[str]:
    """Return the accounting of a snapshot, one line per sum."""
    c = snapshot.counts
    lines = [f"recordings   {snapshot.recordings_listed:,} listed = {_sum_text(snapshot.recording_outcomes)}"]
    if snapshot.annotations_read:
        lines.append(f"annotations  {snapshot.annotations_read:,} read = {_sum_text(snapshot.annotation_outcomes)}")
    dropped = "".join(f" + {n:,} dropped ({rule})" for rule, n in sorted(c.dropped.items()))
    lines.append(
        f"clips        {counted(c.clips_candidates, 'candidate')} = {c.clips_kept:,} kept{dropped or ' + 0 dropped'} + {c.clips_rejected:,} rejected"
    )
    if c.clips_augmented:
        lines.append(
            f"augmented    {c.clips_augmented:,} {'copy' if c.clips_augmented == 1 else 'copies'} of kept clips"
        )
    return lines


def _sum_text(outcomes: Mapping[str, int]) -> str:
    return " + ".join(f"{n:,} {outcome}" for outcome, n in outcomes.items())


def describe_remark_counts(counts: Mapping[str, int]) -> list[str]:
    """Return a line with the counts of remarks on recordings that were used; no line if there are none."""
    parts = [f"{code} {n:,}" for code, n in most_first(counts)]
    return [f"remarks on recordings that were used (see `clipmill failures`): {', '.join(parts)}"] if parts else []


def describe_rejections(counts: dict[str, int], words: Mapping[str, list[str]] | None = None) -> list[str]:
    """Return a line per reason. words : texts in a snapshot, for reasons of stages of other packages"""
    from clipmill.pipelines.chain import known_reasons

    meanings = {code: texts[0] for code, texts in (words or {}).items()}
    meanings |= {code: reason.meaning for code, reason in known_reasons().items()}
    return [f"{n:>8,}  {code}: {meanings.get(code, '')}" for code, n in most_first(counts)]


def describe_rules(dropped: dict[str, int], words: Mapping[str, list[str]] | None = None) -> list[str]:
    """Return a line per rule. words : texts in a snapshot, for rules of stages of other packages"""
    from clipmill.pipelines.chain import known_rules

    meanings = {rule: texts[0] for rule, texts in (words or {}).items()} | known_rules()
    return [f"{n:>8,}  {rule}: {meanings.get(rule, '')}" for rule, n in most_first(dropped)]


def most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return names and counts, the greatest first, and equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def align_count(n: float, noun: str, width: int) -> str:
    """Return a number with its noun, as ``       1 clip `` or ``      12 clips``, for lines in columns."""
    return f"{int(n):>{width},} {noun if n == 1 else noun + 's'}{' ' if n == 1 else ''}"


def describe_splits(by_split: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line per split: clips, duration, shards."""
    return [
        f"{name:<12} {align_count(side['clips'], 'clip', 8)}  {format_duration(side['seconds']):>12}"
        f"  {align_count(side['shards'], 'shard', 5).rstrip()}"
        for name, side in sorted(by_split.items())
    ]


def describe_labels(
    totals: Mapping[str, Mapping[str, float]],
    by_split: Mapping[str, Mapping[str, Mapping[str, float]]],
    n_labels: int | None = None,
) -> list[str]:
    """Return a line per label: its clips and duration, also by split if there are several.

    n_labels : at most so many, then those with the most clips; None: all
    """
    lines = []
    most = sorted(totals, key=lambda label: -totals[label]["clips"]) if n_labels is not None else []
    for label in most[:n_labels] if n_labels is not None and len(totals) > n_labels else totals:
        sums = totals[label]
        line = f"  {' '.join(label.split()) or '(none)':<24} {align_count(sums['clips'], 'clip', 8)}  {format_duration(sums['seconds']):>12}"
        if len(by_split) > 1:
            parts = ((split, sums_by_label.get(label)) for split, sums_by_label in by_split.items())
            line += "  " + ", ".join(
                f"{s} {int(p['clips']):,} ({format_duration(p['seconds'])})" for s, p in parts if p
            )
        lines.append(line.rstrip())
    if n_labels is not None and len(totals) > n_labels:
        lines.append(f"  ... and {len(totals) - n_labels:,} more: --labels {len(totals)}, or --json")
    return lines


def describe_columns(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line per column: name, type, shape of a value, meaning and unit. Columns that store shapes are left out."""
    lines = []
    for column in columns:
        if column.get("kind") == "shape":
            continue
        shape = f" [{', '.join(map(str, column['shape']))}]" if column.get("shape") else ""
        description = ", in ".join(column[key] for key in ("meaning", "unit") if column.get(key))
        lines.append(f"  {column['name']}: {column['type']}{shape}{f'  {description}' if description else ''}")
    return lines


def describe_statistics(statistics: dict[str, dict[str, Any]], by_split: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lengths of clips, and mean and standard deviation of features, by split."""
    lines = []
    for split, sums_of_split in statistics.items():
        if not sums_of_split["clips"]:
            continue
        lengths = sums_of_split["lengths"]
        lines.append(
            f"statistics of {split}: {lengths['min_s']:.3f} to {lengths['max_s']:.3f} s per clip, {lengths['mean_s']:.3f} s on average"
        )
        if missing := by_split[split]["clips"] - sums_of_split["clips"]:
            lines.append(
                f"  without {counted(int(missing), 'clip')}, whose shards were built before clipmill kept statistics"
            )
        for name, sums in sums_of_split["features"].items():
            if sums["mean"] is None or sums["std"] is None:
                lines.append(f"  {name:<24} contains infinite values; build again to reject such clips")
            else:
                lines.append(f"  {name:<24} mean {sums['mean']:>12.5g}   standard deviation {sums['std']:>12.5g}")
    return lines


def describe_saturated_sources(saturation: dict[str, Any], is_limited: bool = False) -> list[str]:
    """Return a line for each source with a share of samples at full scale that suggests clipped recordings.

    is_limited : whether limits.max_saturated_share is set, which cannot apply to clips whose share is unknown
    """
    lines = [
        f"saturated    {source}: {sums['share']:.2%} of the samples are at full scale, as in recordings that were clipped"
        for source, sums in saturation["sources"].items()
        if sums["share"] >= _SATURATED
    ]
    if saturation["clips_unknown"] > 0:
        lines.append(
            f"saturated    unknown for {counted(saturation['clips_unknown'], 'clip')}, whose shards were built before it was counted"
            + _ADVICE * is_limited
        )
    return lines


def describe_side_changes(changes: SideChanges, verb: str) -> list[str]:
    """Return the lines about recordings that changed to another split. verb : "move" or "moved" """
    lines = []
    if changes.moves:
        examples = changes.examples
        crossing = (
            f"; {changes.crossing:,} between training and evaluation, such as {', '.join(examples)}" if examples else ""
        )
        lines.append(
            f"sides        {describe_moves(changes.moves, verb)}{crossing}{', ...' if changes.crossing > len(examples) else ''}"
        )
    if changes.shards_unknown:
        lines.append(
            f"sides        unknown for {counted(changes.shards_unknown, 'shard')}, whose records do not name the recordings or cannot be"
            " read; limits.max_side_changes does not apply to them"
        )
    return lines


def describe_forecast(forecast: SplitForecast) -> list[str]:
    """Return the lines about what the split would look like."""
    lines = [f"split        {name}: {counted(n, 'recording')}" for name, n in forecast.splits.items()]
    lines += describe_side_changes(forecast.side_changes, "move")
    return lines + [f"warning      {finding.message}" for finding in forecast.warnings]


def describe_plan(plan: Plan, missing: int, estimate: Estimate) -> list[str]:
    """Return the lines about what a build would do. missing : number of shards to build; estimate : of the whole dataset"""
    n_used = (
        plan.recordings_listed
        - plan.recordings_without_annotations
        - plan.recordings_rejected
        - plan.recordings_forgotten
        - sum(plan.recordings_dropped.values())
        - plan.limited.get("recordings_left_out", 0)
    )
    rare = {
        "dropped by label": sum(plan.recordings_dropped.values()),
        "forgotten": plan.recordings_forgotten,
        "left out by the limit": plan.limited.get("recordings_left_out", 0),
    }
    rest = "".join(f", {n:,} {outcome}" for outcome, n in rare.items() if n)
    lines = [
        f"recordings   {plan.recordings_listed:,} listed: {n_used:,} to read, {plan.recordings_rejected:,} rejected,"
        f" {plan.recordings_without_annotations:,} without annotations{rest}",
        *describe_passed_over(plan.passed_over),
    ]
    if plan.annotations_read:
        lines.append(
            f"annotations  {plan.annotations_read:,} read, {annotations_rejected(plan):,} rejected{_left_out(plan)}"
        )
    lines += describe_notes(plan.noted)
    lines.append(
        f"shards       {len(plan.keys):,}: {missing:,} to build, {len(plan.keys) - missing:,} already committed"
    )
    lines += _describe_estimate(estimate)
    if counts := rejected_by_reason(plan):
        examples = rejected_examples(plan)
        lines.append("rejected by reason, with the first example of each:")
        for code in sorted(counts):
            lines += [*describe_rejections({code: counts[code]}), *_example(examples[code])]
    return lines


def _describe_estimate(estimate: Estimate) -> list[str]:
    by = f"{counted(estimate.headers_read, 'header')}" if estimate.headers_read else "file sizes"
    lines = [
        f"estimate     {counted(estimate.clips, 'clip')}, {format_duration(estimate.clip_s)}, {format_size(estimate.stored_bytes)},"
        f" from {by} and annotations"
    ]
    if estimate.most_work_s > 0:
        how = "at the speed of the last build" if estimate.of_last_build else f"on {counted(estimate.cores, 'core')}"
        least, most = format_duration(estimate.least_work_s), format_duration(estimate.most_work_s)
        lines.append(f"time         {f'{least} to {most}' if least != most else most} of work, {how}")
    if estimate.rough:
        lines.append(f"             rough, because nothing is heard yet: {'; '.join(estimate.rough)}")
    return lines


def _example(row: Mapping[str, Any]) -> list[str]:
    """Return a line with the place of a rejection and its detail."""
    in_file = f"{row['file']}:{row['line']}" if row.get("line") else row["file"]  # a record in a tree has no line
    place = in_file or row["source_uri"]
    text = ": ".join(part for part in (place, row["detail"]) if part)
    return [f"          {text}"] if text else []


def _left_out(plan: Plan) -> str:
    dropped = sum(plan.annotations_dropped.values())
    parts = {"merged": plan.annotations_merged, "dropped by label": dropped, "ignored": plan.annotations_ignored}
    parts["left out by the limit"] = plan.limited.get("annotations_left_out", 0)
    return "".join(f", {n:,} {outcome}" for outcome, n in parts.items() if n)


def describe_status(status: dict[str, Any]) -> list[str]:
    """Return the lines about what is published and the progress of builds, for `clipmill status`."""
    published = status["published"]
    lines = ["published    nothing yet"]
    if published:
        lines = [
            f"published    snapshot {published['snapshot']} of {published['created']}: {counted(published['clips'], 'clip')}"
            f" in {counted(published['shards'], 'shard')}",
            *(f"accepted     {message}" for message in published["accepted"]),
        ]
    if status["forget"]:
        since = f"started {status['forget']['started']}"
        lines.append(
            f"forget       {since}, still running"
            if status["forget"]["running"]
            else f"forget       {since}, was interrupted: what it was to remove may still be here; run it again, or"
            f" `clipmill forget {status['root']}` without ids"
        )
    for build in status["builds"]:
        done = f"{build['shards_committed']:,} of {counted(build['shards_planned'], 'shard')} committed"
        where = f"started {build['started']} on {build['host'].partition(' (')[0]}, process {build['pid']}"
        progress = f"; {build['progress']}" if build["progress"] else ""
        by_state = {
            "running": f"running      {where}: {done}{progress}",
            "interrupted": f"interrupted  {where}: {done}; `clipmill build` with the same configuration continues from there",
            "failed": f"failed       {where}: {done}: {build['message']}",
            "unreadable": f"unreadable   {build['message']}",
            "not_published": f"not published  {where}: {done}: {build['message']}",
        }
        lines.append(by_state.get(build["state"], f"finished     {where}: {build['state']}"))
    if not status["builds"]:
        lines.append("builds       none so far")
    return lines


def describe_failures(failures: dict[str, Any]) -> list[str]:
    """Return the lines about what was rejected, by reason, for `clipmill failures`."""
    for_this = " for this reason" if failures["reason"] else ""
    lines = [f"{failures['of']}: {failures['rejected']:,} rejected{for_this}"]
    for group in failures["reasons"]:
        lines += [
            "",
            f"{group['count']:,} x {group['reason']} ({group['kind']}): {group['meaning']}",
            f"  what to do: {group['remedy']}",
        ]
        for row in group["examples"]:
            place = f"{row['file']}:{row['line']}" if row["file"] else ""
            lines.append("  " + "  ".join(p for p in (row["source_uri"], place, row["detail"]) if p))
        if group["count"] > len(group["examples"]):
            lines.append(f"  ... and {group['count'] - len(group['examples']):,} more")
    if failures["remarks"]:
        lines += ["", "remarks on recordings that were used:"]
    for group in failures["remarks"]:
        lines += [f"{group['count']:,} x {group['code']}: {group['meaning']}", f"  what to do: {group['remedy']}"]
        lines += [f"  {row['source_uri']}  {row['detail']}" for row in group["examples"]]
        if group["count"] > len(group["examples"]):
            lines.append(f"  ... and {group['count'] - len(group['examples']):,} more")
    if failures["dropped"]:
        lines += ["", "dropped by rule, as configured:", *describe_rules(failures["dropped"], failures["words"])]
    return lines


def describe_diff(diff: Diff, n_names: int) -> list[str]:
    """Return the lines about what changed between two snapshots, for `clipmill diff`. n_names : to print in each list"""
    shards = diff.shards
    lines = [
        f"snapshot {diff.a} to {diff.b}: {counted(shards['kept'], 'shard')} kept, {shards['added']:,} added, {shards['removed']:,} removed"
    ]
    if diff.is_empty:
        return [*lines, "the same content"]
    for what, change in (("recordings", diff.recordings), ("clips", diff.clips)):
        lines.append(
            f"{what:<12} {len(change.added):,} added, {len(change.removed):,} removed, {len(change.changed):,} changed"
        )
        for sign, names in (("+", change.added), ("-", change.removed), ("~", change.changed)):
            lines += [f"  {sign} {name}" for name in names[:n_names]]
            if len(names) > n_names > 0:
                lines.append(f"  {sign} ... and {len(names) - n_names:,} more")
    for name, (before, after) in diff.totals.items():
        if before != after:
            lines.append(f"{name:<20} {before:>14,.0f} -> {after:>14,.0f}  {_signed(after - before)}")
    for what, sides in (("split", diff.splits), ("label", diff.labels)):
        for name, side in sides.items():
            if len(set(side["clips"])) > 1 or len(set(side["seconds"])) > 1:
                (c0, c1), (s0, s1) = side["clips"], side["seconds"]
                lines.append(
                    f"{what} {name or '(none)':<14} {c0:>10,.0f} -> {c1:>10,.0f} clips ({_signed(c1 - c0)}), {s0:,.1f} -> {s1:,.1f} s"
                    f" ({_signed(s1 - s0)})"
                )
    lines += describe_side_changes(diff.side_changes, "moved")
    for entry in diff.config:
        lines.append(f"config {entry['key']}: {_value(entry['before'])} -> {_value(entry['after'])}")
    return lines


def _signed(value: float) -> str:
    return f"{value:+,.1f}".removesuffix(".0")


def _value(value: Any) -> str:
    return "(not set)" if value is None else str(value)
