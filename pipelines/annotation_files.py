"""Reading one annotation file: text in any of the usual encodings and dialects of CSV to checked rows."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from schemas.annotation_config import Annotations
from schemas.tables import RESERVED

MAX_SIDECAR_BYTES = 64 << 20
MAX_TABLE_BYTES = 4 << 30
_MAX_FIELD_CHARS = 1 << 20
_SAMPLE_LINES = 20
_MAX_SHARED = 10_000
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class UnreadableError(Exception):
    """The file is no table that can be read."""


class MissingColumnError(UnreadableError):
    """The header lacks a column that the configuration names."""


@dataclass(slots=True)
class Row:
    """One annotation. start, end : in the file's time unit, None for the recording's own ends.

    names, values : of its fields. A million rows are in memory at once: they share the names, and have no dictionary each
    reason : set when the row is rejected; detail : what is wrong with it
    """

    line: int
    start: float | None = None
    end: float | None = None
    label: str | None = None
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    reason: str | None = None
    detail: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        return dict(zip(self.names, self.values, strict=True))


_DELIMITERS = (",", "\t", ";", "|")


def decode_text(content: bytes, encoding: str) -> str:
    """Return a file's text. Raises UnreadableError."""
    name = encoding
    if encoding == "auto":
        name = next((n for bom, n in _BOMS if content.startswith(bom)), "")
        if not name and b"\0" in content[:400]:
            head = content[:400]
            name = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
        name = name or "utf-8"
    try:
        return content.decode(name)
    except (ValueError, LookupError) as error:  # UnicodeError is a ValueError
        hint = "; set annotations.encoding" if encoding == "auto" else ""
        raise UnreadableError(f"not {name} text ({error}){hint}") from None


def sniff_delimiter(text: str, spec: Annotations) -> str:
    """Return the delimiter by which the first lines hold the columns that are asked for, and all as many."""
    head = "".join(islice(_lines(text), 4 * _SAMPLE_LINES)).splitlines()[: 4 * _SAMPLE_LINES]
    lines = [line for line in head if line.strip() and not _is_comment(line, spec)][:_SAMPLE_LINES]
    best, best_score = ",", (0.0, 0.0, 0)
    present = [d for d in _DELIMITERS if any(d in line for line in lines)]
    absent = [d for d in _DELIMITERS if d not in present]
    for delimiter in (*present, *absent[:1]):  # all that do not occur cut the lines alike
        try:
            rows = [
                [c.strip() for c in row]
                for row in csv.reader(lines, **_dialect(delimiter, spec.quote, strict=False))
                if row
            ]
        except csv.Error:
            continue
        counts = [len(row) for row in rows]
        usual = max(sorted(set(counts)), key=counts.count, default=1)
        score = (_share_that_fits(rows, spec), counts.count(usual) / len(counts) if usual > 1 else 0.0, usual)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _share_that_fits(rows: list[list[str]], spec: Annotations) -> float:
    """Return the share of rows that have a number where a time is to be, 0 when the header lacks a column."""
    try:
        columns = _Columns(spec, rows[0] if spec.header and rows else None)
    except MissingColumnError:
        return 0.0
    data = rows[1:] if spec.header else rows
    fitting = [
        columns.row(cells, 0).reason not in ("annotation_missing_column", "annotation_not_a_number") for cells in data
    ]
    return sum(fitting) / len(fitting) if fitting else 1.0


def _lines(text: str) -> Iterator[str]:
    """Yield lines with their ends, as a file does that is opened with ``newline=""``; StringIO would copy it, 4 bytes a letter."""
    return (match[0] for match in _LINE.finditer(text))


def _is_comment(line: str, spec: Annotations) -> bool:
    return spec.comment is not None and line.startswith(spec.comment)


def _dialect(delimiter: str, quote: str, strict: bool = True) -> dict[str, Any]:
    if quote == "none" or (quote == "auto" and delimiter == "|"):
        return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    return {
        "delimiter": delimiter,
        "quotechar": '"' if quote == "auto" else quote,
        "skipinitialspace": True,
        "strict": strict,
    }


