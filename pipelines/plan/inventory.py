"""List the recordings of a source, each with its version."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from clipmill.pipelines.plan.annotations.table_paths import TablePaths
from clipmill.pipelines.plan.links import is_in
from clipmill.pipelines.plan.path_patterns import Patterns
from clipmill.pipelines.plan.recording_list import Recording, RecordingList
from clipmill.schemas.config import Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root, split_name
from clipmill.stages.storage.versions import info_version, stat_version, version_of

_MAX_EXTENSION, _MAX_EXTENSIONS, _EXTENSIONS_SHOWN = 12, 1000, 8
NO_EXTENSION, OTHERS = "none", "others"
_HASHERS = 8
UNSETTLED_NS = 2_000_000_000
"""Files that were changed later than this before they were listed are read again; FAT, the coarsest, counts in steps of 2 s."""


@dataclass(frozen=True)
class Refusal:
    """A listed file that is rejected without being read."""

    source: str
    path: str
    reason: str
    detail: str


@dataclass
class Inventory:
    """What a source holds.

    other_files : versions of files that are not recordings, by path; annotation files are looked up among them. A local one has the time
        of its last change of any kind (ctime) in it, which no program sets back
    links : links that cannot be read as sidecars, or that lead to folders of them: the reason and the detail to reject a recording
        with; empty unless the source has sidecars
    listed_at_ns : when the listing began
    passed_over : number of files that are not recordings only because of their extension, by extension (``.txt``, `NO_EXTENSION`, or
        `OTHERS` for what does not look like one). Excluded files and annotation files are not counted
    """

    recordings: RecordingList
    refusals: list[Refusal] = field(default_factory=list)
    other_files: dict[str, str] = field(default_factory=dict)
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
    listed_at_ns: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def paths(self) -> list[str]:
        """Paths of all listed files, refused ones too, so that their annotations are recognised."""
        return self.recordings.paths + [r.path for r in self.refusals]


def take_inventory(source: Source, root: Root, lists: Collection[str] = ()) -> Inventory:
    """List a source. Hidden files and folders (``.name``) are not looked at. lists : paths of files that list recordings

    Raises
    ------
    ClipmillError : the root or a folder in it cannot be listed; a silent gap would look like removed recordings
    """
    patterns = Patterns(source.include, source.exclude, source.any_name, source.all_annotations, lists)
    inventory = Inventory(RecordingList(source.name), listed_at_ns=time.time_ns())
    keep = _kept_others(source.all_annotations)
    try:
        listing = _Walk(source, root, inventory, patterns).files() if root.is_local else _remote(root)
        for path, size, version, changed in listing:
            if not patterns.match(path):
                if keep is not None and keep(path):
                    inventory.other_files[path] = f"{version}{changed}"
                if patterns.passes_over(path):
                    _count(path, inventory.passed_over)
                continue
            if _leads_out(path):
                detail = "its key has . or .. for a part, or begins with /"
                inventory.refusals.append(Refusal(source.name, _printable(path), "bad_name", detail))
                continue
            if not (path.isascii() or _is_text(path)):
                inventory.refusals.append(
                    Refusal(source.name, _printable(path), "bad_name", "the name is not valid UTF-8")
                )
                continue
            inventory.recordings.add(path, size, version)
    except FileNotFoundError:
        raise ClipmillError(f"source {source.name!r}: {source.root} does not exist", code="source.unreadable") from None
    except NotADirectoryError:
        raise ClipmillError(
            f"source {source.name!r}: {source.root} is a file; root must be a folder", code="source.unreadable"
        ) from None
    except OSError as error:
        if isinstance(error, PermissionError) and root.is_local:
            where = error.filename or source.root
            raise ClipmillError(
                f"source {source.name!r}: cannot list {where}: {error.strerror}", code="source.unreadable"
            ) from None
        raise describe_os_error(error, root, f"list source {source.name!r} at") from None
    if source.version == "sha256":
        _hash(source, root, inventory)
    inventory.recordings.sort()
    return inventory


def _kept_others(specs: list[Annotations]) -> Callable[[str], bool] | None:
    """Return which files that are not recordings are kept in an inventory, None if none are."""
    tables = [TablePaths(spec).match for spec in specs if spec.table is not None]
    if len(tables) < len(specs):
        return lambda path: True
    if len(tables) == 1:
        return tables[0]
    return (lambda path: any(match(path) for match in tables)) if tables else None


def is_settled(version: str, listed_at_ns: int) -> bool:
    """Return whether a version of `Inventory.other_files` tells every later change of the file.

    A file that was changed just before it was listed can change again without a change of its times. Stores without ETags tell too little.
    """
    if version.startswith("etag-"):
        return True
    _, *times = version.split("-")
    return len(times) == 2 and all(t.isdecimal() and int(t) < listed_at_ns - UNSETTLED_NS for t in times)


def _count(path: str, passed_over: Counter[str]) -> None:
    """Count a file by its extension. The counter stays small even if names end in a dot and a number."""
    extension = split_name(path)[2]
    name = f".{extension}" if extension else NO_EXTENSION
    if extension and not (extension.isalnum() and len(extension) <= _MAX_EXTENSION):
        name = OTHERS
    if name not in passed_over and len(passed_over) >= _MAX_EXTENSIONS:
        name = OTHERS
    passed_over[name] += 1


def most_first(passed_over: Mapping[str, int]) -> dict[str, int]:
    """Return counts in descending order, ties by name."""
    return dict(sorted(passed_over.items(), key=lambda pair: (-pair[1], pair[0])))


def passed_over_text(passed_over: Mapping[str, int]) -> str:
    """Return ``84 files are not audio by name: .m4b 3, .spx 3, none 7``, the most frequent extensions first."""
    total = sum(passed_over.values())
    named = [(name, n) for name, n in most_first(passed_over).items() if name != OTHERS]
    # A single remaining extension is named: "others 1" would take the same space.
    shown = named if len(named) == _EXTENSIONS_SHOWN + 1 else named[:_EXTENSIONS_SHOWN]
    parts = [f"{name} {n:,}" for name, n in shown]
    if others := total - sum(n for _, n in shown):
        parts.append(f"{OTHERS} {others:,}")
    return f"{total:,} {'file is' if total == 1 else 'files are'} not audio by name: {', '.join(parts)}"


def _hash(source: Source, root: Root, inventory: Inventory) -> None:
    """Replace the recordings' versions by hashes of their contents, computed in several threads."""

    def hashed(recording: Recording) -> Recording | Refusal:
        try:
            return replace(recording, version=version_of(root, recording.path, "sha256"))
        except FileNotFoundError:
            return Refusal(source.name, recording.path, "recording_missing", "the file went while it was listed")
        except PermissionError as error:
            return Refusal(source.name, recording.path, "unreadable", hide_secrets(str(error.strerror)))

    results = RecordingList(source.name)
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="sha256") as pool:
        try:
            for result in pool.map(hashed, inventory.recordings):
                if isinstance(result, Refusal):
                    inventory.refusals.append(result)
                else:
                    results.add(result.path, result.size_bytes, result.version)
        except OSError as error:
            raise describe_os_error(error, root, f"read source {source.name!r} at") from None
    inventory.recordings = results


