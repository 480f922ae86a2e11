"""Read one annotation file as checked rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.column_roles import Columns, is_number_like
from clipmill.stages.annotations.dialect import WHITESPACE, dialect, is_comment, sniff_delimiter
from clipmill.stages.annotations.file_text import cut_at_blanks, decode_text, lines
from clipmill.stages.annotations.quoting import QUOTE, is_quoted_tsv
from clipmill.stages.annotations.rows import HeaderError, Row, UnreadableError
from clipmill.stages.annotations.times import EITHER, Times, decimal_of

MAX_SIDECAR_BYTES = 64 << 20
MAX_TABLE_BYTES = 4 << 30
_MAX_FIELD_CHARS = 1 << 20
_SEPARATOR = re.compile(r'"?sep=([,;|\t])"?(?:\r\n?|\n|\Z)', re.IGNORECASE)
"""A first line that tells Excel the delimiter."""
_AUDACITY = "\\"
_AROUND = ' "\t\r\n'
_LABEL_HEADERS = frozenset("label labels class category species event_label sound_class".split())
_REMEDY = "if quotes are part of the text, set annotations.quote: none"


class Sheet:
    """The rows of an annotation file. They are read while iterating, once; rejected rows have a reason.

    header : unique column names, None without a header; first : the header's cells as written
    noted : counts of notes on how the file was read, by code of `clipmill.schemas.annotation_notes`; complete after the last row
    unnamed_roles : columns of the header that are probably meant as a role, by role
    is_row : returns whether cells name a recording; None if that is unknown. In a file without times, it finds rows that an
        unpaired quote would swallow

    Raises
    ------
    UnreadableError : no row can be read; MissingColumnError : the header lacks a configured column; HeaderError : the first row is
        not a header; AmbiguousError : no time shows which sign is decimal. Raised here or while iterating.
    """

    def __init__(self, content: bytes, spec: Annotations) -> None:
        self._spec = spec
        self.noted: Counter[str] = Counter()
        self.is_row: Callable[[list[str]], bool] | None = None
        self.named_by: Sequence[str] = ()
        csv.field_size_limit(_MAX_FIELD_CHARS)
        self._text = decode_text(content, spec.encoding).lstrip("\ufeff")
        self._first_line = 1
        separator = _SEPARATOR.match(self._text)
        if separator is not None:
            self._text, self._first_line = self._text[separator.end() :], 2
        declared = separator[1] if separator is not None else ""
        self._delimiter = spec.delimiter if spec.delimiter != "auto" else declared or sniff_delimiter(self._text, spec)
        self._dialect = dialect(self._delimiter, spec.quote)
        unsure = spec.quote == "auto" and self._delimiter == "\t" and QUOTE in self._text
        if unsure and not is_quoted_tsv(self._plain_lines, self._dialect):
            self._dialect = dialect(self._delimiter, "none")
            self.noted["files_read_unquoted"] += 1
        self._remaining = self._cells()
        self._columns: Columns | None = None
        self.first: list[str] = []
        first = next(self._remaining, None) if spec.header else None
        if first is not None or not spec.header:
            self._columns = Columns(spec, first[1] if first is not None else None)
        if first is not None and self._columns is not None:
            self.first = first[1]
            if (data := self._columns.looks_like_row(self.first, spec)) is not None:
                raise HeaderError(
                    f"the first row has {data}, so it is not a header: write header: false; if it is a header, give the columns by name"
                )
        self.header = self._columns.header if self._columns else None
        self.unnamed_roles = self._columns.unnamed_roles(spec) if self._columns is not None else {}
        if self.unnamed_roles:
            self.noted["roles_not_named"] += 1
        if self._has_numbers_above():
            self.noted["headers_with_numbers"] += 1
        if self._columns is not None and self._columns.times.asks_decimal:
            self._columns.times.settle(self._decimal(self._columns.times))

    def _has_numbers_above(self) -> bool:
        """Return whether the header may be data: it holds a number, and no column is configured by name."""
        spec = self._spec
        by_name = isinstance(spec.recording, str | list) or any(
            isinstance(where, str) for where in (*spec.columns.values(), *spec.fields.values())
        )
        return not by_name and any(map(is_number_like, self.first))

    def _decimal(self, times: Times) -> str:
        """Return the decimal sign. Reads rows until one shows it, or none if the sign cannot matter."""
        quote = self._dialect.get("quotechar")
        is_cut_by_commas = self._delimiter == "," and (quote is None or quote not in self._text)
        signs = ("" if is_cut_by_commas else ",") + ("" if self._spec.time_unit == "s" else ".")
        if not signs or re.search(rf"[{signs}][0-9]", self._text) is None:
            return EITHER
        cells = (cells for _, cells in self._cells() if cells[0] != _AUDACITY)
        if self._spec.header:
            next(cells, None)
        return decimal_of(times.separated(cells), str(self._spec.time_unit))

    def __iter__(self) -> Iterator[tuple[list[str], Row]]:
        """Yield the cells of each row, from which the recording's name is read, and the row."""
        if self._columns is None:
            return
        read, first = self._columns.row, not self._spec.header
        above = None if self._columns.timed or first else self._columns.label_of(self.first)
        has_label_above = bool(above) and isinstance(self._spec.columns.get("label"), int)
        n_rows = 0
        for line, cells in self._remaining:
            if cells[0] == _AUDACITY and n_rows and self._is_frequency_range(cells):
                self.noted["frequency_ranges"] += 1
                continue
            row = read(cells, line)
            if first:
                first = False
                self._look_for_header(row, cells)
            if has_label_above and row.label == above:
                has_label_above = False
                self.noted["headers_like_rows"] += 1
            n_rows += 1
            yield cells, row

    def _look_for_header(self, row: Row, cells: list[str]) -> None:
        """Reject the first row of a file without a header if it looks like a header, or count a note."""
        columns = self._columns
        if columns is None:
            return
        if row.reason == "annotation_not_a_number" and columns.looks_like_header(cells):
            row.reason = "annotation_is_header"
            row.detail = f"{row.detail}: a header? then write header: true"
        elif not columns.timed and (row.label or "").lower() in _LABEL_HEADERS:
            self.noted["rows_like_headers"] += 1

    def _is_frequency_range(self, cells: list[str]) -> bool:
        """Return whether a row is the second line of an Audacity label, ``\\<tab>low<tab>high`` in Hz."""
        return self._delimiter == "\t" and 1 < len(cells) <= 3 and all(map(is_number_like, cells[1:]))

    @property
    def rows(self) -> list[Row]:
        """All remaining rows. Reading them uses them up."""
        return [row for _, row in self]

    def _lines(self) -> Iterator[tuple[int, str]]:
        return (
            (number, line)
            for number, line in enumerate(lines(self._text), start=self._first_line)
            if not is_comment(line, self._spec)
        )

    def _plain_lines(self) -> Iterator[str]:
        return (line for _, line in self._lines() if not line.startswith(f"{_AUDACITY}\t"))

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row starts, from 1, and its cells; empty rows are skipped."""
        if self._delimiter == WHITESPACE:
            yield from self._cut_at_blanks()
            return
        numbers: list[int] = []  # of the lines of the current row
        texts: list[str] = []

        def record_lines() -> Iterator[str]:
            for number, line in self._lines():
                numbers.append(number)
                texts.append(line)
                yield line

        try:
            for row in csv.reader(record_lines(), **self._dialect):
                if len(texts) > 1 and self._spec.quote == "auto":
                    self._check_not_swallowed(numbers, texts)
                first_line = numbers[0]
                numbers.clear()
                texts.clear()
                cells = [c.strip() for c in row]
                if any(cells):
                    yield first_line, cells
        except csv.Error as error:
            hint = f"; {_REMEDY}" if "quoting" not in self._dialect else ""
            raise UnreadableError(f"line {numbers[0] if numbers else '?'}: {error}{hint}") from None

    def _cut_at_blanks(self) -> Iterator[tuple[int, list[str]]]:
        """Yield rows whose cells are cut at blanks. With `annotations.rest`, the last of their columns takes the rest of the line."""
        spec = self._spec
        recording = spec.recording if isinstance(spec.recording, int) else -1
        indexes = [
            where for where in (*spec.columns.values(), *spec.fields.values(), recording) if isinstance(where, int)
        ]
        n_columns = max(indexes) + 1 if spec.rest and not spec.header else 0
        for number, line in self._lines():
            if len(line) > _MAX_FIELD_CHARS:
                raise UnreadableError(f"line {number}: {len(line):,} characters; at most {_MAX_FIELD_CHARS:,} are read")
            cells = cut_at_blanks(line, most=n_columns)
            if not cells:
                continue
            if spec.rest and not n_columns:
                n_columns = len(cells)
            yield number, cells

    def _check_not_swallowed(self, numbers: list[int], texts: list[str]) -> None:
        """Refuse a quoted cell that spans lines which are rows of their own. Tab-separated files were checked before.

        Raises
        ------
        UnreadableError : a line of a row, other than its first, has a time in the time's column or names a recording; or, if
            neither can be checked, all lines of the row have the same number of cells
        """
        if self._delimiter == "\t":
            return
        pieces = [[cell.strip(_AROUND) for cell in text.split(self._delimiter)] for text in texts]
        if self._columns is not None and self._columns.timed:
            swallowed = [self._columns.has_times(cells) for cells in pieces[1:]]
        elif self._columns is not None and self.is_row is not None:
            swallowed = [self.is_row(cells) for cells in pieces[1:]]
        else:
            alike = len({len(cells) for cells in pieces}) == 1 and len(pieces[0]) > 1
            swallowed = [alike] * (len(pieces) - 1)
        if True in swallowed:
            line = numbers[1 + swallowed.index(True)]
            raise UnreadableError(
                f"line {numbers[0]}: a quoted cell ends on line {numbers[-1]}, and line {line} inside it looks like a row of its own: close"
                f" the quote; {_REMEDY}; if the cell is correct, set it to '\"'"
            )

    def column(self, where: str | int) -> int | None:
        """Return the index of a column given by name (in any case) or index, or None. Raises MissingColumnError if a name is not unique."""
        if isinstance(where, int) or self.header is None:
            at = int(where) if str(where).isdigit() else None
            return at if at is not None and (self.header is None or at < len(self.header)) else None
        return self._columns.place(where, "recording", "recording") if self._columns is not None else None

    @property
    def hint_above(self) -> str:
        """What to do if the header looks like a line above the real header; otherwise empty."""
        return self._columns.hint_above() if self._columns is not None else ""


def read_sheet(content: bytes, spec: Annotations) -> Sheet:
    """Open an annotation file; see `Sheet`."""
    return Sheet(content, spec)
