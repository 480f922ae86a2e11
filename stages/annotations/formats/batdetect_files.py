"""Read the JSON of BatDetect2 and of its annotation tool: calls of bats in one recording, or in several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.json_text import read_json, shown, text_of
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.times import plain_number

_EXPECTED = "not a file of BatDetect2, which is a JSON object with a list `annotation`, or a list of such objects"
_TIMES = ("start_time", "end_time")
_DECIMALS = 9


class BatDetect(RecordFormat):
    """Read BatDetect2's JSON. The class of a call is the label; its event, individual and frequencies are fields.

    The times are those of the animal. In a recording that is stretched in time they are stretched too, as `time_exp` says.
    """

    name = "batdetect"
    about = "JSON of BatDetect2: calls with class, event and frequencies"
    roles: ClassVar[Mapping[str, str]] = {"start": "start_time", "end": "end_time", "label": "class"}
    recording = ("recording",)
    header = ("event", "individual", "low_freq", "high_freq", "class_prob", "det_prob")
    sidecar = "{name}.json"

    def read(self, content: str, spec: Annotations, options: Any) -> Iterator[Record]:
        if not content.strip():
            return
        document = read_json(content)
        files = document if isinstance(document, list) else [document]
        for at, file in enumerate(files):
            place = f"[{at}].annotation" if isinstance(document, list) else "annotation"
            if not isinstance(file, dict) or not isinstance(file.get("annotation"), list):
                raise UnreadableError(_EXPECTED)
            factor = plain_number(text_of(file.get("time_exp", "1")))
            if factor is None or factor <= 0:
                raise UnreadableError(f"time_exp is {shown(file['time_exp'])}; expected a number above 0")
            for n, call in enumerate(file["annotation"]):
                if isinstance(call, dict):
                    yield _record(call, text_of(file.get("id")), factor, f"{place}[{n}]")
                else:
                    yield Record(
                        {"id": text_of(file.get("id"))},
                        place=f"{place}[{n}]",
                        problem=f"expected a call, found {shown(call)}",
                    )

    def looks_like(self, head: str) -> bool:
        return head.lstrip()[:1] in ("{", "[") and all(
            f'"{key}"' in head for key in ("annotation", "start_time", "low_freq")
        )


def _record(call: dict[str, Any], recording: str, factor: float, place: str) -> Record:
    """Return the record of a call. factor : by which the recording is stretched in time"""
    cells = {name: text_of(value) for name, value in call.items()}
    cells["recording"] = recording
    problem = next((f"has no {name}" for name in _TIMES if name not in call), None)
    if factor == 1:
        return Record(cells, place=place, problem=problem)
    for name in _TIMES:
        seconds = plain_number(cells.get(name, ""))
        if seconds is not None:
            cells[name] = repr(round(seconds * factor, _DECIMALS))
    return Record(cells, place=place, problem=problem, notes=("times_expanded",))


FORMAT = BatDetect()
