"""Reading one annotation file: text in any of the usual encodings and dialects of CSV to checked rows."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.config import Annotations
from schemas.tables import RESERVED

MAX_SIDECAR_BYTES = 64 << 20
MAX_TABLE_BYTES = 4 << 30
_MAX_FIELD_CHARS = 1 << 20
_SAMPLE_LINES = 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class UnreadableError(Exception):
    """The file is no table that can be read."""


class MissingColumnError(UnreadableError):
    """The header lacks a column that the configuration names."""


@dataclass
class Row:
    """One annotation. start, end : in the file's time unit, None for the recording's own ends.

    reason : set when the row is rejected; detail : what is wrong with it
    cells : all cells by column name (or index as text), for templates
    """

    line: int
    start: float | None = None
    end: float | None = None
    label: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    detail: str | None = None
    cells: dict[str, str] = field(default_factory=dict)


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
    except (UnicodeDecodeError, LookupError) as error:
        hint = "; set annotations.encoding" if encoding == "auto" else ""
        raise UnreadableError(f"not {name} text ({error}){hint}") from None


def sniff_delimiter(text: str, comment: str | None, quote: str) -> str:
    """Return the delimiter by which the first lines have the same number of columns, and most of them."""
    lines = [
        line
        for line in text.splitlines()[: 4 * _SAMPLE_LINES]
        if line.strip() and not (comment and line.startswith(comment))
    ]
    lines = lines[:_SAMPLE_LINES]
    best, best_score = ",", (0.0, 0)
    for delimiter in (",", "\t", ";", "|"):
        try:
            counts = [len(row) for row in csv.reader(lines, **_dialect(delimiter, quote)) if row]
        except csv.Error:
            continue
        usual = max(set(counts), key=counts.count, default=1)
        score = (counts.count(usual) / len(counts) if usual > 1 else 0.0, usual)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _dialect(delimiter: str, quote: str) -> dict[str, Any]:
    if quote == "none" or quote == "auto" and delimiter == "|":
        return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": delimiter, "quotechar": '"' if quote == "auto" else quote, "skipinitialspace": True}


def read_rows(content: bytes, spec: Annotations) -> Iterator[Row]:
    """Read the rows of an annotation file, the bad ones with their reason.

    Raises
    ------
    UnreadableError : no row can be read
    """
    text = decode_text(content, spec.encoding).lstrip("\ufeff")
    delimiter = sniff_delimiter(text, spec.comment, spec.quote) if spec.delimiter == "auto" else spec.delimiter
    csv.field_size_limit(_MAX_FIELD_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), **_dialect(delimiter, spec.quote))
    try:
        columns: _Columns | None = None if spec.header else _Columns(spec, None)
        for cells in reader:
            if not any(c.strip() for c in cells) or spec.comment and cells[0].startswith(spec.comment):
                continue
            if columns is None:
                columns = _Columns(spec, [c.strip() for c in cells])
                continue
            yield columns.row([c.strip() for c in cells], reader.line_num)
    except csv.Error as error:
        raise UnreadableError(f"line {reader.line_num}: {error}") from None


class _Columns:
    """Where each thing stands in a row."""

    def __init__(self, spec: Annotations, header: list[str] | None) -> None:
        self.header = _unique(header) if header is not None else None
        self._known = {name: self._find(name, where) for name, where in spec.columns.items()}
        self._extra: dict[str, int] = {}
        if self.header is not None and spec.extra_columns == "carry":
            used = set(self._known.values())
            own = spec.recording if isinstance(spec.recording, str) else None
            self._extra = {
                name: i
                for i, name in enumerate(self.header)
                if i not in used and name != own and name not in self._known
            }

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
        row = Row(line)
        names = self.header or [str(i) for i in range(len(cells))]
        row.cells = dict(zip(names, cells, strict=False))
        for name, at in {**self._extra, **self._known}.items():
            if at >= len(cells):
                if name in self._known:
                    row.reason, row.detail = (
                        "annotation_missing_column",
                        f"no column {name!r}: the row has {len(cells)} cells",
                    )
                continue
            if name == "label":
                row.label = cells[at] or None
            elif name not in ("start", "end", "duration") or name not in self._known:
                row.fields[field_name(name)] = cells[at]
        if row.reason is None:
            self._times(row, cells)
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
