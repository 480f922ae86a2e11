"""Find the files of a source's tables: one file, all that fit a pattern, or those in a folder that a format reads together."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

from clipmill.pipelines.plan.path_globs import compile_pattern, fits
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.registered import find_format

_WILD = re.compile(r"[*?]")


class TablePaths:
    """The paths of the tables that `annotations.table` means."""

    def __init__(self, spec: Annotations) -> None:
        self._table = to_nfc(posixpath.normpath(str(spec.table)))
        self._pattern = compile_pattern(self._table) if _WILD.search(self._table) else None
        self._in_folder = frozenset(
            posixpath.normpath(posixpath.join(self._table, name)) for name in find_format(spec.format).folder
        )

    def match(self, path: str) -> bool:
        """Return whether a file is a table, or one of the files of a table that is a folder."""
        name = path if path.isascii() else to_nfc(path)
        return (
            name == self._table or name in self._in_folder or (self._pattern is not None and fits(self._pattern, path))
        )

    def tables(self, paths: Collection[str]) -> list[str]:
        """Return the tables: files, sorted by path; or the folder. A path that no file has is returned as it is configured.

        paths : of the files that are not recordings
        """
        by_name = {to_nfc(path): path for path in paths}
        if self._table in by_name:
            return [by_name[self._table]]
        if self._pattern is None:
            return [self._table]
        return sorted(path for path in paths if fits(self._pattern, path))

    def parts(self, paths: Collection[str]) -> dict[str, str]:
        """Return the files in the folder that a table is, by name."""
        return {posixpath.basename(path): path for path in sorted(paths) if to_nfc(path) in self._in_folder}
