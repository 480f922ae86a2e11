"""Read RTTM: the speaker turns of the NIST Rich Transcription evaluations, as pyannote, NeMo and Kaldi write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, RecordFormat

_COLUMNS = ("type", "recording", "channel", "start", "duration", "orthography", "subtype", "speaker", "confidence")
_OTHER_TYPES = frozenset(
    "SPKR-INFO NON-SPEECH NON-LEX LEXEME SEGMENT NOSCORE NO_RT_METADATA SU IP CB EDIT FILLER A/P NULL".split()
)
_EMPTY = "<NA>"
_FEWEST = 8  # some tools leave the last two fields out


class Rttm(RecordFormat):
    """Read RTTM. Rows are those of type SPEAKER; the speaker is the label.

    Of the ten fields of the format, the last (signal lookahead time) is seldom used and not carried.
    """

    name = "rttm"
    about = "RTTM: speaker turns"
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "duration": "duration", "label": "speaker"}
    recording = ("recording",)
    header = _COLUMNS[1:]
    extensions = ("rttm",)

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        for number, line in enumerate(lines(content), 1):
            cells = line.split()
            if not cells or cells[0].startswith(";"):
                continue
            if cells[0] in _OTHER_TYPES:
                yield Record(line=number, is_passed_over=True)
                continue
            named = {name: cell for name, cell in zip(_COLUMNS, cells, strict=False) if cell != _EMPTY}
            problem = None
            if named.pop("type", None) != "SPEAKER":
                problem = f"begins with {cells[0][:20]!r}, not with SPEAKER or another type of RTTM"
            elif len(cells) < _FEWEST:
                problem = f"{len(cells)} fields, expected 9 or 10"
            yield Record(named, number, problem=problem)

    def looks_like(self, head: str) -> bool:
        first = next((line.split() for line in lines(head) if line.strip() and not line.startswith(";")), [])
        return len(first) in (9, 10) and (first[0] == "SPEAKER" or first[0] in _OTHER_TYPES)


FORMAT = Rttm()
