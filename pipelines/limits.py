"""Limits: what a finished build must not exceed to be published without a word from its owner."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.plural import counted, counted_are
from schemas.limits_config import Limits
from schemas.records import Snapshot


@dataclass(frozen=True)
class Excess:
    """A limit that was exceeded.

    limit : its key
    found, allowed : what is there, and the bound
    message : a sentence with both
    """

    limit: str
    found: float
    allowed: float
    message: str


def exceeded(limits: Limits, new: Snapshot, last: Snapshot | None) -> list[Excess]:
    """Return the limits that a snapshot exceeds.

    last : the one published before, None when there is none; limits that compare with it are then met
    """
    found = _rejected(limits, new) + _too_small(limits, new) + _saturated(limits, new)
    if last is not None:
        found += _shrunk(limits, new, last) + _drifted(limits, new, last)
    return found


def _rejected(limits: Limits, new: Snapshot) -> list[Excess]:
    c = new.counts
    shares = {
        "recording": (c.recordings_rejected, new.recordings_listed),
        "annotation": (c.annotations_rejected, new.annotations_read),
        "clip": (c.clips_rejected, c.clips_candidates),
    }
    return [
        Excess(
            "max_rejected_share", rejected / total, limits.max_rejected_share,
            f"{rejected:,} of {counted(total, what)} {'is' if total == 1 else 'are'} rejected, {rejected / total:.2%};"
            f" limits.max_rejected_share allows {limits.max_rejected_share:.2%}",
        )
        for what, (rejected, total) in shares.items()
        if rejected > limits.max_rejected_share * total
    ]  # fmt: skip


def _too_small(limits: Limits, new: Snapshot) -> list[Excess]:
    kept = new.counts.clips_kept
    if kept >= limits.min_clips:
        return []
    text = f"{counted_are(kept, 'clip')} kept, {limits.min_clips - kept:,} fewer than limits.min_clips demands ({limits.min_clips:,})"
    return [Excess("min_clips", kept, limits.min_clips, text)]


def _saturated(limits: Limits, new: Snapshot) -> list[Excess]:
    allowed = limits.max_saturated_share
    if allowed is None:
        return []
    return [
        Excess(
            "max_saturated_share", sums.share, allowed,
            f"source {source!r}: {sums.share:.3%} of the samples are at full scale, as in recordings that were clipped;"
            f" limits.max_saturated_share allows {allowed:.3%}",
        )
        for source, sums in new.saturation.items()
        if sums.share > allowed
    ]  # fmt: skip


def _shrunk(limits: Limits, new: Snapshot, last: Snapshot) -> list[Excess]:
    before, now = last.counts.clips_kept, new.counts.clips_kept
    if limits.max_shrink_share is None or before - now <= limits.max_shrink_share * before:
        return []
    share = (before - now) / before
    text = (
        f"{counted_are(now, 'clip')} kept, {share:.2%} fewer than the {before:,} of snapshot {last.number};"
        f" limits.max_shrink_share allows {limits.max_shrink_share:.2%}"
    )
    return [Excess("max_shrink_share", share, limits.max_shrink_share, text)]


def _drifted(limits: Limits, new: Snapshot, last: Snapshot) -> list[Excess]:
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
            found.append(Excess("max_label_drift", abs(now - before), limits.max_label_drift, text))
    return found


def _share(snapshot: Snapshot, label: str) -> float:
    return snapshot.seconds.clips_by_label.get(label, 0) / max(1, snapshot.counts.clips_kept)
