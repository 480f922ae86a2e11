"""Hold the rows of annotation files by recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypeVar

from clipmill.stages.annotations.rows import Row


class HasPath(Protocol):
    """A recording or a refusal."""

    @property
    def path(self) -> str: ...


T = TypeVar("T")
M = TypeVar("M", bound=HasPath)
Rows = list[tuple[str, Row]]
"""Rows, each with the path of its file."""


@dataclass(frozen=True)
class Stray:
    """A row that belongs to no recording.

    names : names in the row, each looked up in turn
    why : reason why none of them gave a recording, whatever else is wrong with the row
    """

    source: str
    file: str
    row: Row
    names: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Unusable:
    """A recording's annotation file that cannot be used at all. Its number of rows is unknown, so the recording is rejected.

    file : its path; reason, detail : for the rejection
    """

    file: str
    reason: str
    detail: str


@dataclass
class Annotated:
    """The annotations of a source.

    by_path : rows by the path of their recording, refused recordings too, in file order; no entry for one without annotations
    strays : rows that fit no recording, or several
    n_annotated : number of recordings with a row
    n_ignored : number of rows of tables that were ignored: as configured, since their recording is missing, or since they name no event
    first_ignored : the first of those whose recording is missing
    unnamed_roles : columns, by role, that are probably meant as a role and not named as one, in the first file with any
    noted : counts of notes on how files were read, by code of `clipmill.schemas.annotation_notes`
    """

    by_path: dict[str, Rows] = field(default_factory=dict)
    strays: list[Stray] = field(default_factory=list)
    n_annotated: int = 0
    n_ignored: int = 0
    first_ignored: Stray | None = None
    noted: Counter[str] = field(default_factory=Counter)
    unnamed_roles: dict[str, str] = field(default_factory=dict)

    def each(self, members: Iterable[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        """Yield recordings in order, each with its rows, or None if it has none.

        Rows are removed as they are yielded, to free memory, so they can be read only once.
        """
        for member in members:
            yield member, self.by_path.pop(member.path, None)

    def read(self) -> None:
        """Read what can be read before recordings are iterated. Raises ConfigError if it cannot be used."""

    @property
    def version(self) -> str | None:
        """A digest of the versions of all files, and of the paths of all recordings; None if that does not tell every later change, or if
        the files were read already."""
        return None

    def facts(self) -> Any:
        """Return, as plain data, what is known once the files were read, besides the rows of recordings that are not refused."""
        raise NotImplementedError

    def restore(self, facts: Any) -> None:
        """Take over what `facts` returned for the same version, so that files are read only if a recording's rows are wanted."""
        raise NotImplementedError

    def take_counts(self) -> Counter[str]:
        """Return counts of notes on the recordings that were iterated since the last call, besides `noted`."""
        return Counter()

    @property
    def parts(self) -> tuple[Annotated, ...]:
        """The annotations that these consist of."""
        return (self,)

    def again(self) -> Self:
        """Return a copy that can be iterated independently."""
        by_path = {path: rows.copy() for path, rows in self.by_path.items()}
        return replace(self, by_path=by_path, noted=Counter(self.noted))

    def check(self) -> None:
        """Raise ConfigError if the files read so far show that the configuration is wrong."""


def drained(values: list[T]) -> Iterator[T]:
    """Yield the members of a list from first to last, and remove each from the list to free its memory."""
    values.reverse()
    while values:
        yield values.pop()
