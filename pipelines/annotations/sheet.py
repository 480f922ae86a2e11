"""Sheets: one annotation file as checked rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from pipelines.annotations.columns import Columns
from pipelines.annotations.dialect import dialect, is_comment, sniff_delimiter
from pipelines.annotations.rows import Row, UnreadableError
from pipelines.annotations.text import decode_text, lines
from schemas.annotation_config import Annotations

MAX_SIDECAR_BYTES = 64 << 20
MAX_TABLE_BYTES = 4 << 30
_MAX_FIELD_CHARS = 1 << 20


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
        self._columns = None if spec.header else Columns(spec, None)
        if spec.header:
            self._columns = next((Columns(spec, cells) for _, cells in self._found), None)
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
        spoken = dialect(self._delimiter, self._spec.quote)
        numbers: list[int] = []  # of the lines that the row at hand stands on

        def told() -> Iterator[str]:
            for number, line in enumerate(lines(self._text), start=1):
                if not is_comment(line, self._spec):
                    numbers.append(number)
                    yield line

        try:
            for row in csv.reader(told(), **spoken):
                first_line = numbers[0]
                numbers.clear()
                cells = [c.strip() for c in row]
                if any(cells):
                    yield first_line, cells
        except csv.Error as error:
            hint = "; if quotes are part of the text, set annotations.quote: none" if "quoting" not in spoken else ""
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
