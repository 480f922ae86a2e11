"""Read sidecars: annotation files next to their recordings, one per recording.

The rows of a recording are in memory only while it is processed, so that many large sidecars do not add up.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from typing import Self

from clipmill.pipelines.plan.annotations.annotated import Annotated, M, Rows, T, Unusable
from clipmill.pipelines.plan.annotations.reading import Content, Reading, read_content
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import paths_by_nfc, to_nfc
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.sheet import MAX_SIDECAR_BYTES
from clipmill.stages.storage.root import Root, split_name

_READERS, _BATCH, _AT_ONCE = 16, 32, 32
_LARGE_BYTES, _BATCH_BYTES = 1 << 20, 8 << 20
"""Largest size of a sidecar that is read ahead, and of those of a batch together; 32 batches take 288 MB at most."""
_ENOUGH = 100
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(kw_only=True)
class Sidecars(Annotated):
    """The sidecars of a source. `n_annotated` and `noted` count the sidecars read so far.

    other_files : versions of files that are not recordings, by path
    listed_at_ns : when they were listed
    links : links that cannot be read as sidecars, or that lead to folders of them, with the reason and detail to reject a recording
    key : configuration key of the annotations
    known : returns what a sidecar gave when it was read, see `Reading.to_json`, given the paths of its recording and its own; None if
        it must be read
    starting : called before a recording's sidecar is counted
    on_read : called with the same paths after a sidecar was read
    keeps_empty : whether a sidecar without rows gives an empty list, not None: that there is nothing to be heard
    is_lasting : False once a sidecar gave something that it may not give again, unchanged, among other recordings
    """

    spec: Annotations
    root: Root
    other_files: dict[str, str]
    listed_at_ns: int = 0
    key: str = ""
    links: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    known: Callable[[str, str], str | None] | None = None
    on_read: Callable[[str, str, Reading], None] | None = None
    starting: Callable[[], None] | None = None
    keeps_empty: bool = False
    is_lasting: bool = True
    n_with_rows: int = 0

    def each(self, members: Iterable[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        """Yield recordings with the rows of their sidecars; see `Annotated.each`.

        Raises
        ------
        ConfigError : many sidecars show that the configuration is wrong, such as data where it says that there is a header
        OSError : the store fails, so that other sidecars cannot be read either
        """
        for (member, sidecar, text), _, content in _contents(self.root, map(self._wanted, members)):
            rows: Rows | Unusable = []
            if self.starting is not None:
                self.starting()
            if sidecar is None and (linked := self._linked(member.path)) is not None:
                rows = linked
                self.count(1, 0)
            if sidecar is not None:
                if text is not None:
                    reading = Reading.from_json(text)
                else:
                    reading = read_content(content or b"", self.spec, sidecar)
                    if self.on_read is not None:
                        self.on_read(member.path, sidecar, reading)
                rows = self._count(sidecar, reading)
            yield member, rows if self.keeps_empty and sidecar is not None else rows or None

    def _wanted(self, member: M) -> tuple[tuple[M, str | None, str | None], str | None]:
        """Return a recording with its sidecar and what that gave when it was read, and the sidecar only if it is to be read."""
        sidecar = self.sidecar_of(member.path)
        text = self.known(member.path, sidecar) if self.known is not None and sidecar is not None else None
        return (member, sidecar, text), sidecar if text is None else None

    def _count(self, sidecar: str, reading: Reading) -> Rows | Unusable:
        """Count a sidecar, and return its rows."""
        if reading.under:
            self._unfitting.add(sidecar, reading.detail, reading.under)
        self.is_lasting = self.is_lasting and reading.is_lasting and not reading.under
        rows = reading.of(sidecar)
        if isinstance(rows, Unusable):
            self.count(1, 0)
            return rows
        self.noted.update(reading.noted)
        self.unnamed_roles = self.unnamed_roles or reading.unnamed_roles
        self.count(bool(rows), bool(rows))
        return rows

    def count(self, n_annotated: int, n_with_rows: int) -> None:
        """Count sidecars with rows, and with these those that are unusable. n_annotated : of both"""
        self.n_annotated += n_annotated
        self.n_with_rows += n_with_rows
        self._unfitting.count_other(n_with_rows)

    def again(self) -> Self:
        return replace(self, n_annotated=0, n_with_rows=0, noted=Counter())

    def check(self) -> None:
        self._unfitting.check()

    @cached_property
    def _unfitting(self) -> _Unfitting:
        return _Unfitting(self.key)

    @cached_property
    def _spelled(self) -> dict[str, str]:
        """Paths of other files by their NFC form."""
        return paths_by_nfc(self.other_files)

    def sidecar_of(self, path: str) -> str | None:
        """Return the path of a recording's sidecar, or None."""
        sidecar = self._name_of(path)
        names = [sidecar]
        if find_format(self.spec.format).ignores_case:
            start, dot, extension = sidecar.rpartition(".")
            names += [start + dot + extension.lower(), start + dot + extension.upper()]
        found = (name if name in self.other_files else self._spelled.get(to_nfc(name)) for name in names)
        return next(filter(None, found), None)

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
            sidecar = self.sidecar_of(path)
            if sidecar is not None and (other := first.setdefault(sidecar, path)) != path:
                raise ConfigError(
                    f"{sidecar} is the sidecar of several recordings, such as {other} and {path}, and each would get all of its rows;"
                    ' did you mean `table` with `recording`, or one file per recording, as in "{stem}.csv"?',
                    key=f"{self.key}.sidecar",
                )


