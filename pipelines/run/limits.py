"""Limits: what a finished build must not exceed to be published without a word from its owner."""

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


def exceeded(limits: Limits, new: Snapshot, last: Snapshot | None) -> list[Finding]:
    """Return the limits that a snapshot exceeds.

    last : the one published before, None when there is none; limits that compare with it are then met
    """
    found = _rejected(limits, new) + _too_small(limits, new) + _saturated(limits, new)
    if last is not None:
        found += _moved(limits, new, last) + _shrunk(limits, new, last) + _drifted(limits, new, last)
    return found


def fallen_short(config: Config, new: Snapshot) -> tuple[list[Finding], list[Finding]]:
    """Return where a snapshot falls short of the splits and classes that were asked for: what holds it back, and what is to be told.

    Where nothing is kept at all, `limits.min_clips` says it.
    """
    if not new.counts.clips_kept:
        return [], []
    found = {split: side["clips"] for split, side in new.by_split.items()}
    empty = empty_splits(config.split, found)
    splits = [
        Finding("allow_empty_splits", 0, 1, f"no clip stands in split {name!r}, which `split` asks for{_why(config.split, name in found)}")
        for name in empty
    ]  # fmt: skip
    classes = declared_classes(config)
    missing = _missing_classes(config, new, classes)
    mode = config.limits.missing_classes or ("hold" if classes else "warn")
    allowed = config.limits.allow_empty_splits
    held = (
        _with(splits, "limits: {allow_empty_splits: true} in the configuration publishes without it")
        if not allowed
        else []
    )
    held += (
        _with(missing, "limits: {missing_classes: warn} in the configuration publishes all the same")
        if mode == "hold"
        else []
    )
    told = (splits if allowed else []) + (missing if mode == "warn" else [])
    return held, told


def _with(excesses: list[Finding], hint: str) -> list[Finding]:
    return [replace(excess, message=f"{excess.message}; {hint}") for excess in excesses]


def declared_classes(config: Config) -> list[str] | None:
    """Return the classes that the configuration declares, None where it declares none."""
    classes: list[str] | None = getattr(config, "classes", None)
    return classes or None


def empty_splits(split: Split, found: Mapping[str, float]) -> list[str]:
    """Return the splits that were asked for and are not there. found : clips, or recordings, by split"""
    return [name for name in split.expected if not found.get(name)]


def foreseen(config: Config, recordings: Mapping[str, int], moves: dict[str, int]) -> list[Finding]:
    """Return what a plan tells already of limits that a build would exceed. recordings : by split; moves : as in a snapshot"""
    limits, found = config.limits, []
    empty = empty_splits(config.split, recordings) if any(recordings.values()) else []
    held = "" if limits.allow_empty_splits else "; a build of this is not published (limits.allow_empty_splits)"
    for name in empty:
        text = f"no recording stands in split {name!r}, which `split` asks for{_why(config.split, False)}{held}"
        found.append(Finding("allow_empty_splits", 0, 1, text))
    if (n := crossing(moves)) > limits.max_side_changes:
        text = (
            f"{counted(n, 'recording')} would change between training and evaluation, and limits.max_side_changes allows"
            f" {limits.max_side_changes:,}; a build of this is not published without --accept"
        )
        found.append(Finding("max_side_changes", n, limits.max_side_changes, text))
    return found


def _why(split: Split, had_recordings: bool) -> str:
    if had_recordings:
        return ": what stands there was rejected, or dropped by a rule; see `clipmill failures`"
    if split.from_ is not None:
        known = sorted(split.map or {})
        mapped = ", ".join(map(_short, known[:_SHOWN])) + (", ..." if len(known) > _SHOWN else "")
        return f": {split.field!r} has no value that leads there (`map` has {mapped})"
    if split.stratify is not None:
        groups = "recordings" if split.field is None else f"values of {split.field!r}"
        return (
            f": the {groups} of each label are divided by themselves, so each label needs as many as there are splits"
            f" ({len(split.expected)}), and labels here have fewer; name fewer splits, or write `balance: true` instead of `stratify`"
        )
    if split.needs_survey:
        return ": there are fewer groups than splits; name fewer splits, or split `by` something that has more values"
    return ": with few groups hashing leaves some sides empty; `balance: true` in `split` cuts them at the shares, so that none is"


def _short(name: str) -> str:
    """Return a label, which may be a whole sentence, in quotes."""
    return repr(name if len(name) <= _LENGTH else f"{name[:_LENGTH]}...")


