"""Read STM: reference transcripts of the NIST scoring tools, as TED-LIUM and many evaluations distribute them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import cut_at_blanks
from clipmill.stages.annotations.format import Record, TranscriptFormat
from clipmill.stages.annotations.nist_lines import channel_cell, is_channel, is_number, nist_lines

_COLUMNS = ("recording", "channel", "speaker", "start", "end")
_CATEGORIES = re.compile(r"<(?:NA|[oO]|[^<>\s]*,[^<>\s]*)>(?=\s|\Z)")
"""The optional sixth field, such as <o,f0,male>. A text can begin with a word in brackets, such as <unk>, which is none."""
_NOT_SCORED = "ignore_time_segment_in_scoring"


class Stm(TranscriptFormat):
    """Read STM. The text is the label, and the field `text`; segments that are not to be scored have no transcript and are no rows."""

    name = "stm"
    about = "STM: transcripts with start, end and speaker"
    recording = ("recording",)
    header = (*_COLUMNS, "categories")
    extensions = ("stm",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        for number, line in nist_lines(content):
            cells = cut_at_blanks(line, most=len(_COLUMNS) + 1)
            text = cells.pop() if len(cells) > len(_COLUMNS) else ""
            named = dict(zip(_COLUMNS, cells, strict=False))
            if len(cells) < len(_COLUMNS):
                what = f"{len(cells)} fields, expected recording, channel, speaker, start, end and the text"
                yield Record(channel_cell(named, spec), number, problem=what)
                continue
            categories = _CATEGORIES.match(text)
            if categories is not None:
                named["categories"] = categories[0].strip("<>")
                text = text[categories.end() :]
            named["text"] = text.strip(" \t")
            if named["text"].lower() == _NOT_SCORED:
                yield Record(line=number, is_passed_over=True)
            else:
                yield Record(channel_cell(named, spec), number)

    def looks_like(self, head: str) -> bool:
        rows = [cut_at_blanks(line) for _, line in nist_lines(head)][:20]
        return bool(rows) and all(
            len(cells) >= len(_COLUMNS)
            and is_channel(cells[1])
            and is_number(cells[3])
            and is_number(cells[4])
            and not is_number(cells[2])
            for cells in rows
        )


FORMAT = Stm()
