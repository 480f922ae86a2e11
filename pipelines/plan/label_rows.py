"""Turn the rows of a recording whose clips can have several labels into rows that cut clips, and into events that label them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from clipmill.pipelines.plan.label_texts import SEPARATOR


@dataclass(frozen=True, slots=True)
class Event:
    """What a row says about a time of its recording. See `clipmill.schemas.tables.EVENT`."""

    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    channel: int | None = None

    @property
    def place(self) -> tuple[float, float, int, tuple[str, ...]]:
        """Return what events are sorted by."""
        return self.start or 0.0, self.end if self.end is not None else float("inf"), self.channel or 0, self.labels


class LabelledRow(Protocol):
    """A row of an item with its labels; see `clipmill.pipelines.plan.items.Entry`."""

    start: float | None
    end: float | None
    labels: list[str]
    fields: dict[str, str]
    file: str
    line: int
    channel: int | None
    noted: tuple[str, ...]


R = TypeVar("R", bound=LabelledRow)


def events_of(rows: Iterable[LabelledRow]) -> list[Event]:
    """Return what rows say, sorted: it does not depend on their order. Rows without labels say nothing."""
    events = {Event(tuple(row.labels), row.start, row.end, row.channel) for row in rows if row.labels}
    return sorted(events, key=lambda event: (event.place, event.start is None, event.end is None))


def merged(rows: list[R], place: Callable[[R], Hashable], separator: str = SEPARATOR) -> tuple[list[R], int]:
    """Return rows of which those of one place are one, and the number of rows that went into others.

    The labels of such a row are those of all of its rows, and so are its fields: a value that several have stands once, different ones
    stand in order, with a separator between them. Its file and line are those of the first row.

    place : returns what is equal for rows that are the same clip
    """
    groups: dict[Hashable, list[R]] = {}
    for row in rows:
        groups.setdefault(place(row), []).append(row)
    for group in groups.values():
        if len(group) > 1:
            _merge(group, separator)
    return [group[0] for group in groups.values()], len(rows) - len(groups)


def _merge(group: list[R], separator: str) -> None:
    """Add the other rows of a group to the first one in its file, which becomes the first of the list."""
    group.sort(key=lambda row: (row.file, row.line))
    first = group[0]
    first.labels = sorted({label for row in group for label in row.labels})
    first.start = min((row.start for row in group if row.start is not None), default=None)
    first.end = min((row.end for row in group if row.end is not None), default=None)
    values: dict[str, set[str]] = {}
    for row in group:
        for name, value in row.fields.items():
            values.setdefault(name, set()).update([value] if value else [])
    first.fields = {name: separator.join(sorted(own)) for name, own in values.items()}
    first.noted = tuple(sorted({code for row in group for code in row.noted}))


def shared_fields(rows: list[LabelledRow]) -> tuple[dict[str, str], bool]:
    """Return the fields that have one value in all rows, and whether there are others."""
    names = dict.fromkeys(name for row in rows for name in row.fields)
    values = {name: {row.fields.get(name) for row in rows} for name in names}
    shared = {name: value for name, own in values.items() if len(own) == 1 and (value := next(iter(own))) is not None}
    return shared, len(shared) < len(names)
