"""Read sidecars: annotation files next to their recordings, one per recording.

The rows of a recording are in memory only while it is processed, so that many large sidecars do not add up.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from typing import Self

from clipmill.pipelines.plan.annotations.annotated import Annotated, M, Rows, Unusable, drained
from clipmill.pipelines.plan.annotations.rows import AmbiguousError, HeaderError, UnreadableError
from clipmill.pipelines.plan.annotations.sheet import MAX_SIDECAR_BYTES, read_sheet
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import paths_by_nfc, to_nfc
from clipmill.stages.storage.root import Root, split_name

_READERS, _BATCH, _AT_ONCE = 16, 32, 32
_LARGE_BYTES, _BATCH_BYTES = 1 << 20, 8 << 20
"""Largest size of a sidecar that is read ahead, and of those of a batch together; 32 batches take 288 MB at most."""
_HEADLESS_ENOUGH = 100
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

Content = bytes | OSError


@dataclass(kw_only=True)
class Sidecars(Annotated):
    """The sidecars of a source. `n_annotated` and `noted` count the sidecars read so far.

    other_files : paths of files that are not recordings
    links : links that cannot be read as sidecars, or that lead to folders of them, with the reason and detail to reject a recording
    key : configuration key of the annotations
    """

    spec: Annotations
    root: Root
    other_files: set[str]
    key: str
    links: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def each(self, members: list[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        """Yield recordings with the rows of their sidecars; see `Annotated.each`.

        Raises
        ------
        ConfigError : the first row of many sidecars is data where the configuration says that it is a header
        OSError : the store fails, so that other sidecars cannot be read either
        """
        for member, sidecar, content in _contents(self.root, ((m, self._sidecar_of(m.path)) for m in drained(members))):
            rows = self._rows(sidecar, content) if content is not None else self._linked(member.path) or []
            if self.noted["roles_not_named"] and not self.unnamed_roles and isinstance(content, bytes):
                self.unnamed_roles = read_sheet(content, self.spec).unnamed_roles
            self.n_annotated += bool(rows)
            yield member, rows or None

    def again(self) -> Self:
        return replace(self, n_annotated=0, noted=Counter())

    def check(self) -> None:
        self._headless.check()

    @cached_property
    def _headless(self) -> _Headless:
        return _Headless(self.key)

    @cached_property
    def _spelled(self) -> dict[str, str]:
        """Paths of other files by their NFC form."""
        return paths_by_nfc(self.other_files)

    def _sidecar_of(self, path: str) -> str | None:
        """Return the path of a recording's sidecar, or None."""
        sidecar = self._name_of(path)
        return sidecar if sidecar in self.other_files else self._spelled.get(to_nfc(sidecar))

    def _name_of(self, path: str) -> str:
        """Return the path that a recording's sidecar would have."""
        folder, stem, _ = split_name(path)
        values = {"stem": stem, "name": path[len(folder) + 1 if folder else 0 :]}
        name = _PLACEHOLDER.sub(partial(_replacement, values), str(self.spec.sidecar))
        return posixpath.normpath(f"{folder}/{name}" if folder else name)

    def _linked(self, path: str) -> Unusable | None:
        """Return why the sidecar of a recording is not read, if a link is the reason; None if there is none."""
        if not self.links:
            return None
        sidecar = self._name_of(path)
        sidecar = sidecar if sidecar in self.links else self._spelled_links.get(to_nfc(sidecar), sidecar)
        if (found := self.links.get(sidecar)) is not None:
            return Unusable(sidecar, *found)
        parents = (sidecar[: match.start()] for match in re.finditer("/", sidecar))
        link = next((parent for parent in parents if parent in self.links), None)
        if link is None or sidecar.startswith("../") or not self.root.exists(sidecar):
            return None
        return Unusable(sidecar, self.links[link][0], f"{link} is {self.links[link][1]}")

    @cached_property
    def _spelled_links(self) -> dict[str, str]:
        return paths_by_nfc(set(self.links))

    def check_one_each(self, paths: list[str]) -> None:
        """Refuse a sidecar of several recordings, since each would get all of its rows.

        Raises
        ------
        ConfigError : the message names the file and two of the recordings
        """
        first: dict[str, str] = {}
        for path in paths:
            sidecar = self._sidecar_of(path)
            if sidecar is not None and (other := first.setdefault(sidecar, path)) != path:
                raise ConfigError(
                    f"{sidecar} is the sidecar of several recordings, such as {other} and {path}, and each would get all of its rows;"
                    ' did you mean `table` with `recording`, or one file per recording, as in "{stem}.csv"?',
                    key=f"{self.key}.sidecar",
                )

    def _rows(self, sidecar: str, content: Content) -> Rows | Unusable:
        """Return the rows of a sidecar, or the reason to reject its recording if it cannot be used."""
        try:
            if isinstance(content, OSError):
                raise content
            if len(content) > MAX_SIDECAR_BYTES:
                raise UnreadableError(f"more than {MAX_SIDECAR_BYTES} bytes")
            sheet = read_sheet(content, self.spec)
            rows = [(sidecar, row) for row in sheet.rows]
        except HeaderError as error:
            self._headless.add(sidecar, error)
            return Unusable(sidecar, "annotation_unreadable", str(error))
        except AmbiguousError as error:
            return Unusable(sidecar, "annotation_ambiguous_number", str(error))
        except (UnreadableError, PermissionError, FileNotFoundError) as error:
            return Unusable(sidecar, "annotation_unreadable", str(error))
        self.noted.update(sheet.noted)
        self.noted["empty_sidecars"] += not rows
        self._headless.count_other(bool(rows))
        return rows


