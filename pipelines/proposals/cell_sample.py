"""Read the beginning of delimited text as cells, and describe its columns."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.column_roles import is_number_like
from clipmill.stages.annotations.dialect import WHITESPACE, dialect, sniff_delimiter
from clipmill.stages.annotations.file_text import cut_at_blanks, decode_text, lines
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.times import EITHER, clock_seconds, number

HEAD_BYTES = 1 << 18
_MOST_ROWS = 3000
_MOST_COLUMNS = 200
_OTHER_ENCODINGS = ("cp1252", "cp949", "shift_jis", "gb18030", "latin-1")
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ufffe\uffff]")
_WORD = re.compile(r"[^\W\d_]")
_ASIAN = re.compile(rb"[\x81-\xfe][\x40-\xfe]")


@dataclass(frozen=True)
class Column:
    """The cells of a column, without empty ones. at : index from 0; name : in the header, or empty"""

    at: int
    name: str
    cells: tuple[str, ...]

    @cached_property
    def values(self) -> Counter[str]:
        return Counter(self.cells)

    @cached_property
    def numbers(self) -> list[float]:
        """Numbers of the cells that are one; clock times count as seconds."""
        found = (number(cell, EITHER) if clock_seconds(cell) is None else clock_seconds(cell) for cell in self.cells)
        return [value for value in found if value is not None]

    @property
    def is_numeric(self) -> bool:
        return bool(self.cells) and len(self.numbers) >= 0.95 * len(self.cells)

    @property
    def is_clock(self) -> bool:
        return bool(self.cells) and sum(clock_seconds(cell) is not None for cell in self.cells) >= 0.95 * len(
            self.cells
        )

    @property
    def is_whole(self) -> bool:
        return self.is_numeric and all(value.is_integer() for value in self.numbers)

    @property
    def n_words(self) -> float:
        """Mean number of words in a cell."""
        return sum(len(cell.split()) for cell in self.cells) / max(1, len(self.cells))

    @property
    def has_words(self) -> bool:
        """Whether most cells have letters."""
        return bool(self.cells) and sum(_WORD.search(cell) is not None for cell in self.cells) >= 0.6 * len(self.cells)

    @property
    def where(self) -> str | int:
        """How a configuration names the column."""
        return self.name or self.at


@dataclass
class CellSample:
    """The beginnings of one or several files of delimited text.

    header : names of the columns, or None
    rows : cells; owners : for each row what its file stands beside, or the path of the table
    delimiter, encoding : as in a configuration; encoding is `auto` if it is Unicode
    is_whole : whether all rows were read
    """

    header: list[str] | None
    rows: list[list[str]]
    owners: list[str]
    delimiter: str
    encoding: str
    is_whole: bool
    notes: list[str] = field(default_factory=list)

    @cached_property
    def columns(self) -> list[Column]:
        width = min(_MOST_COLUMNS, max((len(row) for row in self.rows), default=0))
        names = self.header or []
        repeated = {name for name, n in Counter(names).items() if n > 1}
        return [
            Column(
                at,
                names[at] if at < len(names) and names[at] and names[at] not in repeated else "",
                tuple(row[at] for row in self.rows if at < len(row) and row[at]),
            )
            for at in range(width)
        ]


def sample_cells(files: Sequence[tuple[str, bytes, bool]], named: Iterable[str] = ()) -> CellSample | None:
    """Return the cells of files that are read alike, None if they are no delimited text.

    Parameters
    ----------
    files : owner, first bytes, and whether these are all, of each file
    named : column names that only a header has
    """
    texts: list[tuple[str, str, bool]] = []
    encoding = "auto"
    notes: list[str] = []
    for owner, content, is_whole in files:
        try:
            text = decode_text(content, encoding, is_whole)
        except UnreadableError:
            found = _other_encoding(content)
            if found is None or 0 in content:
                return None
            encoding = found
            notes = [
                f"it is not Unicode; {found} fits, and so may others: check a name with letters that are not English"
            ]
            text = decode_text(content, encoding, is_whole=False)
        texts.append(
            (owner, text.lstrip("\ufeff") if is_whole else _without_last_line(text.lstrip("\ufeff")), is_whole)
        )
    if any(_NO_TEXT.search(text) is not None for _, text, _ in texts):
        return None
    firsts = [text for _, text, _ in texts if text.strip()]
    if not firsts:
        return None
    delimiter = _delimiter("".join(text if text.endswith("\n") else text + "\n" for text in firsts[:20]))
    rows: list[list[str]] = []
    owners: list[str] = []
    heads: list[list[str]] = []
    for owner, text, _ in texts:
        cells = list(islice(_rows(text, delimiter), max(1, _MOST_ROWS - len(rows))))
        if cells:
            heads.append(cells[0])
            rows += cells
            owners += [owner] * len(cells)
    if not rows:
        return None
    is_whole = all(whole for _, _, whole in texts) and len(rows) < _MOST_ROWS
    sample = CellSample(None, rows, owners, delimiter, encoding, is_whole, notes)
    if _is_header(sample, heads, frozenset(named)):
        keep = [i for i, row in enumerate(rows) if row != heads[0]]
        header = [to_nfc(name) for name in heads[0]]
        sample = CellSample(
            header, [rows[i] for i in keep], [owners[i] for i in keep], delimiter, encoding, is_whole, notes
        )
    return sample


def _rows(text: str, delimiter: str) -> Iterable[list[str]]:
    if delimiter == WHITESPACE:
        yield from (cells for line in lines(text) if (cells := cut_at_blanks(line)))
        return
    try:
        for row in csv.reader(lines(text), **dialect(delimiter, "auto", strict=False)):
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield cells
    except csv.Error:
        return


def _delimiter(text: str) -> str:
    """Return the delimiter of a text: of CSV, or blanks if the lines have the same number of words and of nothing else."""
    spec = Annotations.model_validate({"sidecar": "-", "header": False})
    found = sniff_delimiter(text, spec)
    first = [line for line in islice(lines(text), 40) if line.strip()]
    if any(found in line for line in first):
        return found
    widths = {len(cut_at_blanks(line)) for line in first}
    numbers = sum(is_number_like(cells[0]) for line in first if (cells := cut_at_blanks(line)))
    return WHITESPACE if len(widths) == 1 and 2 <= min(widths) <= 20 and numbers >= 0.5 * len(first) else found


def _is_header(sample: CellSample, heads: list[list[str]], named: frozenset[str]) -> bool:
    """Return whether the first row of each file is a header."""
    first = heads[0]
    if any(head != first for head in heads[1:]) or (len(heads) > 1 and len(sample.rows) == len(heads)):
        return False
    if not all(first) and not any(cell.lower() in named for cell in first):
        return False
    if len(set(first)) < len(first) and not any(cell.lower() in named for cell in first):
        return False
    if any(is_number_like(cell) for cell in first):
        return False
    rest = [row for row in sample.rows if row != first]
    for at, cell in enumerate(first):
        below = [row[at] for row in rest if at < len(row) and row[at]]
        if below and sum(map(is_number_like, below)) >= 0.95 * len(below):
            return True  # a word above numbers
        if normal(cell) in named:
            return True
    return False


def normal(name: str) -> str:
    """Return the name of a column in small letters, with _ between its words."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _without_last_line(text: str) -> str:
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text


def _other_encoding(content: bytes) -> str | None:
    """Return an encoding that fits bytes that are not Unicode. Two bytes at a time above ASCII speak for those of East Asia."""
    high = sum(byte >= 0x80 for byte in content)
    pairs = sum(len(match[0]) for match in _ASIAN.finditer(content) if match[0][1] >= 0x80)
    order = _OTHER_ENCODINGS if pairs < 0.9 * high else ("cp949", "shift_jis", "gb18030", *_OTHER_ENCODINGS)
    for name in order:
        try:
            decode_text(content, name, is_whole=False)
        except UnreadableError:
            continue
        return name
    return None
