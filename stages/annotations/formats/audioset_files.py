"""Read the tables of AudioSet: segments of videos with lists of labels, and its strong labels, events within segments."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.model import Frozen, later
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.rows import UnreadableError

_SEGMENTS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
_STRONG = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
_PRESENT, _IS_PRESENT = "present", "PRESENT"
_SEGMENT_MS = 10_000
_MILLISECONDS, _START = re.compile("[0-9]{1,9}"), re.compile(r"([0-9]{1,6})\.([0-9]{3})")
_EXPECTED = f"not a table of AudioSet: expected the header {', '.join(_SEGMENTS)}, or {', '.join(_STRONG)} with tabs"


class AudioSetOptions(Frozen):
    """Configure what the files of AudioSet are."""

    excerpts: bool = later(
        False,
        description="segments only: whether each file is a segment, cut out of its video, so that its row is about all of it",
    )


class AudioSet(RecordFormat):
    """Read AudioSet's segments, and its strong labels.

    The label of a segment is its list of labels, with commas. Times of segments are those of the video, times of strong labels those of
    the segment.
    """

    name = "audioset"
    about = "AudioSet's segments with lists of labels, and its strong labels"
    options = AudioSetOptions
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "end": "end", "label": "labels"}
    recording = (
        "segment_id",
        "YTID",
        "Y{YTID}",
        "{YTID}_{start_seconds}",
        "Y{YTID}_{start_seconds}",
        "{YTID}_{start_seconds}_{end_seconds}",
        "Y{YTID}_{start_seconds}_{end_seconds}",
    )
    header = ("start_seconds", "end_seconds")

    def read(self, content: str, spec: Annotations, options: AudioSetOptions) -> Iterator[Record]:
        rows = _rows(content)
        header = next((cells for _, cells, _ in rows), None)
        if header is None:
            return
        if tuple(header[:4]) == _STRONG:
            yield from _events(rows, header)
        elif tuple(header) == _SEGMENTS:
            yield from _videos(rows, options)
        else:
            raise UnreadableError(_EXPECTED)

    def looks_like(self, head: str) -> bool:
        try:
            return next(_rows(head), None) is not None
        except UnreadableError:
            return False


def _rows(text: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield the header, which may be the last comment before the rows, and the rows: line, cells, and what is wrong with the row."""
    header: list[str] | None = None
    for number, line in enumerate(lines(text), 1):
        plain = line.strip()
        if header is None and plain:
            cells = [cell.strip(' "') for cell in plain.lstrip("# ").split("\t" if "\t" in plain else ",")]
            if tuple(cells) == _SEGMENTS or tuple(cells[:4]) == _STRONG:
                header = cells
                yield number, header, None
            elif not plain.startswith("#"):
                raise UnreadableError(_EXPECTED)
        elif plain:
            yield number, *_cells(plain, tabs=header is not None and header[0] == _STRONG[0])
    if header is None and text.strip():
        raise UnreadableError(_EXPECTED)


def _cells(line: str, tabs: bool) -> tuple[list[str], str | None]:
    if tabs:
        return [cell.strip() for cell in line.split("\t")], None
    try:
        return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True, strict=True))], None
    except csv.Error as error:
        return [cell.strip() for cell in line.split(",")], f"not a line of CSV: {error}"


def _videos(rows: Iterator[tuple[int, list[str], str | None]], options: AudioSetOptions) -> Iterator[Record]:
    for number, cells, problem in rows:
        named = dict(zip(_SEGMENTS, cells, strict=False))
        named["labels"] = named.pop("positive_labels", "")
        if len(cells) != len(_SEGMENTS):
            problem = (
                problem or f"{len(cells)} cells, expected 4; several labels stand in quotes, with commas between them"
            )
        elif not cells[0]:
            problem = "the row has no id of a video"
        if problem is None and (start_ms := _START.fullmatch(named["start_seconds"])) is not None:
            named["segment_id"] = f"{cells[0]}_{int(start_ms[1] + start_ms[2])}"
        if not options.excerpts:
            named |= {"start": named.get("start_seconds", ""), "end": named.get("end_seconds", "")}
        yield Record(named, number, problem=problem)


def _events(rows: Iterator[tuple[int, list[str], str | None]], header: list[str]) -> Iterator[Record]:
    for number, cells, problem in rows:
        named = dict(zip(header, cells, strict=False))
        if named.pop(_PRESENT, _IS_PRESENT).upper() != _IS_PRESENT:
            yield Record(line=number, is_passed_over=True, notes=("events_not_present",))
            continue
        segment = named.get("segment_id", "")
        video, _, start_ms = segment.rpartition("_")
        if len(cells) < len(header):
            problem = f"{len(cells)} cells, expected {len(header)}"
        elif not video or _MILLISECONDS.fullmatch(start_ms) is None:
            problem = f"{segment[:50]!r} is not the id of a segment: a video's id, _, and its start in ms"
        for old, new in zip(_STRONG[1:], ("start", "end", "labels"), strict=True):
            named[new] = named.pop(old, "")
        if problem is None:
            start = int(start_ms)
            named |= {"YTID": video, "start_seconds": _seconds(start), "end_seconds": _seconds(start + _SEGMENT_MS)}
        yield Record(named, number, problem=problem)


def _seconds(milliseconds: int) -> str:
    """Return seconds as tables of segments write them, such as 30.000."""
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"


FORMAT = AudioSet()
