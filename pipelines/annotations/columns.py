"""Columns: where each thing stands in a row of an annotation file."""

from __future__ import annotations

from pipelines.annotations.rows import MissingColumnError, Row, field_name
from pipelines.annotations.times import number
from schemas.annotation_config import Annotations

_MAX_SHARED = 10_000


class _Shared(dict[str, str]):
    """Gives one and the same string for equal ones: most columns of a large table say few things many times."""

    def __missing__(self, text: str) -> str:
        if len(self) < _MAX_SHARED:
            self[text] = text
        return text


class Columns:
    """Where each thing stands in a row."""

    def __init__(self, spec: Annotations, header: list[str] | None) -> None:
        self.header = _unique(header) if header is not None else None
        self._known = {name: self._find(name, where) for name, where in spec.columns.items()}
        self._extra: dict[str, int] = {}
        self._fields: dict[str, str] = {}
        if self.header is not None and spec.extra_columns == "carry":
            used = set(self._known.values())
            own = spec.recording if isinstance(spec.recording, str) else None
            self._extra = {
                name: i
                for i, name in enumerate(self.header)
                if i not in used and name != own and name not in self._known
            }
        for name in (*self._known, *self._extra):
            if name not in ("start", "end", "duration", "label") or name not in self._known:
                stored, n = field_name(name), 2
                while stored in self._fields.values():
                    stored, n = f"{field_name(name)}_{n}", n + 1
                self._fields[name] = stored
        places = {**self._extra, **self._known}
        self._names = tuple(self._fields[name] for name in places if name in self._fields)
        self._places = [at for name, at in places.items() if name in self._fields]
        self._label = self._known.get("label")
        self._width = max(places.values(), default=-1) + 1
        self._timed = not self._known.keys().isdisjoint(("start", "end", "duration"))
        self._shared = _Shared()

    def _find(self, name: str, where: int | str) -> int:
        if isinstance(where, int):
            if self.header is not None and where >= len(self.header):
                raise MissingColumnError(
                    f"columns.{name}: there is no column {where}; the header has {len(self.header)}"
                )
            return where
        header = self.header or []
        if where in header:
            return header.index(where)
        lower = [h.lower() for h in header]
        if where.lower() in lower:
            return lower.index(where.lower())
        raise MissingColumnError(f"columns.{name}: there is no column {where!r}; the header has: {', '.join(header)}")

    def row(self, cells: list[str], line: int) -> Row:
        if len(cells) < self._width:
            row = self._short(cells, line)
        else:
            shared = self._shared
            label = shared[cells[self._label]] or None if self._label is not None else None
            values = tuple([shared[cells[at]] for at in self._places])
            row = Row(line, None, None, label, self._names, values)
        if self._timed and row.reason is None:
            self._times(row, cells)
        return row

    def _short(self, cells: list[str], line: int) -> Row:
        """Read a row that ends before the last column that is read."""
        row = Row(line)
        fields: dict[str, str] = {}
        for name, at in {**self._extra, **self._known}.items():
            if at >= len(cells):
                if name in self._known:
                    row.reason = "annotation_missing_column"
                    row.detail = f"no column {name!r}: the row has {len(cells)} cells"
            elif name in self._fields:
                fields[self._fields[name]] = cells[at]
            elif name == "label":
                row.label = cells[at] or None
        row.names, row.values = tuple(fields), tuple(fields.values())
        return row

    def _times(self, row: Row, cells: list[str]) -> None:
        values: dict[str, float] = {}
        for name in ("start", "end", "duration"):
            if name not in self._known:
                continue
            text = cells[self._known[name]]
            value = number(text)
            if value is None:
                row.reason, row.detail = "annotation_not_a_number", f"{name} is {text[:50]!r}"
                return
            values[name] = value
        row.start, row.end = values.get("start"), values.get("end")
        if "duration" in values:
            row.end = (row.start or 0.0) + values["duration"]
        if row.start is not None and row.start < 0:
            row.reason, row.detail = "annotation_negative", f"start is {row.start:g}"
        elif row.end is not None and row.end <= (row.start or 0.0):
            row.reason, row.detail = "annotation_end_before_start", f"start {row.start or 0.0:g}, end {row.end:g}"


def _unique(header: list[str]) -> list[str]:
    found: list[str] = []
    for i, name in enumerate(header):
        plain = name or f"column_{i}"
        unique, n = plain, 2
        while unique in found:
            unique, n = f"{plain}_{n}", n + 1
        found.append(unique)
    return found
