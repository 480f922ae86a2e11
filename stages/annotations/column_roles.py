"""Find the columns of an annotation file: times, label, channel and fields."""

from __future__ import annotations

import re
from bisect import bisect_left

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.annotation_roles import guess_roles
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import HINT, HeaderError, MissingColumnError, Row, field_name
from clipmill.stages.annotations.times import Times

_MAX_SHARED = 10_000
_NUMBER = re.compile(r"[+-]?[0-9][0-9.,:]*(?:[eE][+-]?[0-9]+)?|[+-]?[.,][0-9]+")
_WORDS = re.compile(r"(?!(?:nan?|inf|infinity|none|null|nil)\Z)[^\W\d_](?:[^\W\d_]|\Z)", re.IGNORECASE)
_WHOLE, _DIGITS, _HUNDREDS = map(re.compile, (r"[+-]?[0-9]{1,10}", r"[0-9]{1,10}", r"[0-9]{3}"))
_REMARK = re.compile(r"#|%|//|;|--")
_CHANNEL = re.compile(r"0*([1-9][0-9]{0,4})(?:\.0*)?")


def is_number_like(text: str) -> bool:
    """Return whether a cell is a number in any notation for times, such as 0:01.5 or 1,5."""
    return _NUMBER.fullmatch(text) is not None


class _Shared(dict[str, str]):
    """Map equal strings to one string in NFC, which saves memory: most columns of a large table repeat a few values."""

    def __missing__(self, text: str) -> str:
        name = to_nfc(text)
        if len(self) < _MAX_SHARED:
            self[text] = name
        return name


