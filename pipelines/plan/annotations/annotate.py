"""Find the annotations of a source, and join the rows of a table to its recordings."""

from __future__ import annotations

import re

from clipmill.pipelines.plan.annotations.annotated import Annotated, Stray
from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.plan.annotations.rows import AmbiguousError, HeaderError, MissingColumnError, UnreadableError
from clipmill.pipelines.plan.annotations.sheet import MAX_TABLE_BYTES, Sheet, read_sheet
from clipmill.pipelines.plan.annotations.sidecars import Sidecars
from clipmill.pipelines.plan.inventory import Inventory
from clipmill.pipelines.plan.links import check_link
from clipmill.schemas.config import AUDIO_EXTENSIONS, Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import paths_by_nfc
from clipmill.stages.storage.root import Root, split_name

_NAME_HEADERS = frozenset(
    "file files filename filenames filepath fname path recording recordingid wav audio audiofile audiofilename clip clipid track id".split()
)
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def annotate(source: Source, root: Root, inventory: Inventory) -> Annotated:
    """Read the annotations of a source: a table at once, sidecars as their recordings are iterated.

    Raises
    ------
    ConfigError : the table is missing, unreadable, or lacks a configured column; or several recordings share one sidecar
    """
    spec = source.annotations
    if spec is None:
        return Annotated()
    if spec.sidecar is not None:
        sidecars = Sidecars(
            spec=spec,
            root=root,
            other_files=inventory.other_files,
            links=inventory.links,
            key=f"sources.{source.name}.annotations",
        )
        if _PLACEHOLDER.search(spec.sidecar) is None:
            sidecars.check_one_each(inventory.recordings.paths)
        return sidecars
    return _table(spec, str(spec.table), source, root, inventory)


def _table(spec: Annotations, table: str, source: Source, root: Root, inventory: Inventory) -> Annotated:
    key = f"sources.{source.name}.annotations"
    table = paths_by_nfc(inventory.other_files).get(table, table)
    check_link(root, table, source, f"{key}.table", "table")
    try:
        if root.size(table) > MAX_TABLE_BYTES:
            raise ConfigError(f"{root.uri(table)} has more than {MAX_TABLE_BYTES} bytes", key=f"{key}.table")
        sheet = read_sheet(root.read_bytes(table), spec)
        columns = spec.recording if isinstance(spec.recording, list) else [spec.recording]
        namers = [_Namer(where, sheet, f"{key}.recording") for where in columns if where is not None]
        return _join_rows(source, table, sheet, namers, inventory)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{root.uri(table)} does not exist", key=f"{key}.table") from None
    except MissingColumnError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.{error.under}") from None
    except HeaderError as error:
        raise ConfigError(f"{table}: {error}", key=f"{key}.header") from None
    except AmbiguousError as error:
        raise ConfigError(f"{table}: {error}; set the decimal sign, '.' or ','", key=f"{key}.decimal") from None
    except (UnreadableError, PermissionError, IsADirectoryError) as error:
        raise ConfigError(f"cannot read {root.uri(table)}: {error}", key=f"{key}.table") from None


def _join_rows(source: Source, table: str, sheet: Sheet, namers: list[_Namer], inventory: Inventory) -> Annotated:
    """Return the rows of a table by the recording that they name. Raises HeaderError if the header names a recording."""
    join, refused = Join(inventory.recordings.paths), Join([r.path for r in inventory.refusals])
    annotated = Annotated()
    ignores = source.annotations is not None and source.annotations.missing_recordings == "ignore"

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
    annotated.unnamed_roles = sheet.unnamed_roles
    annotated.n_annotated = len(annotated.by_path)
    return annotated


def _is_header(names: list[str], cells: list[str]) -> bool:
    """Return whether a row that names no recording is a header: a usual header word stands for the name, or every cell is one letter."""
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in names]
    return any(name in _NAME_HEADERS for name in plain) or all(len(c) == 1 and c.isalpha() for c in cells)


class _Namer:
    """Read the name of a row's recording from one column, or compose it from several by a template.

    by_index : whether the column is given by its index
    is_one_column : whether the name is one column, unchanged
    """

    def __init__(self, where: str | int, sheet: Sheet, key: str) -> None:
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
