"""Read tables of annotations, and join their rows to the recordings of a source."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from clipmill.pipelines.plan.annotations.annotated import Annotated, M, Rows, Stray, Unusable
from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.plan.annotations.reading import Reading
from clipmill.pipelines.plan.annotations.table_paths import TablePaths
from clipmill.pipelines.plan.inventory import Inventory, is_settled
from clipmill.pipelines.plan.links import check_link
from clipmill.schemas.config import AUDIO_EXTENSIONS, Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.format import Content, FileRows
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import (
    AmbiguousError,
    HeaderError,
    MissingColumnError,
    SettingError,
    UnreadableError,
)
from clipmill.stages.annotations.sheet import MAX_TABLE_BYTES
from clipmill.stages.storage.root import Root, split_name

_NAME_HEADERS = frozenset(
    "file files filename filenames filepath fname path recording recordingid wav audio audiofile audiofilename clip clipid track id".split()
)
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(kw_only=True)
class Tables(Annotated):
    """The tables of a source, which are read when their rows are first wanted.

    spec : settings of the tables; key : their place in the configuration
    root : under which the tables are; files : what is there
    inventory : of the recordings that their rows name
    """

    spec: Annotations
    key: str
    source: Source
    root: Root
    files: Inventory
    inventory: Inventory

    def __post_init__(self) -> None:
        # The recordings are drained while their rows are wanted.
        self._recordings = self.inventory.recordings.copy()
        self._refused = [refusal.path for refusal in self.inventory.refusals]
        self._has_rows = self._has_facts = False

    def each(self, members: Iterable[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        known = frozenset(self._refused) if self._has_facts else frozenset()
        for member in members:
            if not self._has_rows and member.path not in known:
                self.read()
            yield member, self.by_path.pop(member.path, None)

    def read(self) -> None:
        """Read the tables, unless they were.

        Raises
        ------
        ConfigError : a table is missing, unreadable, or lacks a configured column
        """
        if self._has_rows:
            return
        found, finder = Annotated(), _Finder(self._recordings.paths, self._refused)
        tables = TablePaths(self.spec).tables(self.files.other_files)
        if not tables:
            raise ConfigError(f"no file under {self.root.uri('')} fits {self.spec.table!r}", key=f"{self.key}.table")
        for table in tables:
            _read_table(self, table, finder, found)
        self._has_rows = True
        if self._has_facts:
            for path in self._refused:  # whose rows are among the facts
                found.by_path.pop(path, None)
            self.by_path = found.by_path
            return
        self.by_path, self.strays, self.noted, self.unnamed_roles = (
            found.by_path,
            found.strays,
            found.noted,
            found.unnamed_roles,
        )
        self.n_annotated, self.n_ignored, self.first_ignored = len(found.by_path), found.n_ignored, found.first_ignored

    def again(self) -> Self:
        self.read()
        other = replace(
            self, by_path={path: rows.copy() for path, rows in self.by_path.items()}, noted=Counter(self.noted)
        )
        other._has_rows, other._recordings, other._refused = True, self._recordings, self._refused
        return other

    @property
    def version(self) -> str | None:
        if self._has_rows:
            return None
        paths = TablePaths(self.spec)
        tables = [path for path in sorted(self.files.other_files) if paths.match(path)]
        versions = [(path, self.files.other_files[path]) for path in tables]
        if not versions or not all(is_settled(version, self.files.listed_at_ns) for _, version in versions):
            return None
        hashed = hashlib.sha256(repr((self.key, versions)).encode())
        for path in (*self._recordings.paths, "", *self._refused):
            hashed.update(f"{path}\0".encode(errors="surrogateescape"))
        return hashed.hexdigest()

    def facts(self) -> Any:
        first = self.first_ignored
        return {
            "strays": [_plain(stray) for stray in self.strays],
            "refused": {path: _plain_rows(self.by_path[path]) for path in self._refused if path in self.by_path},
            "noted": dict(self.noted),
            "unnamed_roles": self.unnamed_roles,
            "n_annotated": self.n_annotated,
            "n_ignored": self.n_ignored,
            "first_ignored": _plain(first) if first is not None else None,
        }

    def restore(self, facts: Any) -> None:
        self.strays = [_stray(self.source.name, plain) for plain in facts["strays"]]
        self.by_path = {path: _rows(plain) for path, plain in facts["refused"].items()}
        self.noted, self.unnamed_roles = Counter(facts["noted"]), facts["unnamed_roles"]
        self.n_annotated, self.n_ignored = facts["n_annotated"], facts["n_ignored"]
        self.first_ignored = _stray(self.source.name, facts["first_ignored"]) if facts["first_ignored"] else None
        self._has_facts = True


def _plain(stray: Stray) -> list[Any]:
    return [stray.file, Reading([stray.row]).to_json(), list(stray.names), stray.why]


def _stray(source: str, plain: list[Any]) -> Stray:
    file, row, names, why = plain
    return Stray(source, file, (Reading.from_json(row).rows or [])[0], tuple(names), why)


def _plain_rows(rows: Rows) -> list[list[str]]:
    return [[file, Reading([row]).to_json()] for file, row in rows]


def _rows(plain: list[list[str]]) -> Rows:
    return [(file, (Reading.from_json(row).rows or [])[0]) for file, row in plain]


class _Finder:
    """Find recordings, and refused ones, by the names in tables."""

    def __init__(self, recordings: list[str], refused: list[str]) -> None:
        self.recordings, self.refused = Join(recordings), Join(refused)


def _read_table(tables: Tables, table: str, finder: _Finder, annotated: Annotated) -> None:
    """Add the rows of a table to those of the source."""
    spec, key, source, root = tables.spec, tables.key, tables.source, tables.root
    try:
        content = _content_of(spec, f"{key}.table", table, source, root, tables.files)
        sheet = find_format(spec.format).open(content, spec, table)
        named_by = spec.recording if isinstance(spec.recording, list) else [spec.recording]
        columns = list(sheet.named_by) or named_by
        namers = [_Namer(where, sheet, f"{key}.recording") for where in columns if where is not None]
        _join_rows(source, spec, table, sheet, namers, finder, annotated)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{root.uri(table)} does not exist", key=f"{key}.table") from None
    except MissingColumnError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.{error.under}") from None
    except SettingError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.{error.under}") from None
    except AmbiguousError as error:
        raise ConfigError(f"{table}: {error}; set the decimal sign, '.' or ','", key=f"{key}.decimal") from None
    except IsADirectoryError:
        what = f"{root.uri(table)} is a folder, and format {spec.format} reads files; give a file, or a pattern such as '**/*.csv'"
        raise ConfigError(what, key=f"{key}.table") from None
    except (UnreadableError, PermissionError) as error:
        raise ConfigError(f"cannot read {root.uri(table)}: {error}", key=f"{key}.table") from None


def _content_of(spec: Annotations, key: str, table: str, source: Source, root: Root, files: Inventory) -> Content:
    """Return the content of a table: of a file, or of the files that a format reads together.

    Raises
    ------
    ConfigError : it is too large, or a link out of the source's root
    OSError : it cannot be read
    """
    parts = TablePaths(spec).parts(table, files.other_files)
    folder = find_format(spec.format).folder
    if folder and not parts and table not in files.other_files:
        raise ConfigError(f"{root.uri(table)} has none of the files {', '.join(folder)}", key=key)
    for path in parts.values() or [table]:
        check_link(root, path, source, key, "table")
    if sum(map(root.size, parts.values() or [table])) > MAX_TABLE_BYTES:
        raise ConfigError(f"{root.uri(table)} has more than {MAX_TABLE_BYTES} bytes", key=key)
    return {name: root.read_bytes(path) for name, path in parts.items()} if parts else root.read_bytes(table)


def _join_rows(
    source: Source,
    spec: Annotations,
    table: str,
    sheet: FileRows,
    namers: list[_Namer],
    finder: _Finder,
    annotated: Annotated,
) -> None:
    """Add the rows of a table by the recording that they name. Raises HeaderError if the header names a recording."""
    join, refused = finder.recordings, finder.refused
    ignores = spec.missing_recordings == "ignore"

    def names_one(cells: list[str]) -> bool:
        plain = [cell.strip('"') for cell in cells]
        for namer in namers:
            name = namer.name(plain)
            if join.find(name)[0] is not None or refused.find(name)[0] is not None:
                return True
            if namer.is_one_column and split_name(name)[2] in AUDIO_EXTENSIONS:
                return True  # the recording is missing from the source
        return False

    if sheet.header is not None and all(namer.by_index for namer in namers) and names_one(sheet.first):
        names = ", ".join(repr(namer.name(sheet.first)) for namer in namers)
        raise HeaderError(
            f"the first row names a recording, {names}, so it is not a header: write header: false; if it is a header, give `recording`"
            " as a column name"
        )
    sheet.is_row = names_one
    n = -1
    for n, (cells, row) in enumerate(sheet):
        path, reason = None, "recording_not_found"
        for namer in namers:
            path, why = join.find(namer.name(cells))
            if path is not None:
                break
            reason = why if why == "recording_ambiguous" else reason
        else:
            wanted = [namer.name(cells) for namer in namers]
            if spec.format != "csv":  # of the columns of a format, a file often has some only
                wanted = list(filter(None, wanted)) or wanted[:1]
            if reason == "recording_not_found":
                path = next(filter(None, (refused.find(name)[0] for name in wanted)), None)
            if path is None and reason == "recording_not_found" and ignores:
                annotated.n_ignored += 1
                annotated.first_ignored = annotated.first_ignored or Stray(
                    source.name, table, row, tuple(wanted), reason
                )
                continue
            if path is None:
                if row.is_blank:  # without times, but that is not what is wrong with it
                    row.reason = row.detail = None
                if n == 0 and sheet.header is None and reason == "recording_not_found" and _is_header(wanted, cells):
                    row.reason, row.detail = (
                        "annotation_is_header",
                        f"{', '.join(map(repr, cells[:10]))}: a header? then write header: true",
                    )
                row.reason = row.reason or reason
                names = ", ".join(map(repr, wanted))
                row.detail = row.detail or (f"{row.place}: {names}" if row.place else names)
                annotated.strays.append(Stray(source.name, table, row, tuple(wanted), reason))
                continue
        rows = annotated.by_path.get(path)
        if row.is_blank:
            annotated.n_ignored += 1
            annotated.noted["rows_without_event"] += 1
            if rows is None and source.labels_by_overlap:
                annotated.by_path[path] = []
        elif rows is None:
            annotated.by_path[path] = [(table, row)]
        else:
            rows.append((table, row))
    annotated.noted.update(sheet.noted)
    if n < 0:
        annotated.noted["tables_without_rows"] += 1
    annotated.unnamed_roles = annotated.unnamed_roles or sheet.unnamed_roles


def _is_header(names: list[str], cells: list[str]) -> bool:
    """Return whether a row that names no recording is a header: a usual header word stands for the name, or every cell is one letter."""
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in names]
    return any(name in _NAME_HEADERS for name in plain) or all(len(c) == 1 and c.isalpha() for c in cells)


class _Namer:
    """Read the name of a row's recording from one column, or compose it from several by a template.

    by_index : whether the column is given by its index
    is_one_column : whether the name is one column, unchanged
    """

    def __init__(self, where: str | int, sheet: FileRows, key: str) -> None:
        self.by_index = isinstance(where, int)
        self._template = str(where) if "{" in str(where) else "{" + str(where) + "}"
        self._places: dict[str, int] = {}
        for name in _PLACEHOLDER.findall(self._template):
            place = sheet.column(where if name == str(where) else name)
            if place is None:
                known = (
                    f"it has: {', '.join(sheet.header)}{sheet.hint_above}"
                    if sheet.header
                    else "it has no header; give the column by its index, counted from 0"
                )
                raise ConfigError(f"the table has no column {name!r}; {known}", key=key)
            self._places[name] = place
        self._alone = self._places[name] if _PLACEHOLDER.fullmatch(self._template) else None
        self.is_one_column = self._alone is not None

    def name(self, cells: list[str]) -> str:
        """Return the name in a row. Missing cells count as empty."""
        if self._alone is not None:
            return cells[self._alone] if self._alone < len(cells) else ""

        def cell(match: re.Match[str]) -> str:
            at = self._places[match[1]]
            return cells[at] if at < len(cells) else ""

        return _PLACEHOLDER.sub(cell, self._template)
