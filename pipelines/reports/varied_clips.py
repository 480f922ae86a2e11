"""Choose clips at random that differ: of as many labels, splits and recordings as there are."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from clipmill.pipelines.reports.clip_table import ClipTable


def choose_varied(clips: ClipTable, n: int, seed: int) -> list[int]:
    """Return the rows of clips, those with a label in common next to each other.

    Labels and splits take turns. Of each it is the clip that comes first by chance, of those of a recording that has none yet if there
    are such. The choice depends on the seed and on the clips' ids alone.

    Parameters
    ----------
    n : number of clips; there can be fewer
    """
    table = clips.table
    ids, recordings, splits = (table[name].to_pylist() for name in ("clip_id", "recording_id", "split"))
    chances = [_chance(seed, clip_id) for clip_id in ids]
    labels: dict[int, list[str]] = defaultdict(list)
    rows, codes, names = clips.labels
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        labels[row].append(names[code])
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, split in enumerate(splits):
        for label in labels.get(row) or [""]:
            groups[label, split].append(row)
    turn = sorted(groups, key=lambda group: _chance(seed, "\n".join(group)))
    chosen: dict[int, tuple[str, str]] = {}
    met: set[str] = set()
    for group in turn:
        groups[group].sort(key=lambda row: chances[row], reverse=True)
    while turn and len(chosen) < n:
        for group in turn[: n - len(chosen)]:
            row = _next(groups[group], chosen, recordings, met)
            if row is not None:
                chosen[row] = group
                met.add(recordings[row])
        turn = [group for group in turn if groups[group]]
    return sorted(chosen, key=lambda row: (*chosen[row], chances[row]))


def _next(rows: list[int], chosen: dict[int, tuple[str, str]], recordings: list[str], met: set[str]) -> int | None:
    """Take the next row of a group, which are in reverse order; None if all are chosen already."""
    while rows and rows[-1] in chosen:
        rows.pop()
    if not rows:
        return None
    at = next((i for i in range(len(rows) - 1, -1, -1) if recordings[rows[i]] not in met and rows[i] not in chosen), -1)
    return rows.pop(at)


def _chance(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"clipmill sample {seed}\n{name}".encode()).digest()[:8]
