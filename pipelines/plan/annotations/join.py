"""Find the recordings that the names in a table refer to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from clipmill.schemas.config import AUDIO_EXTENSIONS
from clipmill.schemas.names import to_nfc
from clipmill.stages.storage.root import split_name


class Join:
    """Find the recording that a name in a table refers to: by path, then file name, then stem.

    A name with folders fits a recording only if one of the two paths ends with the other.
    """

    def __init__(self, paths: list[str]) -> None:
        self._paths = {path: path for path in paths}
        self._names = _index(paths, _name)
        self._stems: dict[str, str | list[str]] | None = None  # built when a name is first missing

    def find(self, name: str) -> tuple[str | None, str]:
        """Return the recording's path, or None and the reason."""
        wanted = name.replace("\\", "/").removeprefix("./").lstrip("/")
        if not wanted:
            return None, "recording_not_found"
        if (exact_path := self._paths.get(wanted)) is not None:
            return exact_path, ""
        plain = to_nfc(wanted)
        if "/" not in plain and isinstance(only := self._names.get(plain), str):
            return only, ""  # a shortcut for most rows of most tables
        path = PurePosixPath(plain)
        matches = [c for c in _candidates(self._names, path.name) if _ends_alike(to_nfc(c), str(path))]
        exact = [c for c in matches if PurePosixPath(c).name == PurePosixPath(wanted).name]
        if not matches:
            has_extension = path.suffix.lower().lstrip(".") in AUDIO_EXTENSIONS
            stem_path = path.with_suffix("") if has_extension else path
            if self._stems is None:
                self._stems = _index(list(self._paths), _stem)
            stems = _candidates(self._stems, stem_path.name)
            matches = [c for c in stems if _ends_alike(str(PurePosixPath(to_nfc(c)).with_suffix("")), str(stem_path))]
        for candidates in (exact, matches):
            if len(candidates) == 1:
                return candidates[0], ""
        return None, "recording_ambiguous" if matches else "recording_not_found"


def _index(paths: list[str], key: Callable[[str], str]) -> dict[str, str | list[str]]:
    """Return paths by a key: one path, or a list of the paths that share the key."""
    index: dict[str, str | list[str]] = {}
    for path in paths:
        first = index.setdefault(key(path), path)
        if isinstance(first, list):
            first.append(path)
        elif first is not path:
            index[key(path)] = [first, path]
    return index


def _candidates(index: dict[str, str | list[str]], key: str) -> list[str]:
    paths = index.get(key, [])
    return [paths] if isinstance(paths, str) else paths


def _name(path: str) -> str:
    return to_nfc(path).rpartition("/")[2]


def _stem(path: str) -> str:
    return split_name(to_nfc(path))[1]


def _ends_alike(a: str, b: str) -> bool:
    return f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")
