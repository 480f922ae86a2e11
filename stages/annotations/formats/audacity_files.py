"""Read the labels that Audacity exports: start, end and label, cut at tabs, with frequencies on a line of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.points import POINT, PointOptions, around
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.times import number, plain_number, with_point

_FREQUENCIES = "\\"
_EXPECTED = "expected start, end and label, cut at tabs"


class Audacity(RecordFormat):
    """Read labels of Audacity. A label may be missing; the frequencies of a spectral selection are fields of the label above them."""

    name = "audacity"
    about = "labels that Audacity exports, with the frequencies of spectral selections"
    options = PointOptions
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "end": "end", "label": "label"}
    header = ("low_hz", "high_hz")
    sidecar = "{stem}.txt"

    def read(self, content: str, spec: Annotations, options: PointOptions) -> Iterator[Record]:
        records: list[Record] = []
        above: Record | None = None
        is_one = False
        for at, line in enumerate(lines(content), 1):
            cells = [cell.strip() for cell in line.split("\t")]
            if not any(cells):
                continue
            if cells[0] == _FREQUENCIES:
                if (
                    above is not None
                    and len(cells) > 2
                    and all(number(cell, "either") is not None for cell in cells[1:3])
                ):
                    above.cells |= {"low_hz": with_point(cells[1]), "high_hz": with_point(cells[2])}
                    above = None
                else:
                    records.append(Record(line=at, problem="expected two frequencies, below a label"))
                continue
            above = _label(cells, at, options.points_s)
            is_one = is_one or _are_times(cells)
            records.append(above)
        if records and not is_one:
            raise UnreadableError(f"not labels of Audacity: {_EXPECTED}")
        yield from records

    def looks_like(self, head: str) -> bool:
        whole = head if len(head) < 1 << 15 else head[: head.rfind("\n") + 1]  # the last line may be cut
        found = [[cell.strip() for cell in line.split("\t")] for line in lines(whole) if line.strip()]
        return (
            bool(found)
            and all(cells[0] == _FREQUENCIES or _are_times(cells) for cells in found)
            and _are_times(found[0])
        )


def _are_times(cells: list[str]) -> bool:
    return len(cells) > 1 and all(number(cell, "either") is not None for cell in cells[:2])


def _label(cells: list[str], line: int, points_s: float | None) -> Record:
    if len(cells) < 2:
        return Record({"label": cells[0]}, line, problem=_EXPECTED)
    start, end = map(with_point, cells[:2])
    named = {"start": start, "end": end, "label": " ".join(filter(None, cells[2:]))}
    if plain_number(start) is None or plain_number(start) != plain_number(end):
        return Record(named, line)
    stretch = around(start, points_s)
    if stretch is None:
        return Record(named, line, problem=POINT)
    return Record({**named, "start": stretch[0], "end": stretch[1]}, line)


FORMAT = Audacity()
