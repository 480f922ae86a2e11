"""Find the annotations of a source, and join the rows of a table to its recordings."""

from __future__ import annotations

import re

from clipmill.pipelines.plan.annotations.annotated import Annotated, Stray
from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.plan.annotations.joined import Joined
from clipmill.pipelines.plan.annotations.sidecars import Sidecars
from clipmill.pipelines.plan.annotations.table_paths import TablePaths
from clipmill.pipelines.plan.inventory import Inventory, take_inventory
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
_UNIT_S = {"s": 1.0, "ms": 1e-3, "samples": 1.0}
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def annotate(source: Source, root: Root, inventory: Inventory) -> Annotated:
    """Read the annotations of a source: a table at once, sidecars as their recordings are iterated.

    Raises
    ------
    ConfigError : the table is missing, unreadable, or lacks a configured column; or several recordings share one sidecar
    """
    if source.annotations is None:
        return Annotated()
    key = f"sources.{source.name}.annotations"
    first = _annotate(source, source.annotations, key, root, inventory)
    if not source.joins:
        return first
    others = [
        _annotate(source, spec, f"sources.{source.name}.joins[{k}]", root, inventory)
        for k, spec in enumerate(source.joins)
    ]
    return Joined(first=first, others=others, units_s=_units_s(source)).with_strays()


def _units_s(source: Source) -> list[float]:
    """Return the seconds per unit of the times of a source's annotations, the first of which may count samples.

    Raises
    ------
    ConfigError : times of some follow each recording's rate, and those of others do not, so that they cannot be compared
    """
    specs = source.all_annotations
    timed = [spec for spec in specs if "start" in spec.columns] or specs[:1]
    if len({spec.row_unit == "samples" for spec in timed}) > 1:
        raise ConfigError(
            "times in samples of each recording's own rate cannot be compared with times in seconds; give"
            " time_unit: {samples_at_hz: ...}",
            key=f"sources.{source.name}.joins",
        )
    return [_UNIT_S[spec.row_unit] for spec in specs]


def _annotate(source: Source, spec: Annotations, key: str, root: Root, inventory: Inventory) -> Annotated:
    """Read one of the annotations of a source. key : its place in the configuration"""
    files = inventory
    if spec.root is not None:
        elsewhere = source.model_copy(update={"root": spec.root, "exclude": ["**"], "annotations": spec, "joins": []})
        root = Root(spec.root, source.storage_options if "://" in spec.root else {})
        files = take_inventory(elsewhere, root)
    if spec.sidecar is not None:
        sidecars = Sidecars(
            spec=spec,
            root=root,
            other_files=files.other_files,
            links=files.links,
            listed_at_ns=files.listed_at_ns,
            key=key,
        )
        if _PLACEHOLDER.search(spec.sidecar) is None:
            sidecars.check_one_each(inventory.recordings.paths)
        return sidecars
    annotated = Annotated()
    finder = _Finder(inventory)
    tables = TablePaths(spec).tables(files.other_files)
    if not tables:
        raise ConfigError(f"no file under {root.uri('')} fits {spec.table!r}", key=f"{key}.table")
    for table in tables:
        _table(spec, key, table, source, root, files, finder, annotated)
    annotated.n_annotated = len(annotated.by_path)
    return annotated


class _Finder:
    """Find recordings, and refused ones, by the names in tables."""

    def __init__(self, inventory: Inventory) -> None:
        self.recordings = Join(inventory.recordings.paths)
        self.refused = Join([refusal.path for refusal in inventory.refusals])


def _table(
    spec: Annotations,
    key: str,
    table: str,
    source: Source,
    root: Root,
    files: Inventory,
    finder: _Finder,
    annotated: Annotated,
) -> None:
    """Add the rows of a table to those of the source."""
    try:
        content = _content_of(spec, f"{key}.table", table, source, root, files)
        sheet = find_format(spec.format).open(content, spec, table)
        columns = spec.recording if isinstance(spec.recording, list) else [spec.recording]
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
    except (UnreadableError, PermissionError, IsADirectoryError) as error:
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
    for n, (cells, row) in enumerate(sheet):
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
                annotated.n_ignored += 1
                annotated.first_ignored = annotated.first_ignored or Stray(
                    source.name, table, row, tuple(wanted), reason
                )
                continue
            if path is None:
                if n == 0 and sheet.header is None and reason == "recording_not_found" and _is_header(wanted, cells):
                    row.reason, row.detail = (
                        "annotation_is_header",
                        f"{', '.join(map(repr, cells[:10]))}: a header? then write header: true",
                    )
                row.reason = row.reason or reason
                row.detail = row.detail or f"{', '.join(repr(w) for w in wanted)}"
                annotated.strays.append(Stray(source.name, table, row, tuple(wanted), reason))
                continue
        rows = annotated.by_path.get(path)
        if rows is None:
            annotated.by_path[path] = [(table, row)]
        else:
            rows.append((table, row))
    annotated.noted.update(sheet.noted)
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
