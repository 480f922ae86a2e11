"""Choose the clips that a report shows: of each label those with the greatest and the least value of a column, and random ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.reports.clip_table import ClipTable
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.errors import ConfigError

HIGHEST, LOWEST, RANDOM = "highest", "lowest", "random"
KINDS = (HIGHEST, LOWEST, RANDOM)
MOST_LABELS = 30
_PREFERRED = ("snr_db", "dnsmos_ovrl", "lufs", "level_dbfs", "duration_s")
WITHOUT_LABELS = 4
"""How many times as many clips are shown of a dataset without labels as of one label."""


@dataclass(frozen=True)
class Choice:
    """A clip to show. row : its row in the table; kind : why it was chosen, one of `KINDS`; label : for which label, empty for none"""

    row: int
    kind: str
    label: str


def column_for(clips: ClipTable, names: Sequence[str], by: str | None) -> str:
    """Return the column by which clips are chosen. names : of the columns of numbers; by : the one asked for

    Raises
    ------
    ConfigError : there is no such column
    """
    there = [name for name in names if name in clips.table.column_names]
    if by is not None:
        if by not in there:
            raise ConfigError(
                f"--by {by}: no column of numbers has this name{did_you_mean(by, there)}; there are {', '.join(there)}",
                code="usage",
            )
        return by
    known = (name for name in _PREFERRED if name in there and not np.isnan(clips.numbers(name)).all())
    return next(known, there[0] if there else "duration_s")


def choose(clips: ClipTable, by: str, per_label: int, seed: int) -> tuple[list[Choice], int]:
    """Return clips to show, the most important first, and the number of labels that are left out. No clip comes twice.

    Parameters
    ----------
    by : column of numbers
    per_label : number of clips of each label
    seed : of the random ones, which depend on it and on the clips' ids alone
    """
    rows, codes, names = clips.labels
    values = clips.numbers(by)
    chances = _chances(clips, seed)
    groups: list[tuple[str, npt.NDArray[np.int64]]] = []
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for i, name in enumerate(names):
        groups.append((name, rows[order[bounds[i] : bounds[i + 1]]]))
    groups.sort(key=lambda group: (-len(group[1]), group[0]))
    n_left_out = max(0, len(groups) - MOST_LABELS)
    groups = groups[:MOST_LABELS]
    is_labelled = np.zeros(clips.table.num_rows, bool)
    is_labelled[rows] = True
    n_of = [per_label] * len(groups)
    if not is_labelled.all():
        groups.append(("", np.flatnonzero(~is_labelled)))
        n_of.append(per_label if names else per_label * WITHOUT_LABELS)
    used: set[int] = set()
    lines = [_line(members, values, chances) for _, members in groups]
    found = []
    for k in range(max(n_of, default=0)):
        kind = KINDS[k % len(KINDS)]
        for (label, _), line, n in zip(groups, lines, n_of, strict=True):
            row = next((row for row in line[kind] if row not in used), None) if k < n else None
            if row is not None:
                used.add(row)
                found.append(Choice(row, kind, label))
    return found, n_left_out


def _line(
    members: npt.NDArray[np.int64], values: npt.NDArray[np.float64], chances: npt.NDArray[np.uint64]
) -> dict[str, Iterator[int]]:
    """Return the clips of a label in the order in which each kind takes them. Clips without a value are neither highest nor lowest."""
    known = members[~np.isnan(values[members])]
    ascending = known[np.lexsort((chances[known], values[known]))].tolist()
    anyhow = members[np.argsort(chances[members], kind="stable")].tolist()
    return {HIGHEST: iter(ascending[::-1]), LOWEST: iter(ascending), RANDOM: iter(anyhow)}


def _chances(clips: ClipTable, seed: int) -> npt.NDArray[np.uint64]:
    """Return a random number for each clip: uint64 [n_clips]."""
    salt = hashlib.sha256(f"clipmill report {seed}".encode())

    def chance(clip_id: str) -> bytes:
        own = salt.copy()
        own.update(clip_id.encode())
        return own.digest()[:8]

    return np.frombuffer(b"".join(map(chance, clips.table["clip_id"].to_pylist())), np.uint64)
