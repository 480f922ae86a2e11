"""Say what in a snapshot deserves a look before somebody trains on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clipmill.pipelines.reports.amounts import share_text, value_text
from clipmill.pipelines.reports.report_facts import Facts
from clipmill.schemas.plural import counted, counted_are

_UNEVEN = 10
_MOVED = 0.1
_REJECTED = 0.05
_DROPPED = 0.5
_SATURATED = 0.001
_SHIFTED = 0.2
_FEW_CLIPS = 100
_SHOWN = 5
_PEOPLE = ("speaker", "speaker_id", "spk", "singer", "actor", "subject", "patient")
"""Fields that say who is heard. Somebody in two splits makes a test easier than what comes later."""


@dataclass(frozen=True)
class Remark:
    """Something that deserves a look. is_serious : training or testing is likely to suffer; section : where the report has more of it"""

    text: str
    is_serious: bool
    section: str


def remarks_on(facts: Facts) -> list[Remark]:
    """Return what deserves a look, the serious things first."""
    found = [*_of_splits(facts), *_of_labels(facts), *_of_losses(facts), *_of_sound(facts), *_of_change(facts)]
    return sorted(found, key=lambda remark: not remark.is_serious)


def _of_splits(facts: Facts) -> Iterator[Remark]:
    snapshot, common = facts.published.snapshot, facts.common
    if n := snapshot.limited.get("recordings_left_out"):
        n_read = snapshot.limited["recordings"]
        yield Remark(f"Only {n_read:,} of {counted(n + n_read, 'recording')} were to be read.", False, "counts")
    for text in snapshot.accepted:
        yield Remark(f"Published although a limit was exceeded: {text}", False, "counts")
    for split in facts.published.splits_without_clips:
        yield Remark(f"Split {split} has no clips.", True, "labels")
    if n := common.duplicates.get("across_splits"):
        are = "group of equal clips is" if n == 1 else "groups of equal clips are"
        yield Remark(f"{n:,} {are} in more than one split, so a test on them tells nothing.", True, "leaks")
    if n := common.duplicates.get("labels"):
        yield Remark(f"{counted(n, 'group')} of equal clips with different labels.", True, "leaks")
    if n := common.duplicates.get("clips"):
        copies = "1 clip is an exact copy" if n == 1 else f"{n:,} clips are exact copies"
        yield Remark(f"{copies} of another one.", False, "leaks")
    for name, (n, n_values, _) in common.fields.items():
        if name in _PEOPLE and n:
            are = "is" if n == 1 else "are"
            yield Remark(f"{n:,} of {n_values:,} values of {name} {are} in more than one split.", True, "leaks")
    if facts.alike is not None and facts.alike.table.num_rows:
        yield Remark(f"{counted(facts.alike.table.num_rows, 'pair')} of recordings sound alike.", True, "leaks")


def _of_labels(facts: Facts) -> Iterator[Remark]:
    balance = facts.balance
    if balance.ratio is not None and balance.ratio >= _UNEVEN:
        named = [label for label in balance.labels if label]
        yield Remark(
            f"Labels are uneven: {named[0]} has {balance.ratio:,.0f} times as many clips as {named[-1]}.",
            False,
            "labels",
        )
    for split, names in balance.missing.items():
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        yield Remark(f"Split {split} lacks {', '.join(names[:_SHOWN])}{more}.", True, "labels")
    unlabelled, n_labels = balance.labels.get("", {}).get("clips", 0), len([label for label in balance.labels if label])
    if unlabelled and n_labels:
        yield Remark(f"{counted(unlabelled, 'clip')} without a label.", False, "labels")


def _of_losses(facts: Facts) -> Iterator[Remark]:
    snapshot = facts.published.snapshot
    counts = snapshot.counts
    if counts.recordings_rejected > _REJECTED * max(1, snapshot.recordings_listed):
        share = share_text(counts.recordings_rejected, snapshot.recordings_listed)
        yield Remark(f"{share} of the recordings were rejected.", True, "rejected")
    if counts.annotations_rejected > _REJECTED * max(1, snapshot.annotations_read):
        share = share_text(counts.annotations_rejected, snapshot.annotations_read)
        yield Remark(f"{share} of the annotations were rejected.", True, "rejected")
    if counts.clips_candidates and counts.clips_dropped > _DROPPED * counts.clips_candidates:
        share = share_text(counts.clips_dropped, counts.clips_candidates)
        yield Remark(f"{share} of the candidate clips were dropped by rules.", False, "rejected")
    if snapshot.recordings_without_annotations > _REJECTED * max(1, snapshot.recordings_listed):
        share = share_text(snapshot.recordings_without_annotations, snapshot.recordings_listed)
        yield Remark(f"{share} of the recordings have no annotations and were left out.", False, "counts")


def _of_sound(facts: Facts) -> Iterator[Remark]:
    for source, sums in facts.shown["saturation"]["sources"].items():
        if sums["share"] >= _SATURATED:
            share = share_text(sums["n_saturated"], sums["n_samples"])
            yield Remark(f"{share} of the samples of source {source} are at full scale: clipped recordings.", True, "spread")  # fmt: skip
    for spread in facts.spreads:
        if spread.infinite:
            yield Remark(f"{counted_are(spread.infinite, 'clip')} digital silence.", False, "spread")
            break


def _of_change(facts: Facts) -> Iterator[Remark]:
    change, snapshot = facts.change, facts.published.snapshot
    for sides, n in snapshot.side_changes.items():
        yield Remark(f"{counted(n, 'recording')} moved from {sides} since the last snapshot.", True, "drift")
    if change is None:
        return
    if change.moved_share >= _MOVED:
        moved = value_text(100 * change.moved_share)
        yield Remark(f"The shares of labels differ by {moved} % from snapshot {change.number}.", False, "drift")
    if snapshot.counts.clips_kept >= _FEW_CLIPS:
        for shift in change.shifts:
            if shift.distance >= _SHIFTED:
                before, after = (value_text(value, shift.unit) for value in shift.medians)
                yield Remark(
                    f"{shift.name} has moved since snapshot {change.number}: its median was {before} and is {after}.", False, "drift"
                )  # fmt: skip
