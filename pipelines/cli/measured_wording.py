"""Lines of text about what was measured of clips, for `build` and `show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipmill.pipelines.cli.wording import align_count
from clipmill.pipelines.dataset.measured import SHARES, Forecast
from clipmill.schemas.legible_amounts import format_duration
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Snapshot

_SHOWN = (0.0, 0.05, 0.5, 0.95, 1.0)
_HEADS = {0.0: "least", 0.5: "median", 1.0: "greatest"}


def describe_measured(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of the distributions of measured columns; nothing if none were measured."""
    if not measured:
        return []
    width = max(12, *(len(name) for name in measured))
    heads = "".join(f"{_HEADS.get(share, f'{share:.0%}'):>11}" for share in _SHOWN)
    lines = [f"{'measured':<{width}} {heads}"]
    for name, about in measured.items():
        values = dict(zip(SHARES, about["values"], strict=False))
        cells = "".join(f"{_number(values.get(share)):>11}" for share in _SHOWN) if values else "  no clip has a value"
        notes = [counted(about["unknown"], "clip") + " unknown"] if about["unknown"] else []
        notes += [f"with {counted(about['dropped'], 'clip')} that `keep` dropped"] if about["dropped"] else []
        lines.append(f"{name:<{width}} {cells}" + (f"  ({', '.join(notes)})" if notes else ""))
    return lines


def describe_notes_on_clips(notes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a line per column of notes with how many clips have each."""
    return [f"{name:<12} " + ", ".join(f"{note} {n:,}" for note, n in counts.items()) for name, counts in notes.items()]


def _number(value: float | None) -> str:
    return "-inf" if value is None else f"{value:.4g}"


def describe_forecast_of_keep(forecast: Forecast, snapshot: Snapshot) -> list[str]:
    """Return the lines of `clipmill show --keep`."""
    total = forecast.kept + sum(forecast.dropped.values())
    lines = [
        f"snapshot {snapshot.number} of {snapshot.name}: of {counted(total, 'measured clip')} these thresholds keep {forecast.kept:,}"
        f" ({format_duration(forecast.kept_s)}) and drop {total - forecast.kept:,}"
    ]
    lines += [f"{n:>8,}  {rule}" for rule, n in forecast.dropped.items()]
    for split, sums in forecast.by_split.items():
        lines.append(
            f"{split:<12} {align_count(sums.get('kept', 0), 'clip', 8)}  kept, {sums.get('dropped', 0):,} dropped"
            + (f", {sums['unknown']:,} unknown" if sums.get("unknown") else "")
        )
    lines.append(
        f"now          {snapshot.counts.clips_kept:,} clips are kept; {forecast.lost:,} of them would be dropped"
        + (f", and {forecast.regained:,} that `keep` drops would be kept" if forecast.regained else "")
    )
    if forecast.unknown:
        lines.append(
            f"unknown      {counted(forecast.unknown, 'clip')} were dropped before these columns were measured; a build decides about them"
        )
    return lines


def describe_duplicates(duplicates: Mapping[str, int]) -> list[str]:
    """Return a line on clips that are copies of others; nothing if there are none. duplicates : as in a snapshot"""
    lines = []
    if n := duplicates.get("clips"):
        notes = []
        if across := duplicates.get("across_splits"):
            notes.append(f"{counted(across, 'clip')} in more than one split")
        if labels := duplicates.get("labels"):
            notes.append(f"{counted(labels, 'clip')} with more than one label")
        what = "is an exact copy" if n == 1 else "are exact copies"
        lines.append(", ".join([f"duplicates   {counted(n, 'clip')} {what} of others", *notes]))
    if unknown := duplicates.get("unknown"):
        lines.append(f"duplicates   unknown for {counted(unknown, 'clip')} of shards that an older clipmill built")
    return lines
