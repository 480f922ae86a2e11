"""Decide by patterns which paths a source includes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Sequence

import regex

from clipmill.pipelines.plan.annotations.table_paths import TablePaths
from clipmill.pipelines.plan.path_globs import compile_pattern, fits
from clipmill.schemas.config import AUDIO_EXTENSIONS
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.raw_config import names_extension
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.storage.root import split_name

_EXTENSIONS = frozenset(AUDIO_EXTENSIONS)
_EVERYTHING = frozenset({"*", "**", "**/*"})
_PLACEHOLDER = regex.compile(r"\{(?:stem(?:-[^{}]+)?|name)\}")


class Patterns:
    """Which paths a source includes.

    ``*`` and ``?`` match within a folder, ``**`` across folders. Everything else is literal, brackets too. A pattern
    without ``/`` matches a file's name in any folder. A pattern that ends in an extension takes files of that extension
    whatever they are; any other takes only files with a known audio extension. Case of the extension does not matter.

    any_name : take files of any extension, except those with the names of annotation files
    annotations : the source's settings of annotations
    lists : paths of files that list recordings
    """

    def __init__(
        self,
        include: list[str],
        exclude: list[str],
        any_name: bool = False,
        annotations: Sequence[Annotations] = (),
        lists: Collection[str] = (),
    ) -> None:
        self._any_name = any_name
        self._annotation_files = [_annotation_file(spec) for spec in annotations]
        self._lists = frozenset(posixpath.normpath(path) for path in lists)
        self._include = [(compile_pattern(to_nfc(p)), names_extension(p)) for p in include]
        self._exclude = [compile_pattern(to_nfc(p)) for p in exclude]
        self._all_audio = not _EVERYTHING.isdisjoint(include)

    def match(self, path: str) -> bool:
        known = split_name(path)[2] in _EXTENSIONS or (self._any_name and not self._is_annotation(path))
        # Nearly all configurations include everything, which saves a regular expression per file.
        wanted = (known and self._all_audio) or any(
            (known or named) and fits(pattern, path) for pattern, named in self._include
        )
        return wanted and not (self._exclude and any(fits(pattern, path) for pattern in self._exclude))

    def passes_over(self, path: str) -> bool:
        """Return whether a path would match if its extension were a known one."""
        if split_name(path)[2] in _EXTENSIONS or self._is_annotation(path):
            return False
        wanted = self._all_audio or any(not named and fits(pattern, path) for pattern, named in self._include)
        return wanted and not any(fits(pattern, path) for pattern in self._exclude)

    def _is_annotation(self, path: str) -> bool:
        if self._lists and to_nfc(path) in self._lists:
            return True
        return any(fits_one(path) for fits_one in self._annotation_files)

    def wants_folder(self, path: str) -> bool:
        """Return whether a folder could contain a match: an include pattern fits its beginning, and no exclude pattern fits it."""
        excluded = any(fits(pattern, path) or fits(pattern, f"{path}/x") for pattern in self._exclude)
        return not excluded and any(fits(pattern, f"{path}/", partial=True) for pattern, _ in self._include)


def _annotation_file(spec: Annotations) -> Callable[[str], bool]:
    """Return a function that tells whether a path is that of an annotation file."""
    if spec.table is not None:
        return TablePaths(spec).match
    parts = _PLACEHOLDER.split(posixpath.normpath(spec.sidecar or ""))
    ending = ""
    if find_format(spec.format).ignores_case:
        parts[-1], dot, extension = parts[-1].rpartition(".")
        ending = f"(?i:{regex.escape(dot + extension)})"
    pattern = regex.compile("(?:.*/)?" + "[^/]+".join(map(regex.escape, parts)) + ending, regex.DOTALL)
    return lambda path: fits(pattern, path)
