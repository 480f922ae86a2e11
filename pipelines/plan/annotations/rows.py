"""Rows of annotation files, and the errors of reading one."""

from __future__ import annotations

from dataclasses import dataclass

from clipmill.schemas.tables import RESERVED

HINT = "; hint: "
"""Before what a detail says besides what is wrong. What stands behind it stands in no key, so that words may be added."""


class UnreadableError(Exception):
    """The file is no table that can be read."""


class MissingColumnError(UnreadableError):
    """The header lacks a column that the configuration names, or has it twice. under : the key of the configuration"""

    def __init__(self, message: str, under: str = "columns") -> None:
        super().__init__(message)
        self.under = under


class AmbiguousError(Exception):
    """Nothing in the file shows which sign of its times is decimal. value : one of them"""

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


class HeaderError(Exception):
    """A row of data stands where the configuration says that the header is."""


@dataclass(slots=True)
class Row:
    """One annotation. start, end : in the file's time unit, None for the recording's own ends.

    names, values : of its fields. A million rows are in memory at once: they share the names, and have no dictionary each
    channel : counted from 1, None for what `channels` says
    reason : set when the row is rejected; detail : what is wrong with it
    noted : what was understood or left out of it, by `clipmill.schemas.annotation_notes`
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

    @property
    def fields(self) -> dict[str, str]:
        return dict(zip(self.names, self.values, strict=True))


def field_name(name: str) -> str:
    """Return the column under which a corpus's field is stored: its own name unless clipmill uses that one."""
    return f"annotation_{name}" if name in RESERVED else name
