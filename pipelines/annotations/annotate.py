"""Annotate: read a source's annotation files and join their rows to its recordings."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from pipelines.annotations.join import Join
from pipelines.annotations.rows import AmbiguousError, HeaderError, MissingColumnError, Row, UnreadableError
from pipelines.annotations.sheet import MAX_SIDECAR_BYTES, MAX_TABLE_BYTES, Sheet, read_sheet
from pipelines.inventory import Inventory
from schemas.annotation_config import Annotations
from schemas.config import AUDIO_EXTENSIONS, Source
from schemas.errors import ConfigError
from schemas.names import composed
from schemas.storage import Root, split_name

_READERS, _BATCH, _AT_ONCE = 16, 32, 32
_LARGE_BYTES, _BATCH_BYTES = 1 << 20, 8 << 20
"""Sidecars that are read ahead are at most this long, and those of a batch together; 32 batches are 288 MB at the very most."""
_HEADLESS_ENOUGH = 100
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Stray:
    """A row that belongs to no recording. names : by which it was looked for."""

    source: str
    file: str
    row: Row
    names: tuple[str, ...] = ()


@dataclass
class Annotated:
    """Rows by path of a recording, refused ones too, in file order. by_path has no entry for one without annotations.

    n_ignored : rows whose recording is not there, where the configuration says to ignore them
    noted : how files were understood, by `schemas.noted`
    """

    by_path: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)
    strays: list[Stray] = field(default_factory=list)
    n_ignored: int = 0
    noted: Counter[str] = field(default_factory=Counter)

    @property
    def field_names(self) -> set[str]:
        return {name for rows in self.by_path.values() for _, row in rows for name in row.names}


def annotate(source: Source, root: Root, inventory: Inventory) -> Annotated:
    """Read the annotations of a source.

    Raises
    ------
    ConfigError : the table is missing, unreadable, or lacks a column that the configuration names
    """
    spec = source.annotations
    if spec is None:
        return Annotated()
    if spec.sidecar is not None:
        return _sidecars(spec, spec.sidecar, root, inventory, f"sources.{source.name}.annotations")
    return _table(spec, str(spec.table), source, root, inventory)


def _sidecars(spec: Annotations, template: str, root: Root, inventory: Inventory, key: str) -> Annotated:
    found = Annotated()
    headless = _Headless(key)
    beside: list[tuple[str, str]] = []
    spelled = _spelled(inventory)
    for path in inventory.paths:
        folder, stem, _ = split_name(path)
        values = {"stem": stem, "name": path[len(folder) + 1 if folder else 0 :]}
        name = _PLACEHOLDER.sub(partial(_filled, values), template)
        sidecar = posixpath.normpath(f"{folder}/{name}" if folder else name)
        there = sidecar if sidecar in inventory.other_files else spelled.get(composed(sidecar))
        if there is not None:
            beside.append((path, there))
    for (path, sidecar), content in zip(beside, _contents(root, [sidecar for _, sidecar in beside]), strict=True):
        try:
            if isinstance(content, OSError):
                raise content
            if len(content) > MAX_SIDECAR_BYTES:
                raise UnreadableError(f"more than {MAX_SIDECAR_BYTES} bytes")
            sheet = read_sheet(content, spec)
            rows = [(sidecar, row) for row in sheet.rows]
            found.noted.update(sheet.noted)
            found.noted["empty_sidecars"] += not rows
            headless.passed(bool(rows))
        except HeaderError as error:
            headless.add(sidecar, error)
            rows = [(sidecar, Row(line=1, reason="annotation_unreadable", detail=str(error)))]
        except AmbiguousError as error:
            rows = [(sidecar, Row(line=1, reason="annotation_ambiguous_number", detail=str(error)))]
        except (UnreadableError, PermissionError, FileNotFoundError) as error:
            rows = [(sidecar, Row(line=1, reason="annotation_unreadable", detail=str(error)))]
        if rows:
            found.by_path[path] = rows
    headless.check()
    return found


def _spelled(inventory: Inventory) -> dict[str, str]:
    """Return the paths of files that are no recordings by their names in NFC, where that can be another spelling."""
    return {composed(path): path for path in inventory.other_files if not path.isascii()}


class _Headless:
    """Sidecars whose first row is data where a header should be: a mistake of the configuration, or of a few files."""

    def __init__(self, key: str) -> None:
        self._key, self._first, self._n, self._n_others = key, "", 0, 0

    def passed(self, has_rows: bool) -> None:
        self._n_others += has_rows

    def add(self, sidecar: str, error: HeaderError) -> None:
        """Count a sidecar. Raises ConfigError when so many are so and no other that the rest need not be read."""
        self._first = self._first or f"{sidecar}: {error}"
        self._n += 1
        if self._n >= _HEADLESS_ENOUGH and not self._n_others:
            self.check()

    def check(self) -> None:
        """Raise ConfigError when at least half of the sidecars are so. Fewer are rejected, each for itself."""
        if self._n and self._n >= self._n_others:
            total = self._n + self._n_others
            also = f" (it is so with {self._n:,} of {total:,} sidecars that were read)" if total > 1 else ""
            raise ConfigError(f"{self._first}{also}", key=f"{self._key}.header")


def _contents(root: Root, paths: list[str]) -> Iterator[bytes | OSError]:
    """Yield the contents of sidecars in order, read by many threads, since each waits for a disk or a store."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sidecar") as pool:
        running: deque[tuple[list[str], Future[list[bytes | OSError | None]]]] = deque()
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            running.append((batch, pool.submit(_read_batch, root, batch)))
            if len(running) == _AT_ONCE:
                yield from _whole(root, *running.popleft())
        while running:
            yield from _whole(root, *running.popleft())