def _missing_classes(config: Config, new: Snapshot, classes: list[str] | None) -> list[Finding]:
    """Return, for each split that has clips, the classes that it lacks: of those declared, else of those that others have."""
    by_split = {
        split: {label for label, sums in of.items() if label and sums["clips"]} for split, of in new.labels.items()
    }
    by_split = {split: labels for split, labels in by_split.items() if new.by_split.get(split, {}).get("clips")}
    clips = {label: n for label, n in new.seconds.clips_by_label.items() if label and n}
    if classes is None:
        if len(by_split) < 2:
            return []
        # Labels most of which one clip alone has are transcripts, or names: no split could have them all.
        single = sum(n == 1 for n in clips.values())
        if config.limits.missing_classes is None and 2 * single > len(clips):
            return []
    wanted = sorted(clips) if classes is None else classes
    found = []
    for split, labels in sorted(by_split.items()):
        lacking = [label for label in wanted if label not in labels]
        if not lacking:
            continue
        named = ", ".join(map(_short, lacking[:_SHOWN])) + (", ..." if len(lacking) > _SHOWN else "")
        source = "that `classes` declares" if classes is not None else "that the dataset has"
        of = f"the {len(wanted):,} classes" if len(wanted) > 1 else "the one class"
        text = f"split {split!r} has no clip of {len(lacking):,} of {of} {source}: {named}"
        found.append(Finding("missing_classes", len(lacking), 0, text))
    return found


def _rejected(limits: Limits, new: Snapshot) -> list[Finding]:
    c = new.counts
    shares = {
        "recording": (c.recordings_rejected, new.recordings_listed),
        "annotation": (c.annotations_rejected, new.annotations_read),
        "clip": (c.clips_rejected, c.clips_candidates),
    }
    return [
        Finding(
            "max_rejected_share", rejected / total, limits.max_rejected_share,
            f"{rejected:,} of {counted(total, what)} {'is' if total == 1 else 'are'} rejected, {rejected / total:.2%};"
            f" limits.max_rejected_share allows {limits.max_rejected_share:.2%}",
        )
        for what, (rejected, total) in shares.items()
        if rejected > limits.max_rejected_share * total
    ]  # fmt: skip


def _too_small(limits: Limits, new: Snapshot) -> list[Finding]:
    kept = new.counts.clips_kept
    if kept >= limits.min_clips:
        return []
    text = f"{counted_are(kept, 'clip')} kept, {limits.min_clips - kept:,} fewer than limits.min_clips demands ({limits.min_clips:,})"
    return [Finding("min_clips", kept, limits.min_clips, text)]


def _saturated(limits: Limits, new: Snapshot) -> list[Finding]:
    allowed = limits.max_saturated_share
    if allowed is None:
        return []
    return [
        Finding(
            "max_saturated_share", sums.share, allowed,
            f"source {source!r}: {sums.share:.3%} of the samples are at full scale, as in recordings that were clipped;"
            f" limits.max_saturated_share allows {allowed:.3%}",
        )
        for source, sums in new.saturation.items()
        if sums.share > allowed
    ]  # fmt: skip


def _moved(limits: Limits, new: Snapshot, last: Snapshot) -> list[Finding]:
    n = crossing(new.side_changes)
    if n <= limits.max_side_changes:
        return []
    between = {move: k for move, k in new.side_changes.items() if crossing({move: k})}
    text = (
        f"{describe_moves(between, 'move')} of the split, compared with snapshot {last.number}; limits.max_side_changes allows"
        f" {limits.max_side_changes:,} between training and evaluation"
    )
    return [Finding("max_side_changes", n, limits.max_side_changes, text)]


def _shrunk(limits: Limits, new: Snapshot, last: Snapshot) -> list[Finding]:
    before, now = last.counts.clips_kept, new.counts.clips_kept
    if limits.max_shrink_share is None or before - now <= limits.max_shrink_share * before:
        return []
    share = (before - now) / before
    text = (
        f"{counted_are(now, 'clip')} kept, {share:.2%} fewer than the {before:,} of snapshot {last.number};"
        f" limits.max_shrink_share allows {limits.max_shrink_share:.2%}"
    )
    return [Finding("max_shrink_share", share, limits.max_shrink_share, text)]


def _drifted(limits: Limits, new: Snapshot, last: Snapshot) -> list[Finding]:
    if limits.max_label_drift is None:
        return []
    found = []
    for label in sorted(new.seconds.clips_by_label.keys() | last.seconds.clips_by_label.keys()):
        before, now = _share(last, label), _share(new, label)
        if abs(now - before) > limits.max_label_drift:
            text = (
                f"label {label or '(none)'!r} has {now:.2%} of the clips and had {before:.2%} in snapshot {last.number}, a change of"
                f" {abs(now - before):.2%}; limits.max_label_drift allows {limits.max_label_drift:.2%}"
            )
            found.append(Finding("max_label_drift", abs(now - before), limits.max_label_drift, text))
    return found


def _share(snapshot: Snapshot, label: str) -> float:
    return snapshot.seconds.clips_by_label.get(label, 0) / max(1, snapshot.counts.clips_kept)
