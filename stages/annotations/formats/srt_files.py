"""Read SRT, the subtitles of SubRip and of most speech recognisers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.cues import ARROW, EXPECTED_TIMES, cue_record, cue_times, is_like_times, plain_text
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, TranscriptFormat
from clipmill.stages.annotations.rows import UnreadableError


class Srt(TranscriptFormat):
    """Read SRT. The text of a cue is the label, without markup; its lines are joined by blanks.

    A blank line does not end a cue, since many files have blank lines in their texts: only the next times do.
    """

    name = "srt"
    about = "SRT subtitles"
    sidecar = "{stem}.srt"
    extensions = ("srt",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        found: str | None = None  # the line with the times of the current cue
        at, texts = 0, list[str]()
        stray, has_cue = 0, False
        for number, raw in enumerate(lines(content), 1):
            line = raw.strip()
            after_number = bool(texts) and texts[-1].isdigit() and (len(texts) == 1 or not texts[-2])
            if ARROW in line or (after_number and is_like_times(line)):
                if texts and texts[-1].isdigit():
                    texts.pop()  # the number of the cue that begins here
                if found is not None:
                    yield cue_record(at, cue_times(found), plain_text(texts), found)
                elif any(texts):
                    yield Record(line=stray, problem="text before the first cue")
                has_cue = has_cue or cue_times(line) is not None
                found, at, texts = line, number, []
            else:
                stray = stray or (number if line else 0)
                texts.append(line)
        if not has_cue and (found is not None or any(texts)):
            raise UnreadableError(f"not SRT: {EXPECTED_TIMES}")
        if found is not None:
            yield cue_record(at, cue_times(found), plain_text(texts), found)

    def looks_like(self, head: str) -> bool:
        first = [line.strip() for line, _ in zip(lines(head.lstrip()), range(3), strict=False)]
        return any(first[:1]) and first[0].isdigit() and len(first) > 1 and cue_times(first[1]) is not None


FORMAT = Srt()
