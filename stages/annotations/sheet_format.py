"""Define formats that are delimited text with a fixed layout."""

from __future__ import annotations

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import Content, FileRows, Format
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.sheet import Sheet


class SheetFormat(Format):
    """Read delimited text. `settings` holds what would stand in the configuration for `format: csv`: delimiter, header, quote and so on.

    `roles` name columns by index if the format has no header.
    """

    takes = frozenset({"decimal"})

    def open(self, content: Content, spec: Annotations, path: str = "") -> FileRows:
        if not isinstance(content, bytes):
            raise UnreadableError("a folder, not a file")
        return Sheet(content, spec)
