"""Read the manifests of NVIDIA NeMo: JSON Lines with a file, its text or label, and the part of it that is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.json_text import read_json_lines, shown, text_of
from clipmill.stages.annotations.rows import UnreadableError

_FILE, _START, _DURATION, _TEXT, _LABEL = "audio_filepath", "offset", "duration", "text", "label"


class Nemo(RecordFormat):
    """Read NeMo manifests. The label is `label`, or else the text, which is the field `text` as well; other keys are carried.

    A line with a duration and no offset is about the beginning of its file, as NeMo reads it, and one without both about all of it.
    """

    name = "nemo"
    about = "NeMo manifest: JSON Lines with `audio_filepath`"
    roles: ClassVar[Mapping[str, str]] = {"start": _START, "duration": _DURATION, "label": _LABEL}
    fields: ClassVar[Mapping[str, str]] = {"text": _TEXT}
    recording = (_FILE,)
    header = (_FILE, _START, _DURATION)
    extensions = ("json", "jsonl", "manifest")

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        n_lines = n_files = 0
        for line in read_json_lines(content):
            value = line.value
            record = Record(line=line.number, problem=line.problem)
            record.cells = {key: text_of(each) for key, each in value.items() if each is not None}
            n_lines += 1
            n_files += _FILE in value
            if line.problem is None and not isinstance(value.get(_FILE), str):
                what = f"is {shown(value[_FILE])}" if _FILE in value else "is missing"
                record.problem = f"{_FILE} {what}; expected the path of one file"
            if _DURATION in record.cells:
                record.cells.setdefault(_START, "0")
            if _TEXT in record.cells:
                record.cells.setdefault(_LABEL, record.cells[_TEXT])
            yield record
        if n_lines and not n_files:
            raise UnreadableError(f"not a NeMo manifest: no line has the key {_FILE}")

    def looks_like(self, head: str) -> bool:
        first = next((line for line in lines(head) if line.strip()), "")
        return first.lstrip().startswith("{") and f'"{_FILE}"' in first


FORMAT = Nemo()
