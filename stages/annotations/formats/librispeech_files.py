"""Read the transcripts of LibriSpeech: a file for each chapter, with an utterance's name and its text on each line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import cut_at_blanks, lines
from clipmill.stages.annotations.format import Record, RecordFormat

_NAME = re.compile(r"([0-9]+)-([0-9]+)-[0-9]{4,}")
"""Speaker, chapter and number of an utterance, as LibriSpeech's README defines them. Other names say nothing about a speaker."""
_LINE = re.compile(r"[0-9]+-[0-9]+-[0-9]{4,} [A-Z']+(?: [A-Z']+)*\s*")


class LibriSpeech(RecordFormat):
    """Read `.trans.txt`. Each row is a whole recording; the text is the label, and the field `text`."""

    name = "librispeech"
    about = "LibriSpeech's `.trans.txt`: the text of each utterance"
    roles: ClassVar[Mapping[str, str]] = {"label": "text"}
    fields: ClassVar[Mapping[str, str]] = {"text": "text"}
    recording = ("utterance",)
    table = "**/*.trans.txt"
    header = ("utterance", "speaker", "chapter")

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        first: dict[str, int] = {}
        for number, line in enumerate(lines(content), 1):
            name, text = [*cut_at_blanks(line, most=2), "", ""][:2]
            if not name:
                continue
            cells = {"utterance": name, "text": text}
            if (known := _NAME.fullmatch(name)) is not None:
                cells |= {"speaker": known[1], "chapter": known[2]}
            problem = None
            if not cells["text"]:
                problem = f"no text after {name[:50]!r}; expected an utterance's name and its text"
            elif (before := first.setdefault(name, number)) != number:
                problem = f"{name[:50]!r} is on line {before} already"
            yield Record(cells, number, problem=problem)

    def looks_like(self, head: str) -> bool:
        rows = [line for line in lines(head) if line.strip()][:20]
        return bool(rows) and all(_LINE.fullmatch(line) for line in rows[: max(1, len(rows) - 1)])


FORMAT = LibriSpeech()