class _Unfitting:
    """Count sidecars that a key of the configuration does not fit: a mistake in the configuration, or in a few files."""

    def __init__(self, key: str) -> None:
        self._key, self._first, self._under, self._n, self._n_others = key, "", "", 0, 0

    def count_other(self, n: int) -> None:
        """Count sidecars that were read and have rows."""
        self._n_others += n

    def add(self, sidecar: str, error: str, under: str) -> None:
        """Count a sidecar that does not fit. Raises ConfigError after many of them and no other, to avoid reading the rest.

        under : the key
        """
        if not self._first:
            self._first, self._under = f"{sidecar}: {error}", under
        self._n += 1
        if self._n >= _ENOUGH and not self._n_others:
            self.check()

    def check(self) -> None:
        """Raise ConfigError if at least half of the sidecars do not fit. If fewer do not, only their recordings are rejected."""
        if self._n and self._n >= self._n_others:
            total = self._n + self._n_others
            also = f" (as in {self._n:,} of the {total:,} sidecars read so far)" if total > 1 else ""
            raise ConfigError(f"{self._first}{also}", key=f"{self._key}.{self._under}")


def _contents(root: Root, pairs: Iterator[tuple[T, str | None]]) -> Iterator[tuple[T, str, Content | None]]:
    """Yield recordings in order, each with the path and content of its sidecar, or with an empty path and None.

    Many threads read ahead, since each waits for a disk or a store.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sidecar") as pool:
        running: deque[tuple[list[tuple[T, str | None]], Future[list[Content | None]]]] = deque()
        while batch := list(islice(pairs, _BATCH)):
            running.append((batch, pool.submit(_read_batch, root, [sidecar for _, sidecar in batch])))
            if len(running) == _AT_ONCE:
                yield from _complete(root, *running.popleft())
        while running:
            yield from _complete(root, *running.popleft())


def _complete(
    root: Root, batch: list[tuple[T, str | None]], read: Future[list[Content | None]]
) -> Iterator[tuple[T, str, Content | None]]:
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
    name, _, ending = match[1].partition("-")
    return values[name].removesuffix(ending) if name in values else match[0]


def _content(root: Root, path: str, limit: int) -> Content:
    """Return a sidecar's bytes, at most `limit` + 1; or the error, since it concerns a single recording."""
    try:
        return root.read_bytes(path, limit=limit + 1)
    except OSError as error:
        return error