class Columns:
    """Read rows of an annotation file by its columns. aside : columns that are not carried"""

    def __init__(self, spec: Annotations, header: list[str] | None, aside: frozenset[str] = frozenset()) -> None:
        self.written = [to_nfc(name) for name in header] if header is not None else []
        self.header = _unique(self.written) if header is not None else None
        self._comment = spec.comment
        self._known = {name: self._find(name, where) for name, where in spec.roles.items()}
        carried = {name: self._find(name, where, name in spec.fields) for name, where in spec.field_columns.items()}
        extra: dict[str, int] = {}
        if self.header is not None and spec.extra_columns == "carry":
            used = {*self._known.values(), *carried.values()}
            own = spec.recording if isinstance(spec.recording, str) else None
            reserved = {*self._known, *carried, own, *aside}
            extra = {name: i for i, name in enumerate(self.header) if i not in used and name not in reserved}
        carried_first = _unique([field_name(name) for name in (*carried, *extra)])
        by_stored = dict(zip(carried_first, (*carried.values(), *extra.values()), strict=True))
        self._names, self._places = tuple(by_stored), list(by_stored.values())
        self._from_left = sorted((at, name) for name, at in by_stored.items())
        configured = carried | self._known
        self._needed = [(name, configured[name]) for name in {**spec.columns, **spec.fields}]
        self._label, self._channel = self._known.get("label"), self._known.get("channel")
        self._width = max((*self._places, *self._known.values()), default=-1) + 1
        self._time_places: dict[str, int] = {
            n: self._known[n] for n in ("start", "end", "duration") if n in self._known
        }
        self.times = Times(spec, self._time_places)
        self._timed = bool(self._time_places)
        self._shared = _Shared()

    def looks_like_row(self, cells: list[str], spec: Annotations) -> str | None:
        """Return the cells that make a header look like a row, numbers in the columns of times; None if there are none.

        A column given by name is in the header, even if its name is a number.
        """
        times = self._time_places
        if not times or any(isinstance(spec.roles[name], str) for name in times):
            return None
        numbers = [f"{cells[at]!r} for columns.{name}" for name, at in times.items() if is_number_like(cells[at])]
        return " and ".join(numbers) or None

    def unnamed_roles(self, spec: Annotations) -> dict[str, str]:
        """Return the columns of the header, by role, that are probably meant as a role and not named as one."""
        if self.header is None:
            return {}
        header = self.header
        recording = spec.recording if isinstance(spec.recording, list) else [spec.recording]
        named = [str(where).lower() for where in recording if where is not None]
        places = {self._find(name, where, name in spec.fields) for name, where in spec.field_columns.items()}
        used = {header[at] for at in (*places, *self._known.values())}
        used |= {name for name in header if name.lower() in named or any(f"{{{name.lower()}}}" in n for n in named)}
        return guess_roles(tuple(header), frozenset(used), frozenset(spec.roles))

    def looks_like_header(self, cells: list[str]) -> bool:
        """Return whether a row has words in the columns of times, like a header."""
        times = self._time_places.values()
        return bool(times) and all(at < len(cells) and _WORDS.match(cells[at]) for at in times)

    def has_times(self, cells: list[str]) -> bool:
        """Return whether cells have a number for each time, apart from stray quotes; False if no time is read."""
        times = self._time_places.values()
        return bool(times) and all(at < len(cells) and is_number_like(cells[at].strip(' "')) for at in times)

    @property
    def timed(self) -> bool:
        """Whether rows have times."""
        return self._timed

    def label_of(self, cells: list[str]) -> str | None:
        """Return the cell that is read as the label, or None."""
        return self._shared[cells[self._label]] if self._label is not None and self._label < len(cells) else None

    def _find(self, name: str, where: int | str, under_fields: bool = False) -> int:
        under = "fields" if under_fields else "columns"
        key = f"{under}.{name}"
        if isinstance(where, int):
            if self.header is not None and where >= len(self.header):
                raise MissingColumnError(
                    f"{key}: the file has no column {where}; the header has {len(self.header)}", under
                )
            return where
        header = self.header or []
        if (at := self.place(where, key, under)) is not None:
            return at
        missing = f"{key}: the file has no column {where!r}"
        if sum(map(is_number_like, header)) * 2 >= len(header) > 0:
            raise HeaderError(
                f"{missing}; the first row is {', '.join(header[:10])}, which looks like data: if it is, write header: false and give"
                " columns by their index, counted from 0"
            )
        raise MissingColumnError(f"{missing}; the header has: {', '.join(header)}{self.hint_above()}", under)

    def place(self, name: str, key: str, under: str) -> int | None:
        """Return the index of a name in the header, in any case of its letters; None if it is missing.

        Raises
        ------
        MissingColumnError : the header has the name more than once
        """
        same = [at for at, written in enumerate(self.written) if written == name]
        if not same and self.header is not None and name in self.header:
            return self.header.index(name)
        same = same or [at for at, written in enumerate(self.written) if written.lower() == name.lower()]
        if len(same) > 1:
            places = " and ".join(map(str, same[:10]))
            raise MissingColumnError(
                f"{key}: columns {places} of the header are all called {name!r}; give the index of the right one, counted from"
                f" 0, as in {key.rpartition('.')[2]}: {same[0]}",
                under,
            )
        return same[0] if same else None

    def hint_above(self) -> str:
        """Return what to do if the header looks like a line above the real header; otherwise an empty text."""
        first = next(iter(self.header or []), "")
        sign = _REMARK.match(first)
        if sign is not None and self._comment is None:
            return f"{HINT}if lines that begin with {sign[0]} are comments, set annotations.comment: '{sign[0]}'"
        if self.header is not None and len(self.header) == 1 and " " in first:
            return f"{HINT}if this line is above the real header, remove it, or set annotations.comment to its first characters"
        return ""

    def row(self, cells: list[str], line: int) -> Row:
        """Return a row, with a reason if it is rejected. line : number of its first line, from 1"""
        if len(cells) < self._width:
            row = self._short(cells, line)
        else:
            shared = self._shared
            label = shared[cells[self._label]] or None if self._label is not None else None
            values = tuple([shared[cells[at]] for at in self._places])
            row = Row(line, None, None, label, self._names, values)
        if self.header is not None and len(cells) > len(self.header) and any(cells[len(self.header) :]):
            self._too_wide(row, cells, len(self.header))
        if self._timed and row.reason is None:
            self.times.read(row, cells)
            row.is_blank = row.reason is not None and not any(cells[at] for _, at in self._needed)
        if self._channel is not None and row.reason is None:
            self._choose_channel(row, cells[self._channel])
        return row

    def _short(self, cells: list[str], line: int) -> Row:
        """Read a row that ends before the last column in use. The cost depends on its own cells, not on the header."""
        row = Row(line)
        present = self._from_left[: bisect_left(self._from_left, (len(cells), ""))]
        row.names, row.values = tuple(name for _, name in present), tuple(self._shared[cells[at]] for at, _ in present)
        for name, at in self._needed:
            if at >= len(cells):
                row.reason = "annotation_missing_column"
                row.detail = f"no column {name!r}: the row has {len(cells)} cells"
        row.label = self.label_of(cells) or None
        return row

    def _too_wide(self, row: Row, cells: list[str], n_columns: int) -> None:
        """Note that a row has more cells than the header; reject it if its times may have been cut at a comma in them."""
        row.noted += ("rows_too_wide",)
        whole = self._rejoined(cells, n_columns, _HUNDREDS) or self._rejoined(cells, n_columns, _DIGITS)
        times = [whole[at] for at in self._time_places.values()] if whole is not None else []
        cut = [time for time in times if "," in time]
        by_chance = len(cut) < len(times) and any(
            len(time.rsplit(",", 1)[1]) != 3 for time in cut
        )  # one cell too many, not decimals
        if whole is not None and cut and not by_chance and all(map(is_number_like, times)):
            row.reason = "annotation_split_number"
            row.detail = f"the row has {len(cells)} cells and the header {n_columns}: " + ", ".join(
                f"{name} is {cells[at]} or {whole[at]}" for name, at in self._time_places.items()
            )

    def _rejoined(self, cells: list[str], n_columns: int, first: re.Pattern[str]) -> list[str] | None:
        """Return cells in which times that may have been cut at a comma are joined again; None if the width is not the header's then.

        first : pattern of the cell that can follow a time's whole part, thousands or any digits
        """
        times, whole, at = set(self._time_places.values()), list[str](), 0
        surplus = len(cells) - n_columns
        while at < len(cells):
            cell, is_time = cells[at], len(whole) in times and _WHOLE.fullmatch(cells[at])
            at += 1
            group = first
            while is_time and surplus and at < len(cells) and group.fullmatch(cells[at]):
                cell, at, surplus = f"{cell},{cells[at]}", at + 1, surplus - 1
                group = _HUNDREDS  # more groups can follow thousands, none can follow a fraction
                if len(cells[at - 1]) != 3:
                    break
            whole.append(cell)
        return whole if len(whole) == n_columns else None

    def _choose_channel(self, row: Row, text: str) -> None:
        """Read the channel, counted from 1; spreadsheets write 1 as 1.0."""
        match = _CHANNEL.fullmatch(text)
        if match is None:
            row.reason, row.detail = "annotation_not_a_channel", f"channel is {text[:50]!r}"
        else:
            row.channel = int(match[1])


def _unique(names: list[str]) -> list[str]:
    """Return unique names: an empty one becomes `column_` and its index, a repeated one gets a number."""
    result: dict[str, None] = {}
    last: dict[str, int] = {}
    for i, name in enumerate(names):
        plain = unique = name or f"column_{i}"
        n = last.get(plain, 1)
        while unique in result:
            n += 1
            unique = f"{plain}_{n}"
        last[plain] = n
        result[unique] = None
    return list(result)