class _Headless:
    """Count sidecars with data where the header should be: a mistake in the configuration, or in a few files."""

    def __init__(self, key: str) -> None:
        self._key, self._first, self._n, self._n_others = key, "", 0, 0

    def count_other(self, has_rows: bool) -> None:
        """Count a sidecar that was read, if it has rows."""
        self._n_others += has_rows

    def add(self, sidecar: str, error: HeaderError) -> None:
        """Count a sidecar without header. Raises ConfigError after many of them and no other, to avoid reading the rest."""
        self._first = self._first or f"{sidecar}: {error}"
        self._n += 1
        if self._n >= _HEADLESS_ENOUGH and not self._n_others:
            self.check()

    def check(self) -> None:
        """Raise ConfigError if at least half of the sidecars lack the header. If fewer do, only their recordings are rejected."""
        if self._n and self._n >= self._n_others:
            total = self._n + self._n_others
            also = f" (as in {self._n:,} of the {total:,} sidecars read so far)" if total > 1 else ""
            raise ConfigError(f"{self._first}{also}", key=f"{self._key}.header")


def _contents(root: Root, pairs: Iterator[tuple[M, str | None]]) -> Iterator[tuple[M, str, Content | None]]:
    """Yield recordings in order, each with the path and content of its sidecar, or with an empty path and None.

    Many threads read ahead, since each waits for a disk or a store.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sidecar") as pool:
        running: deque[tuple[list[tuple[M, str | None]], Future[list[Content | None]]]] = deque()
        while batch := list(islice(pairs, _BATCH)):
            running.append((batch, pool.submit(_read_batch, root, [sidecar for _, sidecar in batch])))
            if len(running) == _AT_ONCE:
                yield from _complete(root, *running.popleft())
        while running:
            yield from _complete(root, *running.popleft())


def _complete(
    root: Root, batch: list[tuple[M, str | None]], read: Future[list[Content | None]]
) -> Iterator[tuple[M, str, Content | None]]:
    """Yield the contents of a batch. Those too long to be read ahead are read one by one."""
    contents = read.result()
    contents.reverse()
    for member, sidecar in batch:
        content = contents.pop()
        if content is None and sidecar is not None:
            content = _content(root, sidecar, MAX_SIDECAR_BYTES)
        yield member, sidecar or "", content


def _read_batch(root: Root, paths: list[str | None]) -> list[Content | None]:
    """Return contents; None for a recording without sidecar, a sidecar too long, and all after the batch's limit of bytes."""
    contents: list[Content | None] = []
    left = _BATCH_BYTES
    for path in paths:
        content = _content(root, path, _LARGE_BYTES) if left > 0 and path is not None else None
        if isinstance(content, bytes):
            left -= len(content)
            content = content if len(content) <= _LARGE_BYTES else None
        contents.append(content)
    return contents


def _replacement(values: dict[str, str], match: re.Match[str]) -> str:
    return values.get(match[1], match[0])


def _content(root: Root, path: str, limit: int) -> Content:
    """Return a sidecar's bytes, at most `limit` + 1; or the error, since it concerns a single recording."""
    try:
        return root.read_bytes(path, limit=limit + 1)
    except OSError as error:
        return error
