"""Find the files of a source's tables: one file, all that fit a pattern, or those that a format reads together."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from fnmatch import fnmatchcase

from clipmill.pipelines.plan.path_globs import compile_pattern, fits
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.registered import find_format

_WILD = re.compile(r"[*?]")


class TablePaths:
    """The paths of the tables that `annotations.table` means, and of the files that are read with each."""

    def __init__(self, spec: Annotations) -> None:
        self._kind = find_format(spec.format)
        self._table = to_nfc(posixpath.normpath(str(spec.table)))
        self._pattern = compile_pattern(self._table) if _WILD.search(self._table) else None

    def match(self, path: str) -> bool:
        """Return whether a file is a table, one of the files of a table that is a folder, or one that may belong to a table."""
        name = path if path.isascii() else to_nfc(path)
        if name == self._table or (self._kind.takes_files and self._is_table(name)):
            return True
        folder, base = posixpath.split(name)
        if _fits_any(base, self._kind.folder) and self._is_table(folder or "."):
            return True
        if not _fits_any(base, self._kind.beside):
            return False
        return self._pattern is not None or posixpath.dirname(self._table) == folder

    def _is_table(self, name: str) -> bool:
        return name == self._table or (self._pattern is not None and fits(self._pattern, name))

    def tables(self, paths: Collection[str]) -> list[str]:
        """Return the tables: files, sorted by path; or folders. A path that no file has is returned as it is configured.

        paths : of the files that are not recordings
        """
        by_name = {to_nfc(path): path for path in paths}
        if self._table in by_name:
            return [by_name[self._table]]
        if self._pattern is None:
            return [self._table]
        folders = {
            folder
            for folder, base in map(posixpath.split, paths)
            if _fits_any(base, self._kind.folder) and fits(self._pattern, folder or ".")
        }
        files = {path for path in paths if fits(self._pattern, path)} if self._kind.takes_files else set()
        return sorted(folders | files)

    def parts(self, table: str, paths: Collection[str]) -> dict[str, str]:
        """Return the files of a table by name: those in it if it is a folder, or itself and those that belong to it; none if it stands alone.

        paths : of the files that are not recordings
        """
        if not self._kind.folder and not self._kind.beside:
            return {}
        if table not in paths:
            own = [path for path in sorted(paths) if to_nfc(posixpath.dirname(path) or ".") == to_nfc(table)]
            return {base: path for path in own if _fits_any(base := posixpath.basename(path), self._kind.folder)}
        folder, name = posixpath.split(table)
        beside = {
            base: path
            for path in sorted(paths)
            if path != table
            and posixpath.dirname(path) == folder
            and _fits_any(base := posixpath.basename(path), self._kind.beside)
        }
        companions = self._kind.companions(name, list(beside))
        return {name: table, **{base: beside[base] for base in companions}} if companions else {}


def _fits_any(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