def _whole(root: Root, paths: list[str], read: Future[list[bytes | OSError | None]]) -> Iterator[bytes | OSError]:
    """Yield the contents of a batch; those that are too long to be read ahead are read one by one."""
    contents = read.result()
    contents.reverse()
    for path in paths:
        content = contents.pop()
        yield content if content is not None else _content(root, path, MAX_SIDECAR_BYTES)


def _read_batch(root: Root, paths: list[str]) -> list[bytes | OSError | None]:
    """Return contents, None of files that are too long, and of all that come when the batch has enough."""
    contents: list[bytes | OSError | None] = []
    left = _BATCH_BYTES
    for path in paths:
        content = _content(root, path, _LARGE_BYTES) if left > 0 else None
        if isinstance(content, bytes):
            left -= len(content)
            content = content if len(content) <= _LARGE_BYTES else None
        contents.append(content)
    return contents


def _filled(values: dict[str, str], match: re.Match[str]) -> str:
    return values.get(match[1], match[0])


def _content(root: Root, path: str, limit: int) -> bytes | OSError:
    """Return a sidecar's bytes, one more than `limit` at most; or what went wrong, since one that cannot be read is that recording's
    matter alone."""
    try:
        return root.read_bytes(path, limit=limit + 1)
    except OSError as error:
        return error


def _table(spec: Annotations, table: str, source: Source, root: Root, inventory: Inventory) -> Annotated:
    key = f"sources.{source.name}.annotations"
    table = _spelled(inventory).get(table, table)
    try:
        if root.size(table) > MAX_TABLE_BYTES:
            raise ConfigError(f"{root.uri(table)} has more than {MAX_TABLE_BYTES} bytes", key=f"{key}.table")
        sheet = read_sheet(root.read_bytes(table), spec)
        listed = spec.recording if isinstance(spec.recording, list) else [spec.recording]
        namers = [_Namer(where, sheet, f"{key}.recording") for where in listed if where is not None]
        return _joined(source, table, sheet, namers, inventory)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{root.uri(table)} does not exist", key=f"{key}.table") from None
    except MissingColumnError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.columns") from None
    except HeaderError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.header") from None
    except AmbiguousError as error:
        raise ConfigError(f"{table}: {error}; say which sign is decimal, '.' or ','", key=f"{key}.decimal") from None
    except (UnreadableError, PermissionError, IsADirectoryError) as error:
        raise ConfigError(f"cannot read {root.uri(table)}: {error}", key=f"{key}.table") from None


def _joined(source: Source, table: str, sheet: Sheet, namers: list[_Namer], inventory: Inventory) -> Annotated:
    """Give a table's rows to the recordings that they name."""
    join, refused = Join([r.path for r in inventory.recordings]), Join([r.path for r in inventory.refusals])
    found = Annotated()
    ignores = source.annotations is not None and source.annotations.missing_recordings == "ignore"

    def names_one(cells: list[str]) -> bool:
        plain = [cell.strip('"') for cell in cells]
        for namer in namers:
            name = namer.name(plain)
            if join.find(name)[0] is not None or refused.find(name)[0] is not None:
                return True
            if namer.is_one_column and split_name(name)[2] in AUDIO_EXTENSIONS:
                return True  # of a recording that is not there
        return False

    if sheet.header is not None and all(namer.by_index for namer in namers) and names_one(sheet.first):
        named = ", ".join(repr(namer.name(sheet.first)) for namer in namers)
        raise HeaderError(
            f"the first row names a recording, {named}, so it is no header: write header: false (if it is one, give `recording` by"
            " its name)"
        )
    sheet.is_row = names_one
    for cells, row in sheet:
        path, reason = None, "recording_not_found"
        for namer in namers:
            path, reason = join.find(namer.name(cells))
            if path is not None:
                break
        else:
            wanted = [namer.name(cells) for namer in namers]
            if reason == "recording_not_found":
                path = next(filter(None, (refused.find(name)[0] for name in wanted)), None)
            if path is None and reason == "recording_not_found" and ignores:
                found.n_ignored += 1
                continue
            if path is None:
                row.reason = row.reason or reason
                row.detail = row.detail or f"{', '.join(repr(w) for w in wanted)}"
                found.strays.append(Stray(source.name, table, row, tuple(wanted)))
                continue
        rows = found.by_path.get(path)
        if rows is None:
            found.by_path[path] = [(table, row)]
        else:
            rows.append((table, row))
    found.noted.update(sheet.noted)
    return found


class _Namer:
    """Reads the name of a row's recording off one column, or puts it together from several by a template.

    by_index : of a column that is not given by its name
    is_one_column : and no template
    """

    def __init__(self, where: str | int, sheet: Sheet, key: str) -> None:
        self.by_index = isinstance(where, int)
        self._template = str(where) if "{" in str(where) else "{" + str(where) + "}"
        self._places: dict[str, int] = {}
        for name in _PLACEHOLDER.findall(self._template):
            place = sheet.column(where if name == str(where) else name)
            if place is None:
                known = (
                    f"it has: {', '.join(sheet.header)}"
                    if sheet.header
                    else "it has no header, give the column's index"
                )
                raise ConfigError(f"the table has no column {name!r}; {known}", key=key)
            self._places[name] = place
        self._alone = self._places[name] if _PLACEHOLDER.fullmatch(self._template) else None
        self.is_one_column = self._alone is not None

    def name(self, cells: list[str]) -> str:
        """Return the name in a row; a cell that the row lacks is empty."""
        if self._alone is not None:
            return cells[self._alone] if self._alone < len(cells) else ""

        def cell(match: re.Match[str]) -> str:
            at = self._places[match[1]]
            return cells[at] if at < len(cells) else ""

        return _PLACEHOLDER.sub(cell, self._template)
