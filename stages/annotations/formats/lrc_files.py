"""Read LRC, lyrics with the time of each line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.cues import seconds
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, TranscriptFormat
from clipmill.stages.annotations.rows import UnreadableError

_STAMP = re.compile(r"\s*\[([0-9]{1,4}):([0-9]{1,2})(?:\.([0-9]{1,6}))?\]")
_UNSURE = re.compile(r"\s*\[[0-9]+:[0-9]+:[0-9.]+\]")
_TAG = re.compile(r"\s*\[([^\W\d][^\]:]*|#|):([^\]]*)\]\s*")
_OFFSET = re.compile(r"\s*([+-]?[0-9]{1,9})\s*")
_WORD_STAMP = re.compile(r"<[0-9]{1,4}:[0-9]{1,2}(?:[.:][0-9]{1,6})?>")
_BLANKS = re.compile(r"[ \t]+")
_EXPECTED = "expected a line such as [00:12.50]text"


class Lrc(TranscriptFormat):
    """Read LRC. A line lasts until the next one, and the last to the end of the recording; lines without text only end others."""

    name = "lrc"
    about = "LRC lyrics"
    sidecar = "{stem}.lrc"
    extensions = ("lrc",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        sung: list[tuple[Decimal, int, str]] = []
        bad: list[Record] = []
        offset_ms, n_tags = 0, 0
        for number, line in enumerate(lines(content), 1):
            stamps, text = _cut(line)
            tag = _TAG.fullmatch(line) if not stamps else None
            if stamps:
                sung += [(stamp, number, text) for stamp in stamps]
            elif tag is not None:
                n_tags += 1
                offset = _OFFSET.fullmatch(tag[2]) if tag[1].strip().lower() == "offset" else None
                if offset is not None:
                    offset_ms = int(offset[1])
                elif tag[1].strip().lower() == "offset":
                    bad.append(
                        Record(
                            line=number,
                            problem=f"offset is {tag[2][:40]!r}; expected milliseconds, as in [offset:+500]",
                        )
                    )
            elif _UNSURE.match(line) is not None:
                bad.append(
                    Record(
                        line=number,
                        problem=f"{line.strip()[:40]!r} can be hours or hundredths of a second; {_EXPECTED}",
                    )
                )
            elif line.strip():
                bad.append(Record(line=number, problem=f"no time; {_EXPECTED}"))
        if not sung and not n_tags and bad:
            raise UnreadableError(f"not LRC: {_EXPECTED}")
        yield from bad
        sung.sort(key=lambda each: each[:2])
        after: Decimal | None = None  # the first time after the current one
        ends: list[Decimal | None] = []
        for at in range(len(sung) - 1, -1, -1):
            if at + 1 < len(sung) and sung[at + 1][0] > sung[at][0]:
                after = sung[at + 1][0]
            ends.append(after)
        shift = Decimal(offset_ms) / 1000
        for (start, number, text), end in zip(sung, reversed(ends), strict=True):
            if text:
                cells = {"start": f"{start - shift:f}", "text": text}
                yield Record(cells if end is None else cells | {"end": f"{end - shift:f}"}, number)

    def looks_like(self, head: str) -> bool:
        for line in lines(head):
            if _STAMP.match(line) is not None:
                return True
            if line.strip() and _TAG.fullmatch(line) is None:
                return False
        return False


def _cut(line: str) -> tuple[list[Decimal], str]:
    """Return the times in front of a line, in seconds, and its text without the times of words."""
    stamps: list[Decimal] = []
    at = 0
    while (match := _STAMP.match(line, at)) is not None:
        stamps.append(Decimal(seconds(None, *match.groups())))
        at = match.end()
    return stamps, _BLANKS.sub(" ", _WORD_STAMP.sub("", line[at:])).strip()


FORMAT = Lrc()
