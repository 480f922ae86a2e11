"""Inventory: list a source's recordings, each with its version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import regex

from schemas.config import AUDIO_EXTENSIONS, Source
from schemas.errors import ClipmillError, ConfigError
from schemas.storage import Root
from stages.versions import info_version, stat_version, version_of

_EXTENSIONS = frozenset(AUDIO_EXTENSIONS)
_MATCH_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Recording:
    """A file that is to be read. path : relative to the source's root, parts joined by ``/``."""

    source: str
    path: str
    size_bytes: int
    version: str

    @property
    def recording_id(self) -> str:
        return f"{self.source}/{self.path}"


@dataclass(frozen=True)
class Refusal:
    """A file that was listed and is rejected unread."""

    source: str
    path: str
    reason: str
    detail: str


@dataclass
class Inventory:
    """What a source holds. other_files : paths that are no recordings, where sidecars are looked up."""

    recordings: list[Recording] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    other_files: set[str] = field(default_factory=set)


class Patterns:
    """Which paths a source includes.

    ``*`` and ``?`` match within a folder, ``**`` across folders; everything else, brackets too, stands for itself. A pattern
    without ``/`` matches a file's name in any folder. A pattern that ends in an extension takes files of that extension
    whatever they are; any other takes only files with a known audio extension. Case of the extension does not matter.
    """

    def __init__(self, include: list[str], exclude: list[str]) -> None:
        self._include = [(_compile(p), _names_extension(p)) for p in include]
        self._exclude = [_compile(p) for p in exclude]

    def match(self, path: str) -> bool:
        known = PurePosixPath(path).suffix.lower().lstrip(".") in _EXTENSIONS
        try:
            wanted = any(
                (known or named) and pattern.fullmatch(path, timeout=_MATCH_TIMEOUT_S)
                for pattern, named in self._include
            )
            return wanted and not any(pattern.fullmatch(path, timeout=_MATCH_TIMEOUT_S) for pattern in self._exclude)
        except TimeoutError:
            raise ConfigError(f"an include or exclude pattern takes too long on {path!r}; use fewer stars") from None


def _names_extension(pattern: str) -> bool:
    suffix = PurePosixPath(pattern).suffix
    return len(suffix) > 1 and "*" not in suffix and "?" not in suffix


def _compile(pattern: str) -> regex.Pattern[str]:
    text = pattern if "/" in pattern else f"**/{pattern}"
    out, i = "", 0
    while i < len(text):
        if text.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif text.startswith("**", i):
            out, i = out + ".*", i + 2
        elif text[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif text[i] == "?":
            out, i = out + "[^/]", i + 1
        else:
            out, i = out + regex.escape(text[i]), i + 1
    return regex.compile(out, regex.DOTALL)


def take_inventory(source: Source, root: Root) -> Inventory:
    """List a source. Hidden files and folders (``.name``) are not looked at.

    Raises
    ------
    ClipmillError : the root or a folder in it cannot be listed; a silent gap would look like removed recordings
    """
    patterns = Patterns(source.include, source.exclude)
    inventory = Inventory()
    keep_others = source.annotations is not None and source.annotations.sidecar is not None
    try:
        listing = _local(source, root, inventory) if root.is_local else _remote(root)
        for path, size, version in listing:
            if not patterns.match(path):
                if keep_others:
                    inventory.other_files.add(path)
                continue
            if not _is_text(path):
                inventory.refusals.append(
                    Refusal(source.name, _printable(path), "bad_name", "the name is not valid UTF-8")
                )
                continue
            if source.version == "sha256":
                version = version_of(root, path, "sha256")
            inventory.recordings.append(Recording(source.name, path, size, version))
    except FileNotFoundError:
        raise ClipmillError(f"source {source.name!r}: {source.root} does not exist") from None
    except NotADirectoryError:
        raise ClipmillError(f"source {source.name!r}: {source.root} is a file; root must be a folder") from None
    except PermissionError as error:
        raise ClipmillError(
            f"source {source.name!r}: cannot list {error.filename or source.root}: {error.strerror}"
        ) from None
    inventory.recordings.sort(key=lambda r: r.path)
    return inventory


def _local(source: Source, root: Root, inventory: Inventory) -> Iterator[tuple[str, int, str]]:
    top = root.full()
    real_top = os.path.realpath(top)
    seen = {real_top}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{top}/{folder}" if folder else top) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    inside = real == real_top or real.startswith(real_top + os.sep)
                    if not inside and not source.follow_links:
                        if entry.is_dir() or Patterns(source.include, source.exclude).match(path):
                            detail = "a link to " + ("a folder" if entry.is_dir() else "a file") + " outside the root"
                            inventory.refusals.append(
                                Refusal(source.name, _printable(path), "link_outside_root", detail)
                            )
                        continue
                    if entry.is_dir():
                        # Inside the root the folder is listed under its own name; following it would list it twice.
                        if source.follow_links and real not in seen and not inside:
                            seen.add(real)
                            folders.append(path)
                        continue
                if entry.is_dir():
                    folders.append(path)
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    if Patterns(source.include, source.exclude).match(path):
                        inventory.refusals.append(
                            Refusal(source.name, _printable(path), "recording_missing", "a broken link")
                        )
                    continue
                if entry.is_file():
                    yield path, status.st_size, stat_version(status)


def _remote(root: Root) -> Iterator[tuple[str, int, str]]:
    base = root.full()
    root.fs.invalidate_cache()
    found = root.fs.find(base, detail=True)
    if not found and not root.fs.exists(base):
        raise FileNotFoundError(base)
    for name, info in found.items():
        path = str(name)[len(base) :].lstrip("/")
        if path and info.get("type") == "file" and not any(part.startswith(".") for part in path.split("/")):
            yield path, int(info["size"] or 0), info_version(info)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
