"""Define what an annotation format is: how a file becomes records, and which of their columns have a role."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.annotation_roles import guess_roles
from clipmill.schemas.config.model import Frozen
from clipmill.stages.annotations.column_roles import Columns
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.rows import Row, UnreadableError

Content = bytes | Mapping[str, bytes]
"""The bytes of a file; or those of the files in a folder, by name, for a format whose table is a folder."""
COMMON_KEYS = frozenset(
    "format sidecar table root recording columns fields extra_columns encoding end_tolerance_s missing_recordings".split()
)
"""Keys of `annotations` that all formats have."""
_TIMES = ("start", "end", "duration")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_MOST_COLUMNS, _MOST_KEPT = 1_000, 100_000
_MOST_CHARS, _SHOWN_CHARS = 1 << 20, 100
"""Of a text in a record, as in a cell of a sheet."""


class FileRows(Protocol):
    """The rows of an annotation file, which are read while iterating, once. See `clipmill.stages.annotations.sheet.Sheet`.

    named_by : columns that name the recording, looked up in turn, if the file shows them rather than the configuration
    """

    header: list[str] | None
    first: list[str]
    noted: Counter[str]
    unnamed_roles: dict[str, str]
    is_row: Callable[[list[str]], bool] | None
    named_by: Sequence[str]

    def __iter__(self) -> Iterator[tuple[list[str], Row]]: ...
    def column(self, where: str | int) -> int | None: ...
    @property
    def hint_above(self) -> str: ...


class Format(ABC):
    """Read one kind of annotation file. What a subclass declares decides which keys `annotations` takes, and their defaults.

    name : value of `annotations.format`
    about : one line for the documentation
    options : model of the keys that only this format has
    takes : keys that it has besides those and `COMMON_KEYS`
    roles : columns by role, unless `annotations.columns` names others
    fields : columns that are carried although they have a role, by field
    recording : columns that name the recording, or templates of them, looked up in turn; empty if files do not name their recordings,
        so that they cannot be tables
    sidecar, table : where the files are, unless the configuration says so
    folder : names of the files in the folder that a table is, with `*` for any part of a name; empty if a table is a file
    takes_files : whether a file can be a table; False if only a folder can
    beside : names, with `*`, of files beside a table that may belong to it; see `companions`
    settings : values of other keys of `annotations`, which the format fixes, or has as defaults if it takes them
    extensions : of files that are of this format, in lower case, without dot
    ignores_case : whether the extension of a sidecar may be in capitals or small letters
    """

    name: ClassVar[str]
    about: ClassVar[str]
    options: ClassVar[type[Frozen]] = Frozen
    takes: ClassVar[frozenset[str]] = frozenset()
    roles: ClassVar[Mapping[str, str | int]] = {}
    fields: ClassVar[Mapping[str, str]] = {}
    recording: ClassVar[tuple[str, ...]] = ()
    sidecar: ClassVar[str | None] = None
    table: ClassVar[str | None] = None
    folder: ClassVar[tuple[str, ...]] = ()
    takes_files: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}
    extensions: ClassVar[tuple[str, ...]] = ()
    ignores_case: ClassVar[bool] = False

    @abstractmethod
    def open(self, content: Content, spec: Annotations, path: str = "") -> FileRows:
        """Open a file. path : of the file, or of the folder, or of a table that has companions, which is part of `content` by its name

        Raises
        ------
        UnreadableError : it is not of this format; SettingError : the configuration does not fit it. Raised here or while iterating
        """

    def looks_like(self, head: str) -> bool:
        """Return whether a file is of this format, for `format: auto`. head : its first 64 kB, or all of it if it is shorter"""
        return False

    def companions(self, name: str, others: Sequence[str]) -> list[str]:
        """Return the names of the files that are read together with a table.

        Parameters
        ----------
        name : of the table's file
        others : names of the files beside it that `beside` fits
        """
        return []


@dataclass(slots=True)
class Record:
    """Hold one annotation as its file gives it.

    cells : text by column
    line : line on which it starts, from 1; 0 in a tree
    place : path in a tree, such as ``annotations[0].data[3]``; empty in a file of lines
    problem : what is wrong with its form; None if nothing is
    is_passed_over : whether it is of a kind that is no annotation of a stretch of audio; it is only counted
    notes : codes of notes on how it was read, of `clipmill.schemas.annotation_notes`; for one that is passed over, instead of the usual
        note on such records
    """

    cells: dict[str, str] = field(default_factory=dict)
    line: int = 0
    place: str = ""
    problem: str | None = None
    is_passed_over: bool = False
    notes: tuple[str, ...] = ()


class RecordFormat(Format):
    """Read a file as records.

    header : its columns; others that records have follow them
    """

    header: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def read(self, content: Any, spec: Annotations, options: Any) -> Iterable[Record]:
        """Yield the records of a file.

        Parameters
        ----------
        content : its text; or texts by name, if a table is a folder. Subclasses that read something else override `decode`
        spec : `annotations` of the source
        options : the format's own keys, as its model
        """

    def decode(self, content: Content, spec: Annotations) -> Any:
        """Return what `read` takes."""
        if isinstance(content, bytes):
            return decode_text(content, spec.encoding).lstrip("\ufeff")
        return {name: _part(name, part, spec.encoding) for name, part in content.items()}

    def open(self, content: Content, spec: Annotations, path: str = "") -> FileRows:
        options = self.options.model_validate(spec.options)
        decoded = self.decode(content, spec)
        columns = list(dict.fromkeys(n for name in self.recording for n in _PLACEHOLDER.findall(name) or [name]))
        own = [*self.header, *self.roles.values(), *self.fields.values(), *columns]
        return Grid(lambda: self.read(decoded, spec, options), spec, list(dict.fromkeys(map(str, own))), columns)


def _part(name: str, content: bytes, encoding: str) -> str:
    try:
        return decode_text(content, encoding).lstrip("\ufeff")
    except UnreadableError as error:
        raise UnreadableError(f"{name}: {error}") from None


def _bounded(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records, of which those with a text that no annotation has are shortened and have a problem."""
    for record in records:
        too_long = any(len(text) > _MOST_CHARS for text in record.cells.values())
        yield _shortened(record) if too_long else record


