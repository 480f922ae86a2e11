"""Annotated recordings: each with the rows of annotation files that are about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

from clipmill.pipelines.plan.annotations.rows import Row


class HasPath(Protocol):
    """A recording, or one that was refused."""

    @property
    def path(self) -> str: ...


T = TypeVar("T")
M = TypeVar("M", bound=HasPath)
Rows = list[tuple[str, Row]]
"""Each with the file in which it stands."""


@dataclass(frozen=True)
class Stray:
    """A row that belongs to no recording.

    names : by which it was looked for
    why : why by no such name a recording was found, whatever else is wrong with the row
    """

    source: str
    file: str
    row: Row
    names: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Unusable:
    """A recording's annotation file that cannot be used as a whole. How many rows it has is not known, so the recording is rejected.

    file : its path; reason, detail : for the rejection
    """

    file: str
    reason: str
    detail: str


@dataclass
class Annotated:
    """Rows by path of a recording, refused ones too, in file order. by_path has no entry for one without annotations.

    n_annotated : recordings that have a row
    n_ignored : rows whose recording is not there, where the configuration says to ignore them; first_ignored : the first of them
    unnamed_roles : columns of the first file that has such, which are likely to be meant as a role and are not named as one, by role
    noted : how files were understood, by `clipmill.schemas.annotation_notes`
    """

    by_path: dict[str, Rows] = field(default_factory=dict)
    strays: list[Stray] = field(default_factory=list)
    n_annotated: int = 0
    n_ignored: int = 0
    first_ignored: Stray | None = None
    noted: Counter[str] = field(default_factory=Counter)
    unnamed_roles: dict[str, str] = field(default_factory=dict)

    def each(self, members: list[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        """Yield recordings in order, each with its rows, or None if it has none.

        Recordings and rows are removed as they are yielded, to free their memory: `members` is empty afterwards, and the rows can be
        read only once.
        """
        for member in drained(members):
            yield member, self.by_path.pop(member.path, None)

    def again(self) -> Self:
        """Return the same, to be gone through by itself."""
        by_path = {path: rows.copy() for path, rows in self.by_path.items()}
        return replace(self, by_path=by_path, noted=Counter(self.noted))

    def check(self) -> None:
        """Raise ConfigError when what was gone through shows that the configuration is wrong."""


def drained(values: list[T]) -> Iterator[T]:
    """Yield the members of a list from first to last, and remove each from the list to free its memory."""
    values.reverse()
    while values:
        yield values.pop()
