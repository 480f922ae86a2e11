"""Read UEM: the regions of recordings that an evaluation scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import cut_at_blanks
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.nist_lines import EMPTY, channel_cell, is_channel, is_number, nist_lines

_COLUMNS = ("recording", "channel", "start", "end")


class Uem(RecordFormat):
    """Read UEM. Rows are regions without label."""

    name = "uem"
    about = "UEM: regions to score, without labels"
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "end": "end"}
    recording = ("recording",)
    header = _COLUMNS
    extensions = ("uem",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        for number, line in nist_lines(content):
            cells = cut_at_blanks(line, most=len(_COLUMNS) + 1)
            named = {name: cell for name, cell in zip(_COLUMNS, cells, strict=False) if cell != EMPTY}
            found = len(cells) if len(cells) < len(_COLUMNS) else "more than 4"
            what = f"{found} fields, expected 4: {', '.join(_COLUMNS)}"
            yield Record(channel_cell(named, spec), number, problem=what if len(cells) != len(_COLUMNS) else None)

    def looks_like(self, head: str) -> bool:
        rows = [cut_at_blanks(line) for _, line in nist_lines(head)][:20]
        return bool(rows) and all(
            len(cells) == len(_COLUMNS)
            and (is_channel(cells[1]) or cells[1] == EMPTY)
            and is_number(cells[2])
            and is_number(cells[3])
            for cells in rows
        )


FORMAT = Uem()
