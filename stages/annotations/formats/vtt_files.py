"""Read WebVTT, the subtitles of the web."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.cues import ARROW, cue_record, cue_times, plain_text
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, TranscriptFormat
from clipmill.stages.annotations.rows import UnreadableError

_MAGIC = re.compile(r"WEBVTT(?:[ \t].*)?")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:[ \t].*)?")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*+)?[ \t]+([^<>]*+)>")


class Vtt(TranscriptFormat):
    """Read WebVTT. The text of a cue is the label, without markup; its lines are joined by blanks. Voices are the field `speaker`."""

    name = "vtt"
    about = "WebVTT subtitles; voices become speakers"
    header = ("speaker", "cue_id")
    sidecar = "{stem}.vtt"
    extensions = ("vtt",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        is_first = True
        for number, block in _blocks(content):
            if is_first:
                if _MAGIC.fullmatch(block[0]) is None:
                    raise UnreadableError(f"not WebVTT, which begins with WEBVTT; found {block[0][:40]!r}")
                is_first = False
                arrow = next((at for at, line in enumerate(block) if ARROW in line), len(block))
                number, block = number + arrow, block[arrow:]
                if not block:
                    continue
            yield from _cues(number, block)

    def looks_like(self, head: str) -> bool:
        return _MAGIC.fullmatch(head.partition("\n")[0].strip()) is not None


def _blocks(content: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines between blank lines, with the number of their first."""
    block: list[str] = []
    number = 0
    for number, raw in enumerate(lines(content), 1):
        if line := raw.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def _cues(number: int, block: list[str]) -> Iterator[Record]:
    """Yield the cues of a block. There can be several where a blank line is missing. number : of its first line"""
    arrows = [at for at, line in enumerate(block) if ARROW in line]
    if not arrows or arrows[0] > 1:
        if _NO_CUE.fullmatch(block[0]) is None:
            yield Record(line=number, problem=f"a block without times, {block[0][:40]!r}")
            return
        if not arrows:
            return
    for at, following in zip(arrows, [*arrows[1:], len(block)], strict=True):
        texts = block[at + 1 : following]
        speakers = dict.fromkeys(html.unescape(name).strip() for text in texts for name in _VOICE.findall(text))
        text = html.unescape(plain_text(texts)).replace("\xa0", " ").strip()
        cue_id = block[0] if at == arrows[0] == 1 else ""
        yield cue_record(
            number + at, cue_times(block[at]), text, block[at], speaker=", ".join(filter(None, speakers)), cue_id=cue_id
        )


FORMAT = Vtt()
