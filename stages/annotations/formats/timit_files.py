"""Read TIMIT's files of phones, words and sentences: start and end in samples, and a text, on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import cut_at_blanks, lines
from clipmill.stages.annotations.format import Record, RecordFormat

_COLUMNS = ("start", "end", "label")


class Timit(RecordFormat):
    """Read `.PHN`, `.WRD` and `.TXT`, which the sidecar's extension chooses. A sentence is the field `text` as well."""

    name = "timit"
    about = "TIMIT's `.PHN`, `.WRD` and `.TXT`: phones, words and sentences, in samples"
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "end": "end", "label": "label"}
    header = (*_COLUMNS, "text")
    sidecar = "{stem}.PHN"
    settings: ClassVar[Mapping[str, Any]] = {"time_unit": "samples"}
    extensions = ("phn", "wrd")
    ignores_case = True

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        for number, line in enumerate(lines(content), 1):
            cells = cut_at_blanks(line, most=len(_COLUMNS))
            if not cells:
                continue
            named = dict(zip(_COLUMNS, cells, strict=False))
            problem = None
            if len(cells) < len(_COLUMNS):
                problem = f"{len(cells)} fields, expected start and end in samples, and a phone, a word or a text"
            elif " " in named["label"] or str(spec.sidecar).lower().endswith(".txt"):
                named["text"] = named["label"]
            yield Record(named, number, problem=problem)


FORMAT = Timit()
