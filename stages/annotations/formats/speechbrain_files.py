"""Read the data manifests of SpeechBrain: CSV, or JSON with an object for each id."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.json_text import read_json, shown, text_of
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.times import number

_ID, _WAVE, _START, _STOP, _DURATION = "ID", "wav", "start", "stop", "duration"
_TEXTS = ("wrd", "words", "transcript", "text")
_ROOT = re.compile(r"\A(?:\{[A-Za-z_]\w*\}|\$\{[A-Za-z_]\w*\}|\$[A-Za-z_]\w*)/*")
"""A path begins with a placeholder for the corpus' folder, as in {data_root}/x.wav or $data_folder/x.wav."""
_HOW_TO_READ = re.compile(r"(.+)_(?:format|opts)")
"""Columns of the older layout, which say how the values of another one are to be read."""
_EXPECTED = "not a manifest of SpeechBrain: expected CSV with a column ID, or JSON with an object for each id"
_SAME = 1.5
"""Most units of a duration in seconds that a range in seconds may have; one in samples has thousands."""


class SpeechBrain(RecordFormat):
    """Read SpeechBrain's manifests. The transcript is the label, and the field `text`; other columns are carried.

    `start` and `stop` are in samples, as SpeechBrain's `read_audio` takes them, unless `time_unit` says otherwise.
    """

    name = "speechbrain"
    about = "SpeechBrain manifest: CSV or JSON with an ID and `wav`"
    takes = frozenset({"time_unit"})
    roles: ClassVar[Mapping[str, str]] = {"start": _START, "end": _STOP, "label": "text"}
    fields: ClassVar[Mapping[str, str]] = {"text": "text"}
    recording = (_WAVE, _ID)
    settings: ClassVar[Mapping[str, Any]] = {"time_unit": "samples"}
    extensions = ("json", "csv")

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        seen: set[str] = set()
        for record in _of_json(content) if content.lstrip().startswith("{") else _of_csv(content):
            cells = record.cells
            cells[_WAVE] = _ROOT.sub("", cells.get(_WAVE, ""))
            cells.setdefault("text", next((cells[name] for name in _TEXTS if cells.get(name)), ""))
            for name in (_START, _STOP):
                if not cells.get(name):
                    cells.pop(name, None)
            if record.problem is None and cells.get(_ID, "") in seen:
                record.problem = f"the ID {cells.get(_ID, '')[:50]!r} is there twice"
            seen.add(cells.get(_ID, ""))
            if spec.row_unit == "samples" and record.problem is None:
                record.problem = _in_seconds(cells)
            yield record

    def looks_like(self, head: str) -> bool:
        first = next((line for line in lines(head) if line.strip()), "").strip()
        if not first.startswith("{"):
            header = [cell.strip(' "') for cell in first.split(",")]
            return header[0] == _ID and len({_WAVE, _DURATION} & set(header)) == 2
        return re.match(r'\s*\{\s*"(?:[^"\\]|\\.)*+"\s*:\s*\{', head) is not None and f'"{_WAVE}"' in head


def _in_seconds(cells: Mapping[str, str]) -> str | None:
    """Return what is wrong if a range that should be in samples is as long in seconds as the duration."""
    start, stop, duration = (number(cells.get(name, ""), ".") for name in (_START, _STOP, _DURATION))
    if start is None or stop is None or not duration or not 0 < stop - start <= _SAME * duration:
        return None
    return f"start {cells[_START]} and stop {cells[_STOP]} look like seconds, beside a duration of {cells[_DURATION]}; set time_unit: s"


def _of_csv(text: str) -> Iterator[Record]:
    """Yield the rows of a CSV file, each of which is one line."""
    header: list[str] = []
    left_out: set[str] = set()
    for line_number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        problem = None
        try:
            cells = [
                cell.strip() for cell in next(csv.reader([line.strip("\r\n")], skipinitialspace=True, strict=True))
            ]
        except csv.Error as error:
            cells, problem = [], f"not a line of CSV: {error}"
        if not header:
            if _ID not in cells or len(set(cells)) < len(cells):
                raise UnreadableError(_EXPECTED)
            header = cells
            left_out = {name for name in cells if (of := _HOW_TO_READ.fullmatch(name)) is not None and of[1] in cells}
            continue
        if problem is None and len(cells) != len(header):
            problem = f"{len(cells)} cells, and the header has {len(header)}"
        named = {name: cell for name, cell in zip(header, cells, strict=False) if name not in left_out}
        yield Record(named, line_number, problem=problem)


def _of_json(text: str) -> Iterator[Record]:
    """Yield the objects of a JSON file. `wav` may be an object itself, with a file, a start and a stop."""
    found = read_json(text)
    if found and not any(isinstance(value, dict) for value in found.values()):
        raise UnreadableError(_EXPECTED)
    for name, value in found.items():
        if not isinstance(value, dict):
            yield Record({_ID: name}, place=name[:50], problem=f"{shown(value)} is not an object")
            continue
        cells = {key: text_of(each) for key, each in value.items() if each is not None}
        problem = None
        wave = value.get(_WAVE)
        if isinstance(wave, dict):
            cells |= {key: text_of(wave[key]) for key in (_START, _STOP) if wave.get(key) is not None}
            wave = wave.get("file")
            cells[_WAVE] = text_of(wave)
        if wave is not None and not isinstance(wave, str):
            problem = f"{_WAVE} is {shown(wave)}, expected one file"
        yield Record({**cells, _ID: name}, place=name[:50], problem=problem)


FORMAT = SpeechBrain()
