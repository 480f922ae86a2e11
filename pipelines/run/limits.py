"""Limits that a finished build must not exceed to be published without `--accept`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clipmill.pipelines.dataset.sides import crossing, describe_moves
from clipmill.schemas.config import Config
from clipmill.schemas.config.limits_config import Limits
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.findings import Finding
from clipmill.schemas.plural import counted, counted_are
from clipmill.schemas.records import Snapshot

_SHOWN, _LENGTH = 3, 40


def find_exceeded_limits(limits: Limits, new: Snapshot, last: Snapshot | None) -> list[Finding]:
    """Return the limits that a snapshot exceeds.

    last : the last published snapshot; None: there is none, and limits on changes are not checked
    """
    findings = _check_rejected(limits, new) + _check_size(limits, new) + _check_saturation(limits, new)
    findings += _check_duplicates(limits, new)
    if last is not None:
        findings += _check_moves(limits, new, last) + _check_shrink(limits, new, last) + _check_drift(limits, new, last)
    return findings


NOT_JUDGED = "min_clips allow_empty_splits missing_classes max_side_changes max_shrink_share max_label_drift".split()
"""Limits that say nothing of a build of a few recordings. Those on shares are told, but hold nothing back."""


def find_limits_of_few(limits: Limits, new: Snapshot) -> tuple[list[Finding], list[Finding]]:
    """Return what keeps a build of a few recordings from being published, which is that no clip was kept, and warnings."""
    warnings = _check_rejected(limits, new) + _check_saturation(limits, new) + _check_duplicates(limits, new)
    if new.counts.clips_kept or not limits.min_clips:
        return [], warnings
    return [Finding("min_clips", 0, 1, "no clip was kept of the recordings that were read")], warnings


def find_shortfalls(config: Config, new: Snapshot) -> tuple[list[Finding], list[Finding]]:
    """Return which splits and classes of the configuration a snapshot lacks: errors that keep it from being published, and warnings.

    Both are empty if no clip was kept: `limits.min_clips` reports that.
    """
    if not new.counts.clips_kept:
        return [], []
    clips = {split: side["clips"] for split, side in new.by_split.items()}
    empty = empty_splits(config.split, clips)
    splits = [
        Finding("allow_empty_splits", 0, 1, f"split {name!r}, which `split` asks for, has no clips{_why(config.split, name, name in clips)}")
        for name in empty
    ]  # fmt: skip
    classes = declared_classes(config)
    missing = _missing_classes(config, new, classes)
    mode = config.limits.missing_classes or ("hold" if classes else "warn")
    allowed = config.limits.allow_empty_splits
    errors = (
        _add_hint(splits, "with limits: {allow_empty_splits: true} in the configuration it is published anyway")
        if not allowed
        else []
    )
    errors += (
        _add_hint(missing, "with limits: {missing_classes: warn} in the configuration it is published anyway")
        if mode == "hold"
        else []
    )
    warnings = (splits if allowed else []) + (missing if mode == "warn" else [])
    return errors, warnings


def _add_hint(findings: list[Finding], hint: str) -> list[Finding]:
    return [replace(finding, message=f"{finding.message}; {hint}") for finding in findings]


def declared_classes(config: Config) -> list[str] | None:
    """Return the classes that the configuration declares, None if it declares none."""
    classes: list[str] | None = getattr(config, "classes", None)
    return classes or None


def empty_splits(split: Split, sizes: Mapping[str, float]) -> list[str]:
    """Return the splits of the configuration that are empty. sizes : numbers of clips, or of recordings, by split"""
    return [name for name in split.expected if not sizes.get(name)]


def predict_exceeded_limits(config: Config, recordings: Mapping[str, int], moves: dict[str, int]) -> list[Finding]:
    """Return the limits that a build of a plan would exceed. recordings : numbers by split; moves : as in `SideChanges`"""
    limits, findings = config.limits, []
    empty = empty_splits(config.split, recordings) if any(recordings.values()) else []
    result = "" if limits.allow_empty_splits else "; a build would not be published (limits.allow_empty_splits)"
    for name in empty:
        text = f"split {name!r}, which `split` asks for, has no recordings{_why(config.split, name, False)}{result}"
        findings.append(Finding("allow_empty_splits", 0, 1, text))
    if (n := crossing(moves)) > limits.max_side_changes:
        text = (
            f"{counted(n, 'recording')} would move between training and evaluation, but limits.max_side_changes allows"
            f" {limits.max_side_changes:,}; a build would not be published without --accept"
        )
        findings.append(Finding("max_side_changes", n, limits.max_side_changes, text))
    return findings


def _why(split: Split, name: str, had_recordings: bool) -> str:
    if had_recordings:
        return ": its recordings were rejected, or its clips dropped by a rule; see `clipmill failures`"
    if split.from_ is not None:
        own = sorted(value for value, side in (split.map or {}).items() if side == name)
        values = ", ".join(map(_short, own[:_SHOWN])) + (", ..." if len(own) > _SHOWN else "")
        which = f"which {'is' if len(own) == 1 else 'are'} {values}" if own else "by `default`"
        return f": no recording is used whose value of {split.field!r} is mapped to it, {which}"
    if split.from_files is not None:
        return ": no list names a recording of it" if name in split.lists else ": every recording is in a list"
    if split.stratify is not None:
        groups = "recordings" if split.field is None else f"values of {split.field!r}"
        return (
            f": the {groups} of each label are divided separately, so each label needs at least as many as there are splits"
            f" ({len(split.expected)}), but some have fewer; use fewer splits, or `balance: true` instead of `stratify`"
        )
    if split.needs_survey:
        return ": there are fewer groups than splits; use fewer splits, or split `by` something with more values"
    return ": with few groups, hashing can leave a split empty; `balance: true` in `split` divides them by the shares, so that none is empty"


def _short(name: str) -> str:
    """Return a label in quotes, shortened, since it may be a whole sentence."""
    return repr(name if len(name) <= _LENGTH else f"{name[:_LENGTH]}...")


def _missing_classes(config: Config, new: Snapshot, classes: list[str] | None) -> list[Finding]:
    """Return, for each split with clips, the classes that it lacks, of the declared ones, else of all in the dataset."""
    by_split = {
        split: {label for label, sums in labels.items() if label and sums["clips"]}
        for split, labels in new.labels.items()
    }
    by_split = {split: labels for split, labels in by_split.items() if new.by_split.get(split, {}).get("clips")}
    clips = {label: n for label, n in new.seconds.clips_by_label.items() if label and n}
    if classes is None:
        if len(by_split) < 2:
            return []
        # If most labels have a single clip they are transcripts, or names: no split could have them all.
        single = sum(n == 1 for n in clips.values())
        if config.limits.missing_classes is None and 2 * single > len(clips):
            return []
    expected = sorted(clips) if classes is None else classes
    findings = []
    for split, labels in sorted(by_split.items()):
        missing = [label for label in expected if label not in labels]
        if not missing:
            continue
        names = ", ".join(map(_short, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        source = "in `classes`" if classes is not None else "in the dataset"
        which = f"{len(missing):,} of the {len(expected):,} classes" if len(expected) > 1 else "the only class"
        text = f"split {split!r} has no clips of {which} {source}: {names}"
        findings.append(Finding("missing_classes", len(missing), 0, text))
    return findings


def _check_rejected(limits: Limits, new: Snapshot) -> list[Finding]:
    c = new.counts
    shares = {
        "recording": (c.recordings_rejected, new.recordings_listed),
        "annotation": (c.annotations_rejected, new.annotations_read),
        "clip": (c.clips_rejected, c.clips_candidates),
    }
    return [
        Finding(
            "max_rejected_share", rejected / total, limits.max_rejected_share,
            f"{rejected:,} of {counted(total, what)} {'is' if rejected == 1 else 'are'} rejected ({rejected / total:.2%});"
            f" limits.max_rejected_share allows {limits.max_rejected_share:.2%}",
        )
        for what, (rejected, total) in shares.items()
        if rejected > limits.max_rejected_share * total
    ]  # fmt: skip


def _check_size(limits: Limits, new: Snapshot) -> list[Finding]:
    kept = new.counts.clips_kept
    if kept >= limits.min_clips:
        return []
    text = f"{counted_are(kept, 'clip')} kept, {limits.min_clips - kept:,} fewer than limits.min_clips requires ({limits.min_clips:,})"
    return [Finding("min_clips", kept, limits.min_clips, text)]


def _check_saturation(limits: Limits, new: Snapshot) -> list[Finding]:
    allowed = limits.max_saturated_share
    if allowed is None:
        return []
    return [
        Finding(
            "max_saturated_share", sums.share, allowed,
            f"source {source!r}: {sums.share:.3%} of the samples are at full scale, as in clipped recordings;"
            f" limits.max_saturated_share allows {allowed:.3%}",
        )
        for source, sums in new.saturation.items()
        if sums.share > allowed
    ]  # fmt: skip


def _check_duplicates(limits: Limits, new: Snapshot) -> list[Finding]:
    allowed, n, known = limits.max_duplicate_share, new.duplicates.get("clips", 0), new.counts.clips_kept
    known -= new.duplicates.get("unknown", 0)
    if allowed is None or n <= allowed * known:
        return []
    text = (
        f"{n:,} of {counted(known, 'clip')} are exact copies of others ({n / known:.2%}); limits.max_duplicate_share allows {allowed:.2%}."
        " duplicates.parquet of the snapshot, or `clipmill show --duplicates` after publishing, lists them"
    )
    return [Finding("max_duplicate_share", n / known, allowed, text)]


def find_shared_clips(new: Snapshot) -> list[Finding]:
    """Return a warning if splits have clips in common."""
    n = new.duplicates.get("across_splits", 0)
    if not n:
        return []
    what = f"{counted(n, 'clip')} {'is' if n == 1 else 'are'} in more than one split, sample by sample"
    text = (
        f"{what}: what is measured on one split is known from another; see `clipmill show --duplicates`, and split `by` what the copies"
        ' share, or load with ClipDataset(duplicates="first")'
    )
    return [Finding("shared_clips", n, 0, text)]


def _check_moves(limits: Limits, new: Snapshot, last: Snapshot) -> list[Finding]:
    n = crossing(new.side_changes)
    if n <= limits.max_side_changes:
        return []
    between = {move: k for move, k in new.side_changes.items() if crossing({move: k})}
    text = (
        f"{describe_moves(between, 'move')}, compared with snapshot {last.number}; limits.max_side_changes allows"
        f" {limits.max_side_changes:,} between training and evaluation"
    )
    return [Finding("max_side_changes", n, limits.max_side_changes, text)]


def _check_shrink(limits: Limits, new: Snapshot, last: Snapshot) -> list[Finding]:
    before, now = last.counts.clips_kept, new.counts.clips_kept
    if limits.max_shrink_share is None or before - now <= limits.max_shrink_share * before:
        return []
    share = (before - now) / before
    text = (
        f"{counted_are(now, 'clip')} kept, {share:.2%} fewer than the {before:,} of snapshot {last.number};"
        f" limits.max_shrink_share allows {limits.max_shrink_share:.2%}"
    )
    return [Finding("max_shrink_share", share, limits.max_shrink_share, text)]


def _check_drift(limits: Limits, new: Snapshot, last: Snapshot) -> list[Finding]:
    if limits.max_label_drift is None:
        return []
    findings = []
    for label in sorted(new.seconds.clips_by_label.keys() | last.seconds.clips_by_label.keys()):
        before, now = _share(last, label), _share(new, label)
        if abs(now - before) > limits.max_label_drift:
            text = (
                f"label {label or '(none)'!r} has {now:.2%} of the clips, compared with {before:.2%} in snapshot {last.number}, a change of"
                f" {abs(now - before):.2%}; limits.max_label_drift allows {limits.max_label_drift:.2%}"
            )
            findings.append(Finding("max_label_drift", abs(now - before), limits.max_label_drift, text))
    return findings


def _share(snapshot: Snapshot, label: str) -> float:
    return snapshot.seconds.clips_by_label.get(label, 0) / max(1, snapshot.counts.clips_kept)
