"""Read the selection tables of Raven, of one recording or of many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.model import Frozen, later
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.rows import SettingError, UnreadableError
from clipmill.stages.annotations.times import plain_number, with_point

_BEGIN, _END, _VIEW, _OFFSET = "Begin Time (s)", "End Time (s)", "View", "File Offset (s)"
_TIMES = {_BEGIN, _END, _OFFSET}
_FILES = ("Begin Path", "Begin File")
_EXPECTED = f"not a selection table of Raven, whose first line has columns such as {_BEGIN!r} and {_END!r}, cut at tabs"
_MAX_COLUMNS = 10_000
_DECIMALS = 9


class RavenOptions(Frozen):
    """Configure the times of tables about several recordings."""

    times_from: Literal["recording"] | None = later(
        None,
        description="what Begin Time (s) is counted from, in a table of several recordings without File Offset (s)",
    )


class Raven(RecordFormat):
    """Read selection tables. Rows that differ in their view alone are one. The label is the column `Annotation`, if there is one."""

    name = "raven"
    about = "selection tables of Raven"
    options = RavenOptions
    roles: ClassVar[Mapping[str, str]] = {"start": _BEGIN, "end": _END, "label": "Annotation"}
    recording = _FILES
    sidecar = "{stem}.Table.1.selections.txt"

    def read(self, content: str, spec: Annotations, options: RavenOptions) -> Iterator[Record]:
        numbered = ((at, line.rstrip("\r\n")) for at, line in enumerate(lines(content), 1) if line.strip())
        first = next(numbered, None)
        if first is None:
            return
        header = _names(first[1])
        if not {_BEGIN, _END} <= set(header):
            raise UnreadableError(_EXPECTED)
        seen: set[bytes] = set()
        files: set[str] = set()
        for at, line in numbered:
            cells = [cell.strip() for cell in line.split("\t")]
            record = Record(dict(zip(header, cells, strict=False)), at)
            record.cells.pop("", None)
            for name in _TIMES & record.cells.keys():
                record.cells[name] = with_point(record.cells[name])
            if not {_BEGIN, _END} <= record.cells.keys() or any(cells[len(header) :]):
                record.problem = f"{len(cells)} cells, and the header has {len(header)} columns"
            if _VIEW in header:
                others = "\t".join(cell for name, cell in zip(header, cells, strict=False) if name != _VIEW)
                same = hashlib.blake2b(others.encode(errors="replace"), digest_size=16).digest()
                if same in seen:
                    yield Record(line=at, is_passed_over=True, notes=("records_repeated",))
                    continue
                seen.add(same)
            files.add(next((record.cells[name] for name in _FILES if record.cells.get(name)), ""))
            if _OFFSET in header and options.times_from is None:
                _count_from_file(record)
            elif len(files) > 1 and options.times_from is None:
                raise SettingError(
                    f"the table is about several recordings and has no column {_OFFSET!r}, without which {_BEGIN!r} counts from the first"
                    " of them: let Raven write that column, or set `times_from: recording` if the times count from each recording",
                    "times_from",
                )
            yield record

    def looks_like(self, head: str) -> bool:
        return {_BEGIN, _END} <= set(_names(head.lstrip().partition("\n")[0].rstrip("\r")))


def _names(line: str) -> list[str]:
    """Return the columns of a header; those of usual spelling in other case are spelled as usual. A line that ends with a tab is usual."""
    names = [name.strip().strip('"') for name in line.split("\t", _MAX_COLUMNS)]
    usual = {name.lower(): name for name in (_BEGIN, _END, _VIEW, _OFFSET, *_FILES)}
    return [usual.get(name.lower(), name) for name in names]


def _count_from_file(record: Record) -> None:
    """Let the times of a record count from its own recording, at File Offset (s), instead of the first of a sequence."""
    offset, begin, end = (plain_number(record.cells.get(name, "")) for name in (_OFFSET, _BEGIN, _END))
    if begin is None or end is None:
        return  # rejected for its time
    if offset is None:
        record.problem = f"{_OFFSET} is {record.cells.get(_OFFSET, '')[:40]!r}, not a number"
    elif offset != begin:
        record.cells |= {_BEGIN: record.cells[_OFFSET], _END: repr(round(offset + (end - begin), _DECIMALS))}


FORMAT = Raven()
