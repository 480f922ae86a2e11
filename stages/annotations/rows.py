"""Define the rows of annotation files and the errors of reading them."""

from __future__ import annotations

from dataclasses import dataclass

from clipmill.schemas.tables import RESERVED

HINT = "; hint: "
"""Separates the hint in the detail of a rejection. Text before it enters keys and must not change; text after it may."""


class UnreadableError(Exception):
    """The file cannot be read as a table."""


class MissingColumnError(UnreadableError):
    """The header lacks a configured column, or has it twice. under : configuration key, `columns`, `fields` or `recording`"""

    def __init__(self, message: str, under: str = "columns") -> None:
        super().__init__(message)
        self.under = under


class AmbiguousError(Exception):
    """No time in the file shows which sign is decimal. value : one of the ambiguous times"""

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


class SettingError(Exception):
    """The file shows that a key of `annotations` is wrong or missing. under : the key

    In a few of many files it can be the files' fault.
    """

    def __init__(self, message: str, under: str) -> None:
        super().__init__(message)
        self.under = under


class HeaderError(SettingError):
    """The row that should be the header holds data."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "header")


@dataclass(slots=True)
class Row:
    """One annotation.

    start, end : in the file's time unit, None for the recording's own start and end
    names, values : its fields. A million rows are in memory at once, so they share the names instead of having a dictionary each
    channel : counted from 1, None if `channels` decides
    reason : set if the row is rejected; detail : what is wrong with it
    noted : codes of notes on how it was read, of `clipmill.schemas.annotation_notes`
    place : where it is in the file, or in which of several, if its line does not say that
    is_blank : whether it has nothing where times, labels and fields are: nothing is to be heard in its recording
    """

    line: int
    start: float | None = None
    end: float | None = None
    label: str | None = None
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    reason: str | None = None
    detail: str | None = None
    channel: int | None = None
    noted: tuple[str, ...] = ()
    place: str = ""
    is_blank: bool = False

    @property
    def fields(self) -> dict[str, str]:
        return dict(zip(self.names, self.values, strict=True))


def field_name(name: str) -> str:
    """Return the column that stores a field of the corpus: the field's name, or a prefixed one if clipmill uses that name."""
    return f"annotation_{name}" if name in RESERVED else name