class _Walk:
    """List a local tree in the order of names. Links that lead out of it are followed only on request."""

    def __init__(self, source: Source, root: Root, inventory: Inventory, patterns: Patterns) -> None:
        self._source, self._inventory, self._patterns = source, inventory, patterns
        self._has_sidecars = any(spec.sidecar is not None for spec in source.all_annotations)
        self._top = root.full()
        self._real_top = os.path.realpath(self._top)
        self._seen = {self._real_top}
        self._of_sidecars: list[str] = []

    def files(self) -> Iterator[tuple[str, int, str, str]]:
        yield from self._list([""])
        # Linked folders that can hold sidecars alone come last, so that no recording is listed under another name because of them.
        self._seen = {self._real_top}
        for path, size_bytes, version, changed in self._list(self._of_sidecars):
            if not self._patterns.match(path):
                yield path, size_bytes, version, changed

    def _list(self, folders: list[str]) -> Iterator[tuple[str, int, str, str]]:
        while folders:
            folder = folders.pop()
            with os.scandir(f"{self._top}/{folder}" if folder else self._top) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
            for entry in listed:
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if entry.is_symlink() and not self._enter_link(entry, path):
                        continue
                    if entry.is_dir():
                        if self._is_new(entry):
                            folders.append(path)
                    elif entry.is_file():
                        status = entry.stat()
                        yield path, status.st_size, stat_version(status), f"-{status.st_ctime_ns}"
                    elif entry.is_symlink() and not os.path.exists(entry.path):
                        raise FileNotFoundError
                    elif self._patterns.match(path):
                        self._refuse(path, "not_audio", "a pipe, a socket or a device")
                except OSError as error:
                    if not (isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP):
                        raise
                    if self._patterns.match(path):
                        self._refuse(path, "recording_missing", "a link that leads nowhere")
                    elif self._has_sidecars and entry.is_symlink():
                        self._inventory.links[path] = ("annotation_unreadable", "a link that leads nowhere")

    def _enter_link(self, entry: os.DirEntry[str], path: str) -> bool:
        """Return whether to list a link. If not, it may be refused with a reason."""
        real = os.path.realpath(entry.path)
        is_folder = entry.is_dir()
        if is_in(real, self._real_top):
            return not is_folder  # a folder inside the root is listed under its own name
        wanted = self._patterns.wants_folder(path) if is_folder else self._patterns.match(path)
        if self._source.follow_links:
            if is_folder and not wanted and self._has_sidecars:
                self._of_sidecars.append(path)
            return wanted or not is_folder
        detail = f"a link to a {'folder' if is_folder else 'file'} outside the root"
        if self._has_sidecars:
            self._inventory.links[path] = ("link_outside_root", detail)
        if wanted:
            self._refuse(path, "link_outside_root", detail)
        return False

    def _is_new(self, entry: os.DirEntry[str]) -> bool:
        """Return whether a folder is listed for the first time: links can lead to it twice."""
        if not self._source.follow_links:
            return True
        real = os.path.realpath(entry.path)
        if real in self._seen:
            return False
        self._seen.add(real)
        return True

    def _refuse(self, path: str, reason: str, detail: str) -> None:
        self._inventory.refusals.append(Refusal(self._source.name, _printable(path), reason, detail))


def _remote(root: Root) -> Iterator[tuple[str, int, str, str]]:
    for path, info in root.remote_files():
        if info.get("type") == "file" and not any(p.startswith(".") and p not in (".", "..") for p in path.split("/")):
            yield path, int(info["size"] or 0), info_version(info), ""


def _leads_out(path: str) -> bool:
    """Return whether a store's key leads out of its root, or is not a path."""
    return path.startswith(("/", "./", "../")) or "/./" in path or "/../" in path or path.endswith(("/.", "/.."))


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
