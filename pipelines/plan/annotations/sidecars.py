"""Sidecars: annotation files that stand beside their recordings, read as these are gone through.

A recording's rows are in memory while it is its turn, so that many large sidecars do not add up.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
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
"""Sidecars that are read ahead are at most this long, and those of a batch together; 32 batches are 288 MB at the very most."""
_HEADLESS_ENOUGH = 100
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

Content = bytes | OSError


@dataclass(kw_only=True)
class Sidecars(Annotated):
    """A source's sidecars. `n_annotated` and `noted` count what was gone through so far.

    other_files : paths that are no recordings
    key : of the annotations in the configuration
    """

    spec: Annotations
    root: Root
    other_files: set[str]
    key: str

    def each(self, members: list[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        """Yield recordings with the rows of their sidecars; see `Annotated.each`.

        Raises
        ------
        ConfigError : the first row of many sidecars is data, and the configuration says that it is a header
        OSError : a sidecar cannot be read, and neither can others
        """
        for member, sidecar, content in _contents(self.root, ((m, self._beside(m.path)) for m in drained(members))):
            rows = self._rows(sidecar, content) if content is not None else []
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
        return paths_by_nfc(self.other_files)

    def _beside(self, path: str) -> str | None:
        """Return the path of a recording's sidecar, None where it has none."""
        folder, stem, _ = split_name(path)
        values = {"stem": stem, "name": path[len(folder) + 1 if folder else 0 :]}
        name = _PLACEHOLDER.sub(partial(_filled, values), str(self.spec.sidecar))
        sidecar = posixpath.normpath(f"{folder}/{name}" if folder else name)
        return sidecar if sidecar in self.other_files else self._spelled.get(to_nfc(sidecar))

    def check_one_each(self, paths: list[str]) -> None:
        """Refuse a file that would be the sidecar of several recordings, each of which would get all of its rows.

        Raises
        ------
        ConfigError : names the file and two of the recordings
        """
        first: dict[str, str] = {}
        for path in paths:
            sidecar = self._beside(path)
            if sidecar is not None and (other := first.setdefault(sidecar, path)) != path:
                raise ConfigError(
                    f"{sidecar} stands beside several recordings, {other} and {path} among them, and all of its rows would be those of"
                    ' each; did you mean `table` with `recording`, or a file for each recording, as in "{stem}.csv"?',
                    key=f"{self.key}.sidecar",
                )

    def _rows(self, sidecar: str, content: Content) -> Rows | Unusable:
        """Return the rows of a sidecar, or why it cannot be used, which is its recording's matter alone."""
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
        self._headless.passed(bool(rows))
        return rows


class _Headless:
    """Sidecars whose first row is data where a header should be: a mistake of the configuration, or of a few files."""

    def __init__(self, key: str) -> None:
        self._key, self._first, self._n, self._n_others = key, "", 0, 0

    def passed(self, has_rows: bool) -> None:
        self._n_others += has_rows

    def add(self, sidecar: str, error: HeaderError) -> None:
        """Count a sidecar. Raises ConfigError when so many are so and no other that the rest need not be read."""
        self._first = self._first or f"{sidecar}: {error}"
        self._n += 1
        if self._n >= _HEADLESS_ENOUGH and not self._n_others:
            self.check()

    def check(self) -> None:
        """Raise ConfigError when at least half of the sidecars are so. Fewer are rejected, each for itself."""
        if self._n and self._n >= self._n_others:
            total = self._n + self._n_others
            also = f" (it is so with {self._n:,} of {total:,} sidecars that were read)" if total > 1 else ""
            raise ConfigError(f"{self._first}{also}", key=f"{self._key}.header")


def _contents(root: Root, beside: Iterator[tuple[M, str | None]]) -> Iterator[tuple[M, str, Content | None]]:
    """Yield recordings with the contents of their sidecars in order, None of one that has none.

    They are read ahead by many threads, since each waits for a disk or a store.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sidecar") as pool:
        running: deque[tuple[list[tuple[M, str | None]], Future[list[Content | None]]]] = deque()
        while batch := list(islice(beside, _BATCH)):
            running.append((batch, pool.submit(_read_batch, root, [sidecar for _, sidecar in batch])))
            if len(running) == _AT_ONCE:
                yield from _whole(root, *running.popleft())
        while running:
            yield from _whole(root, *running.popleft())


def _whole(
    root: Root, batch: list[tuple[M, str | None]], read: Future[list[Content | None]]
) -> Iterator[tuple[M, str, Content | None]]:
    """Yield the contents of a batch; those that are too long to be read ahead are read one by one."""
    contents = read.result()
    contents.reverse()
    for member, sidecar in batch:
        content = contents.pop()
        if content is None and sidecar is not None:
            content = _content(root, sidecar, MAX_SIDECAR_BYTES)
        yield member, sidecar or "", content


def _read_batch(root: Root, paths: list[str | None]) -> list[Content | None]:
    """Return contents, None of files that are not there or too long, and of all that come when the batch has enough."""
    contents: list[Content | None] = []
    left = _BATCH_BYTES
    for path in paths:
        content = _content(root, path, _LARGE_BYTES) if left > 0 and path is not None else None
        if isinstance(content, bytes):
            left -= len(content)
            content = content if len(content) <= _LARGE_BYTES else None
        contents.append(content)
    return contents


def _filled(values: dict[str, str], match: re.Match[str]) -> str:
    return values.get(match[1], match[0])


def _content(root: Root, path: str, limit: int) -> Content:
    """Return a sidecar's bytes, one more than `limit` at most; or what went wrong, since one that cannot be read is that recording's
    matter alone."""
    try:
        return root.read_bytes(path, limit=limit + 1)
    except OSError as error:
        return error
