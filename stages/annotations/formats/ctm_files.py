"""Read CTM: words with their times, as speech recognizers and the NIST scoring tools write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import cut_at_blanks
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.nist_lines import EMPTY, channel_cell, is_channel, is_number, nist_lines

_COLUMNS = ("recording", "channel", "start", "duration", "word", "confidence", "type", "speaker")
_FEWEST = 5
_BEGIN, _OTHER, _END = "<ALT_BEGIN>", "<ALT>", "<ALT_END>"
_NO_WORD = "@"


class Ctm(RecordFormat):
    """Read CTM. The word is the label; of words that are alternatives to each other, those of the first alternative are rows."""

    name = "ctm"
    about = "CTM: words with start and duration"
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "duration": "duration", "label": "word"}
    recording = ("recording",)
    header = _COLUMNS
    extensions = ("ctm",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        is_other = False
        for number, line in nist_lines(content):
            cells = cut_at_blanks(line, most=len(_COLUMNS) + 1)
            mark = cells[4] if len(cells) >= _FEWEST else ""
            if mark in (_BEGIN, _OTHER, _END):
                is_other = mark == _OTHER
                continue
            if is_other or mark == _NO_WORD:
                yield Record(line=number, is_passed_over=True)
                continue
            named = {name: cell for name, cell in zip(_COLUMNS, cells, strict=False) if cell != EMPTY}
            problem = None
            if not _FEWEST <= len(cells) <= len(_COLUMNS):
                found = len(cells) if len(cells) < _FEWEST else "more than 8"
                problem = f"{found} fields, expected 5 to 8: {', '.join(_COLUMNS)}"
            yield Record(channel_cell(named, spec), number, problem=problem)

    def looks_like(self, head: str) -> bool:
        rows = [cut_at_blanks(line) for _, line in nist_lines(head)][:20]
        return bool(rows) and all(
            _FEWEST <= len(cells) <= len(_COLUMNS)
            and is_channel(cells[1])
            and (cells[4] in (_BEGIN, _OTHER, _END) or (is_number(cells[2]) and is_number(cells[3])))
            and not is_number(cells[4])
            for cells in rows
        )


FORMAT = Ctm()
