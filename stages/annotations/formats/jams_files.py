"""Read JAMS: JSON annotations of music and of soundscapes, as jams, scaper and mirdata write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.model import later
from clipmill.stages.annotations.format import Record, RecordFormat
from clipmill.stages.annotations.json_text import Number, read_json, shown, text_of
from clipmill.stages.annotations.points import POINT, PointOptions, around
from clipmill.stages.annotations.rows import SettingError, UnreadableError
from clipmill.stages.annotations.times import plain_number

_EXPECTED = "not JAMS, which is a JSON object with a list `annotations`"
_COLUMNS = ("time", "duration", "value", "confidence")
_SHOWN = 20


def _checked(value: Any) -> Any:
    if not isinstance(value, str) and not (
        isinstance(value, list) and value and all(isinstance(v, str) for v in value)
    ):
        raise ValueError("give a namespace, such as segment_open, or a list of them")
    return value


class JamsOptions(PointOptions):
    """Configure which annotations of a file are read."""

    namespace: Annotated[str | list[str], BeforeValidator(_checked)] | None = later(
        None, description="namespace of the annotations to read, such as segment_open or scaper, or a list of them"
    )


class Jams(RecordFormat):
    """Read JAMS: the observations of all annotations of a namespace. A value, or its `label` if it is an object, is the label."""

    name = "jams"
    about = "JAMS: observations of the annotations in a namespace"
    options = JamsOptions
    roles: ClassVar[Mapping[str, str]] = {"start": "time", "duration": "duration", "label": "label"}
    header = ("confidence", "namespace", "annotation_index")
    sidecar = "{stem}.jams"
    extensions = ("jams",)

    def read(self, content: str, spec: Annotations, options: JamsOptions) -> Iterator[Record]:
        if not content.strip():
            return
        document = read_json(content)
        annotations = document.get("annotations") if isinstance(document, dict) else None
        if not isinstance(annotations, list):
            raise UnreadableError(_EXPECTED)
        for at, annotation in enumerate(annotations):
            if not isinstance(annotation, dict) or not isinstance(annotation.get("namespace"), str):
                raise UnreadableError(
                    f"annotations[{at}]: expected an object with a `namespace`, found {shown(annotation)}"
                )
        names = [str(annotation["namespace"]) for annotation in annotations]
        chosen = _choose(names, options.namespace)
        indexes = [at for at, name in enumerate(names) if name in chosen]
        for at in indexes:
            also = {"namespace": names[at]} if isinstance(options.namespace, list) else {}
            if len(indexes) > 1:
                also["annotation_index"] = str(at)
            yield from _observations(annotations[at].get("data"), f"annotations[{at}].data", also, options.points_s)

    def looks_like(self, head: str) -> bool:
        return head.lstrip().startswith("{") and '"annotations"' in head and '"namespace"' in head


def _choose(names: list[str], wanted: str | list[str] | None) -> set[str]:
    """Return the namespaces to read. names : of the annotations of the file. Raises SettingError if they do not fit what is wanted."""
    known = list(dict.fromkeys(names))
    listed = ", ".join(f"{name[:60]} ({names.count(name)})" for name in known[:_SHOWN])
    if wanted is None:
        if len(known) > 1:
            raise SettingError(
                f"the file has annotations in several namespaces; set `namespace` to one of: {listed}", "namespace"
            )
        return set(known)
    chosen = {wanted} if isinstance(wanted, str) else set(wanted)
    missing = sorted(chosen - set(known))
    if missing and known:
        raise SettingError(f"the file has no annotations in namespace {missing[0]!r}; it has: {listed}", "namespace")
    return chosen


def _observations(data: Any, place: str, also: dict[str, str], points_s: float | None) -> Iterator[Record]:
    """Yield the observations of an annotation, a list of objects or an object of lists. also : further cells of each"""
    if isinstance(data, dict):
        columns = {name: data.get(name) for name in _COLUMNS if name in data}
        lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
        if len(lengths) != 1 or -1 in lengths or "time" not in columns:
            expected = "expected lists of one length: time, duration, value and confidence"
            yield Record(dict(also), place=place, problem=expected)
            return
        names = list(columns)
        data = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if not isinstance(data, list):
        yield Record(dict(also), place=place, problem=f"expected a list of observations, found {shown(data)}")
        return
    for at, observation in enumerate(data):
        where = f"{place}[{at}]"
        if not isinstance(observation, dict):
            yield Record(dict(also), place=where, problem=f"expected an observation, found {shown(observation)}")
            continue
        cells = {"time": text_of(observation.get("time")), "duration": text_of(observation.get("duration"))}
        problem: str | None = None
        if any(not isinstance(observation.get(name), Number) for name in cells):
            problem = f"expected numbers for time and duration, found {shown({n: observation.get(n) for n in cells})}"
        elif plain_number(cells["duration"]) == 0:
            stretch = around(cells["time"], points_s)
            if stretch is None:
                problem = POINT
            else:
                cells |= {"time": stretch[0], "duration": repr(points_s)}
        if "confidence" in observation:
            cells["confidence"] = text_of(observation["confidence"])
        yield Record(cells | also | _value(observation.get("value"), {*cells, *also}), place=where, problem=problem)


def _value(value: Any, taken: set[str]) -> dict[str, str]:
    """Return the cells of an observation's value. taken : names of other cells, which a part of the value must not have"""
    if not isinstance(value, dict):
        return {"label": text_of(value)}
    return {f"value_{name}" if name in taken else name: text_of(part) for name, part in value.items()}


FORMAT = Jams()