def _shortened(record: Record) -> Record:
    """Return a record whose texts are too long as one that is rejected for that."""
    name, text = next((name, text) for name, text in record.cells.items() if len(text) > _MOST_CHARS)
    problem = record.problem or f"{name} has {len(text):,} characters; at most {_MOST_CHARS:,} are read"
    cells = {name: text if len(text) <= _MOST_CHARS else text[:_SHOWN_CHARS] for name, text in record.cells.items()}
    return replace(record, cells=cells, problem=problem)


class TranscriptFormat(RecordFormat):
    """Read a file of texts with start and end. The text is the label, and a field as well."""

    roles: ClassVar[Mapping[str, str | int]] = {"start": "start", "end": "end", "label": "text"}
    fields: ClassVar[Mapping[str, str]] = {"text": "text"}


class Grid:
    """The rows of records: `FileRows`.

    A record without any of the columns of start, end and duration is about the whole recording, and one with a start alone extends
    to its end.

    read : returns the records from the first on. It is called twice if there are too many to keep
    header : columns that files of the format have, whether a record of this file has them or not
    aside : columns that are carried only where the configuration names them

    Raises
    ------
    UnreadableError : the records have more than 1,000 columns; MissingColumnError : none has a configured column
    """

    def __init__(
        self, read: Callable[[], Iterable[Record]], spec: Annotations, header: list[str], aside: Sequence[str] = ()
    ) -> None:
        self._spec = spec
        found: dict[str, None] = {}
        kept: list[Record] | None = []
        for record in _bounded(read()):
            if not record.cells.keys() <= found.keys():
                found.update(dict.fromkeys(record.cells))
                if len(found) > _MOST_COLUMNS:
                    raise UnreadableError(f"its records have more than {_MOST_COLUMNS:,} different keys")
            if kept is not None:
                kept.append(record)
                kept = kept if len(kept) <= _MOST_KEPT else None
        self._records: Callable[[], Iterable[Record]] = (lambda: kept) if kept is not None else lambda: _bounded(read())
        has_records = kept != []
        names = {**dict.fromkeys(header), **found}
        self._aside = {*aside, *(name for name in header if name not in found)}
        if not has_records:  # nothing shows which columns the file would have
            names.update(dict.fromkeys(str(where) for where in [*spec.roles.values(), *spec.field_columns.values()]))
        self._names = list(names)
        self.header: list[str] | None = self._names
        self.first = self._names
        self.noted: Counter[str] = Counter()
        self.unnamed_roles: dict[str, str] = {}
        self.is_row: Callable[[list[str]], bool] | None = None
        self.named_by: Sequence[str] = ()
        self._time_columns = {
            role: self._names[at]
            for role in _TIMES
            if role in spec.roles and (at := self.column(spec.roles[role])) is not None
        }
        self._by_times: dict[frozenset[str], Columns] = {}
        if has_records:
            self._columns(frozenset(self._time_columns))  # raises an error if a configured column is missing
            self._look_for_label(found)

    def __iter__(self) -> Iterator[tuple[list[str], Row]]:
        for record in self._records():
            if record.is_passed_over:
                self.noted.update(record.notes or ("records_passed_over",))
                continue
            cells = [record.cells.get(name, "") for name in self._names]
            times = frozenset(role for role, name in self._time_columns.items() if name in record.cells)
            row = self._columns(times).row(cells, record.line)
            row.noted += record.notes
            if record.problem is not None:
                row.reason, row.detail = "annotation_malformed", record.problem
            elif (role := next((r for r in times if "," in record.cells[self._time_columns[r]]), None)) is not None:
                what = record.cells[self._time_columns[role]][:50]  # no format separates thousands, as sheets do
                row.reason, row.detail = (
                    "annotation_not_a_number",
                    f"{role} is {what!r}, and the decimal sign is '.' here",
                )
            row.place = record.place
            if row.reason is not None and record.place:
                row.detail = f"{record.place}: {row.detail}"
            yield cells, row

    def _look_for_label(self, found: Mapping[str, None]) -> None:
        """Note a column that is named like a label, if the file lacks the column that the format has for it."""
        where = self._spec.roles.get("label")
        at = self.column(where) if where is not None else None
        if at is None or self._names[at] in found:
            return
        used = frozenset(map(str, [*self._spec.columns.values(), *self._spec.fields.values(), *self._aside]))
        guessed = guess_roles(tuple(found), used, frozenset(self._spec.roles) - {"label"}).get("label")
        if guessed is not None:
            self.unnamed_roles = {"label": guessed}
            self.noted["roles_not_named"] += 1

    def _columns(self, times: frozenset[str]) -> Columns:
        """Return the columns for records that have some of the times. The sign before a fraction is a point, as the formats say."""
        columns = self._by_times.get(times)
        if columns is None:
            present = times if "start" in times else frozenset()
            configured = {r: where for r, where in self._spec.columns.items() if r not in _TIMES or r in present}
            spec = self._spec.model_copy(update={"columns": configured, "decimal": "."})
            columns = Columns(spec, self.header, aside=frozenset([*self._time_columns.values(), *self._aside]))
            self._by_times[times] = columns
        return columns

    def column(self, where: str | int) -> int | None:
        """Return the index of a column, or None."""
        if isinstance(where, int):
            return where if where < len(self._names) else None
        if where in self._names:
            return self._names.index(where)
        lower = [name.lower() for name in self._names]
        return lower.index(where.lower()) if where.lower() in lower else None

    @property
    def hint_above(self) -> str:
        """Nothing: no line can be above a header."""
        return ""