class Sheet:
    """A file's rows, read as they are asked for, once; the bad ones come with their reason.

    header : as unique names, None without one

    Raises
    ------
    UnreadableError : no row can be read; MissingColumnError : the header lacks a configured column. Here or while iterating.
    """

    def __init__(self, content: bytes, spec: Annotations) -> None:
        self._spec = spec
        self._text = decode_text(content, spec.encoding).lstrip("\ufeff")
        self._delimiter = sniff_delimiter(self._text, spec) if spec.delimiter == "auto" else spec.delimiter
        self._found = self._cells()
        self._columns = None if spec.header else _Columns(spec, None)
        if spec.header:
            self._columns = next((_Columns(spec, cells) for _, cells in self._found), None)
        self.header = self._columns.header if self._columns else None

    def __iter__(self) -> Iterator[tuple[list[str], Row]]:
        """Yield all cells of each row, for the name of its recording, and what they say."""
        if self._columns is not None:
            read = self._columns.row
            for line, cells in self._found:
                yield cells, read(cells, line)

    @property
    def rows(self) -> list[Row]:
        return [row for _, row in self]

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row starts, from 1, and its cells; empty rows are skipped."""
        csv.field_size_limit(_MAX_FIELD_CHARS)
        dialect = _dialect(self._delimiter, self._spec.quote)
        numbers: list[int] = []  # of the lines that the row at hand stands on

        def lines() -> Iterator[str]:
            for number, line in enumerate(_lines(self._text), start=1):
                if not _is_comment(line, self._spec):
                    numbers.append(number)
                    yield line

        try:
            for row in csv.reader(lines(), **dialect):
                first_line = numbers[0]
                numbers.clear()
                cells = [c.strip() for c in row]
                if any(cells):
                    yield first_line, cells
        except csv.Error as error:
            hint = "; if quotes are part of the text, set annotations.quote: none" if "quoting" not in dialect else ""
            raise UnreadableError(f"line {numbers[0] if numbers else '?'}: {error}{hint}") from None

    def column(self, where: str | int) -> int | None:
        """Return the place of a column given by name (any case) or index, None when there is none."""
        if isinstance(where, int) or self.header is None:
            at = int(where) if str(where).isdigit() else None
            return at if at is not None and (self.header is None or at < len(self.header)) else None
        if where in self.header:
            return self.header.index(where)
        lower = [h.lower() for h in self.header]
        return lower.index(where.lower()) if where.lower() in lower else None


def read_sheet(content: bytes, spec: Annotations) -> Sheet:
    """Open an annotation file; see `Sheet`."""
    return Sheet(content, spec)


class _Shared(dict[str, str]):
    """Gives one and the same string for equal ones: most columns of a large table say few things many times."""

    def __missing__(self, text: str) -> str:
        if len(self) < _MAX_SHARED:
            self[text] = text
        return text


class _Columns:
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
            number = _number(text)
            if number is None:
                row.reason, row.detail = "annotation_not_a_number", f"{name} is {text[:50]!r}"
                return
            values[name] = number
        row.start, row.end = values.get("start"), values.get("end")
        if "duration" in values:
            row.end = (row.start or 0.0) + values["duration"]
        if row.start is not None and row.start < 0:
            row.reason, row.detail = "annotation_negative", f"start is {row.start:g}"
        elif row.end is not None and row.end <= (row.start or 0.0):
            row.reason, row.detail = "annotation_end_before_start", f"start {row.start or 0.0:g}, end {row.end:g}"


def field_name(name: str) -> str:
    """Return the column under which a corpus's field is stored: its own name unless clipmill uses that one."""
    return f"annotation_{name}" if name in RESERVED else name


def _unique(header: list[str]) -> list[str]:
    found: list[str] = []
    for i, name in enumerate(header):
        plain = name or f"column_{i}"
        unique, n = plain, 2
        while unique in found:
            unique, n = f"{plain}_{n}", n + 1
        found.append(unique)
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
