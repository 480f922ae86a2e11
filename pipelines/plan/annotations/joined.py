"""Join several annotations of a source: rows of one carry what rows of the others say about the same recording and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import tee
from typing import Any, Self

import numpy as np

from clipmill.pipelines.plan.annotations.annotated import Annotated, M, Rows, Unusable
from clipmill.stages.annotations.rows import Row

_OPEN_END = float("inf")
_LABEL = "label"


@dataclass(kw_only=True)
class Joined(Annotated):
    """Annotations whose rows are joined, recording by recording.

    The rows are those of the first annotations. Where these have no times for a recording, and others do, the rows are those of the
    first others with times. Each row gets the fields of the others' rows that fit it: those without times fit all rows of the
    recording; of those with times, the one with the same start and end fits, or else the one that overlaps the row the most.

    first, others : the annotations
    units_s : seconds per unit of the times of each of them
    have_labels : whether the configuration takes labels from each of them
    strays, n_ignored, first_ignored : of all of them
    """

    first: Annotated
    others: Sequence[Annotated]
    units_s: Sequence[float] = ()
    have_labels: Sequence[bool] = ()
    _own: Counter[str] = field(default_factory=Counter)

    def each(self, members: Iterable[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        copies = tee(members, 1 + len(self.others))
        each = [annotated.each(copy) for annotated, copy in zip((self.first, *self.others), copies, strict=True)]
        for pairs in zip(*each, strict=True):
            results = [rows for _, rows in pairs]
            unusable = next((rows for rows in results if isinstance(rows, Unusable)), None)
            yield pairs[0][0], unusable or self._joined([rows for rows in results if not isinstance(rows, Unusable)])
        self.n_annotated, self.unnamed_roles = self.first.n_annotated, self.first.unnamed_roles
        self.noted = sum((part.noted for part in self.parts), Counter())

    def read(self) -> None:
        for part in self.parts:
            part.read()
        self._sum_up()

    def _sum_up(self) -> None:
        """Take over what the parts know once they were read."""
        self.strays = [stray for part in self.parts for stray in part.strays]
        self.n_ignored = sum(part.n_ignored for part in self.parts)
        self.first_ignored = next((part.first_ignored for part in self.parts if part.first_ignored is not None), None)

    @property
    def version(self) -> str | None:
        versions = [part.version for part in self.parts]
        return None if None in versions else ".".join(map(str, versions))

    def facts(self) -> Any:
        return [part.facts() for part in self.parts]

    def restore(self, facts: Any) -> None:
        for part, own in zip(self.parts, facts, strict=True):
            part.restore(own)
        self._sum_up()

    def take_counts(self) -> Counter[str]:
        counts, self._own = self._own, Counter()
        return counts

    def _joined(self, rows: list[Rows | None]) -> Rows | None:
        """Return the rows of a recording. rows : of each of the annotations"""
        timed = [any(row.start is not None for _, row in own or ()) for own in rows]
        at = timed.index(True) if True in timed and not timed[0] and rows[0] else 0
        main = rows[at]
        if not main:
            self._own["rows_joined_to_none"] += sum(len(own or ()) for own in rows)
            return main
        scale = self.units_s[at] / self.units_s[0]
        for place, own in enumerate(rows):
            if place != at and not own:
                self._own["rows_without_join"] += len(main)
            elif place != at and own:
                self._join(main, own, self.units_s[place] / self.units_s[at], place + 1, not self.have_labels[at])
        if scale != 1:
            for _, row in main:
                row.start = row.start * scale if row.start is not None else None
                row.end = row.end * scale if row.end is not None else None
        return main

    def _join(self, main: Rows, others: Rows, scale: float, number: int, gives_labels: bool) -> None:
        """Give each row the fields of the other rows that fit it.

        scale : units of the rows per unit of the others; number : of the entry that has the others, from 1
        gives_labels : whether rows get the others' labels, since they have none themselves
        """
        used: set[int] = set()
        whole = [(i, pair) for i, pair in enumerate(others) if pair[1].start is None and pair[1].reason is None]
        timed = _Timed(
            [(i, pair) for i, pair in enumerate(others) if pair[1].start is not None and pair[1].reason is None], scale
        )
        for _, row in main:
            fitting = list(whole)
            if row.start is not None and (found := timed.find(row)) is not None:
                fitting.append(found[0])
                self._own["rows_with_several_counterparts"] += found[1] > 1
            used.update(i for i, _ in fitting)
            _add(row, [pair for _, pair in fitting], number, gives_labels)
            if not fitting:
                self._own["rows_without_join"] += 1
        for i, (file, other) in enumerate(others):
            if other.reason is not None:  # what a wrong row says is missing: its recording shows it
                main.append((file, other))
            elif i not in used:
                self._own["rows_joined_to_none"] += 1

    @property
    def parts(self) -> tuple[Annotated, ...]:
        """All annotations, the first first."""
        return (self.first, *self.others)

    def again(self) -> Self:
        first, *others = (annotated.again() for annotated in self.parts)
        return replace(self, first=first, others=others, _own=Counter(), noted=Counter())

    def check(self) -> None:
        for annotated in self.parts:
            annotated.check()


class _Timed:
    """Find the row that fits a time. scale : units of the searched times per unit of the rows'"""

    def __init__(self, rows: list[tuple[int, tuple[str, Row]]], scale: float) -> None:
        self._rows = sorted(rows, key=lambda each: (each[1][1].start or 0.0, each[1][1].end or _OPEN_END))
        self._starts = np.array([(pair[1].start or 0.0) * scale for _, pair in self._rows])
        self._ends = np.array([pair[1].end * scale if pair[1].end is not None else _OPEN_END for _, pair in self._rows])
        self._furthest = np.maximum.accumulate(self._ends) if rows else self._ends

    def find(self, row: Row) -> tuple[tuple[int, tuple[str, Row]], int] | None:
        """Return the row with the same times; or else that with the longest overlap; None if none overlaps.

        Of several that fit as well the first is returned. The second value is their number.
        """
        start, end = row.start or 0.0, row.end if row.end is not None else _OPEN_END
        reach = slice(np.searchsorted(self._furthest, start, "right"), np.searchsorted(self._starts, end))
        starts, ends = self._starts[reach], self._ends[reach]
        if not len(starts):
            return None
        overlap = np.minimum(ends, end) - np.maximum(starts, start)
        overlap[(starts == start) & (ends == end)] = _OPEN_END
        best = int(overlap.argmax())
        n_as_good = int((overlap == overlap[best]).sum())
        return (self._rows[reach.start + best], n_as_good) if overlap[best] > 0 else None


def _add(row: Row, fitting: Rows, number: int, gives_labels: bool) -> None:
    """Add the fields of rows of another entry to a row, and their label if rows get labels from there.

    A field or a label that the row has already is added under a name of its own, with the number of the entry.
    """
    found: dict[str, tuple[str, int, str]] = {}
    for file, other in fitting:
        said = other.fields if other.label is None else {**other.fields, _LABEL: other.label}
        for name, value in said.items():
            known, line, where = found.setdefault(name, (value, other.line, file))
            if known != value and row.reason is None:
                row.reason = "annotation_join_conflict"
                row.detail = f"{name} is {known[:50]!r} on line {line} of {where} and {value[:50]!r} on line {other.line} of {file}"
    label, _, _ = found.pop(_LABEL, (None, 0, ""))
    own = row.fields
    if row.label is None and gives_labels:
        row.label = label
    elif label is not None:
        own[f"{_LABEL}_{number}"] = label
    own |= {f"{name}_{number}" if name in own else name: value for name, (value, _, _) in found.items()}
    row.names, row.values = tuple(own), tuple(own.values())
