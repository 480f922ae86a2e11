"""Annotate: read a source's annotation files and join their rows to its recordings."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipelines.annotation_files import (
    MAX_SIDECAR_BYTES,
    MAX_TABLE_BYTES,
    MissingColumnError,
    Row,
    UnreadableError,
    read_rows,
)
from pipelines.inventory import Inventory, Recording
from schemas.config import AUDIO_EXTENSIONS, Annotations, Source
from schemas.errors import ConfigError
from schemas.storage import Root


@dataclass(frozen=True)
class Stray:
    """A row that belongs to no recording."""

    source: str
    file: str
    row: Row


@dataclass
class Annotated:
    """Rows by recording path, in file order. by_path has no entry for a recording without annotations."""

    by_path: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)
    strays: list[Stray] = field(default_factory=list)

    @property
    def field_names(self) -> set[str]:
        rows = (row for rows in self.by_path.values() for _, row in rows)
        return {name for row in rows for name in row.fields}


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
        return _sidecars(spec, spec.sidecar, root, inventory)
    return _table(spec, str(spec.table), source, root, inventory)


def _sidecars(spec: Annotations, template: str, root: Root, inventory: Inventory) -> Annotated:
    found = Annotated()
    for recording in inventory.recordings:
        path = PurePosixPath(recording.path)
        name = template.replace("{stem}", path.stem).replace("{name}", path.name)
        sidecar = str(path.parent / name)
        if sidecar not in inventory.other_files:
            continue
        try:
            if root.size(sidecar) > MAX_SIDECAR_BYTES:
                raise UnreadableError(f"more than {MAX_SIDECAR_BYTES} bytes")
            rows = [(sidecar, row) for row in read_rows(root.read_bytes(sidecar), spec)]
        except (UnreadableError, PermissionError, FileNotFoundError) as error:
            rows = [(sidecar, Row(line=1, reason="annotation_unreadable", detail=str(error)))]
        if rows:
            found.by_path[recording.path] = rows
    return found


def _table(spec: Annotations, table: str, source: Source, root: Root, inventory: Inventory) -> Annotated:
    key = f"sources.{source.name}.annotations"
    try:
        if root.size(table) > MAX_TABLE_BYTES:
            raise ConfigError(f"{root.uri(table)} has more than {MAX_TABLE_BYTES} bytes", key=f"{key}.table")
        rows = list(read_rows(root.read_bytes(table), spec))
    except FileNotFoundError:
        raise ConfigError(f"{root.uri(table)} does not exist", key=f"{key}.table") from None
    except MissingColumnError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.columns") from None
    except (UnreadableError, PermissionError, IsADirectoryError) as error:
        raise ConfigError(f"cannot read {root.uri(table)}: {error}", key=f"{key}.table") from None
    join = _Join(inventory.recordings)
    names = spec.recording if isinstance(spec.recording, list) else [spec.recording]
    found = Annotated()
    for row in rows:
        wanted = [_recording_name(n, row, rows[0], key) for n in names if n is not None]
        path, reason = None, "recording_not_found"
        for name in wanted:
            path, reason = join.find(name)
            if path is not None:
                break
        if path is not None:
            found.by_path.setdefault(path, []).append((table, row))
        else:
            row.reason = row.reason or reason
            row.detail = row.detail or f"{', '.join(repr(w) for w in wanted)}"
            found.strays.append(Stray(source.name, table, row))
    return found


def _recording_name(where: str | int, row: Row, first: Row, key: str) -> str:
    """Return the recording's name that a row gives by a column or a template of columns."""
    text = str(where)
    if "{" in text:
        for name, cell in row.cells.items():
            text = text.replace("{" + name + "}", cell)
        if "{" in text and all(("{" + n + "}") not in text for n in first.cells):
            raise ConfigError(
                f"{where!r} names a column that the table does not have; it has: {', '.join(first.cells)}",
                key=f"{key}.recording",
            )
        return text
    if text not in first.cells:
        raise ConfigError(f"the table has no column {text!r}; it has: {', '.join(first.cells)}", key=f"{key}.recording")
    return row.cells.get(text, "")


class _Join:
    """Finds the recording that a name in a table stands for: by path, then file name, then stem."""

    def __init__(self, recordings: list[Recording]) -> None:
        self._paths = {_plain(r.path): r.path for r in recordings}
        self._names: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for r in recordings:
            path = PurePosixPath(_plain(r.path))
            self._names.setdefault(path.name, []).append(r.path)
            self._stems.setdefault(path.stem, []).append(r.path)

    def find(self, name: str) -> tuple[str | None, str]:
        """Return the recording's path, or None and the reason."""
        wanted = _plain(name.replace("\\", "/")).removeprefix("./").lstrip("/")
        if not wanted:
            return None, "recording_not_found"
        if wanted in self._paths:
            return self._paths[wanted], ""
        path = PurePosixPath(wanted)
        candidates = self._names.get(path.name, [])
        if not candidates:
            stem = path.stem if path.suffix.lower().lstrip(".") in AUDIO_EXTENSIONS else path.name
            candidates = self._stems.get(stem, [])
        if len(candidates) > 1 and path.parent.name:
            folder = f"{path.parent}/"
            candidates = [c for c in candidates if f"/{_plain(c)}".rfind(f"/{folder}") >= 0] or candidates
        if len(candidates) == 1:
            return candidates[0], ""
        return None, "recording_ambiguous" if candidates else "recording_not_found"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
