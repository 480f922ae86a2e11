"""Read the manifests of Lhotse: supervisions and cuts, and the recordings that give their files.

No source is run or fetched: of a recording only the names of its files are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import decode_text, lines
from clipmill.stages.annotations.format import Content, Record, RecordFormat
from clipmill.stages.annotations.json_text import Number, read_json, read_json_lines, shown, text_of, unpack_gzip
from clipmill.stages.annotations.lhotse_recordings import Recordings
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.sheet import MAX_SIDECAR_BYTES, MAX_TABLE_BYTES

_OWN = ("id", "language", "speaker", "gender", "text")
_KEYS = ("start", "duration")
_SUPERVISIONS, _CUTS, _RECORDINGS = "supervisions", "cuts", "recordings"
_LONGEST_NUMBER = 40
_NEITHER = "neither a supervision, which has recording_id, start and duration, nor a cut, which has start, duration and supervisions"


@dataclass(slots=True)
class _Item:
    """One entry of a manifest. value : an object; line, place, problem : as in `Record`"""

    value: dict[str, Any]
    line: int
    place: str
    problem: str | None


class Lhotse(RecordFormat):
    """Read supervisions: those of a file of supervisions, or those in the cuts of a file of cuts. The text is the label.

    The table is such a file, beside which its file of recordings may lie, or a folder of manifests. Cuts that are mixed or padding,
    recordings in memory, and those changed in speed are no stretches of a file; they are counted.
    """

    name = "lhotse"
    about = "Lhotse manifests: supervisions or cuts, with recordings beside them, as JSON Lines or JSON, also packed by gzip"
    roles: ClassVar[Mapping[str, str]] = {"start": "start", "duration": "duration", "label": "text"}
    fields: ClassVar[Mapping[str, str]] = {"text": "text"}
    recording = ("path", "recording_id")
    folder = (f"*{_SUPERVISIONS}*.json*", f"*{_CUTS}*.json*", f"*{_RECORDINGS}*.json*")
    beside = (f"*{_RECORDINGS}*.json*",)
    header = ("id", "channel", "language", "speaker", "gender")
    extensions = ("gz", "json", "jsonl")

    def companions(self, name: str, others: Sequence[str]) -> list[str]:
        """Return the file of recordings of one of supervisions: that of the same name, or the only one. Cuts hold their recordings."""
        if _SUPERVISIONS not in name:
            return []
        same = name.replace(_SUPERVISIONS, _RECORDINGS)
        return [same] if same in others else list(others) if len(others) == 1 else []

    def decode(self, content: Content, spec: Annotations) -> dict[str, str]:
        limit = MAX_SIDECAR_BYTES if spec.sidecar is not None else MAX_TABLE_BYTES
        files = {"": content} if isinstance(content, bytes) else content
        kinds = [kind for kind in (_SUPERVISIONS, _CUTS) if any(kind in name for name in files)]
        if len(kinds) > 1:
            names = ", ".join(name for name in files if _RECORDINGS not in name)
            raise UnreadableError(
                f"the folder has supervisions and cuts, which hold the same ones again: {names}; set `table` to one file"
            )
        texts = {}
        for name in sorted(files, key=lambda name: (_RECORDINGS not in name, name)):
            try:
                texts[name] = decode_text(unpack_gzip(files[name], limit), spec.encoding).lstrip("\ufeff")
            except UnreadableError as error:
                raise UnreadableError(f"{name}: {error}" if name else str(error)) from None
        return texts

    def read(self, content: Mapping[str, str], spec: Annotations, options: Any) -> Iterator[Record]:
        recordings = Recordings(spec)
        n_items = n_used = 0
        seen: set[tuple[str, ...]] = set()
        for name, text in content.items():
            for item in _items(name, text):
                value = item.value
                n_items += 1
                if item.problem is None and "sources" in value:
                    recordings.add(value)
                    continue
                n_used += "supervisions" in value or "tracks" in value or _is_supervision(value)
                for record in _records(item, recordings, seen):
                    record.line, record.place = record.line or item.line, record.place or item.place
                    yield record
        if n_items and not n_used:
            raise UnreadableError(
                "no manifest of supervisions or cuts: none of its objects has recording_id, supervisions or tracks"
            )

    def looks_like(self, head: str) -> bool:
        start = next((line for line in lines(head) if line.strip()), "").lstrip()
        if not start.startswith(("{", "[")) or '"audio_filepath"' in head:
            return False
        return all(f'"{key}"' in head for key in _KEYS) and ('"recording_id"' in head or '"supervisions"' in head)


def _items(name: str, text: str) -> Iterator[_Item]:
    """Yield the objects of a manifest, which is a JSON list or JSON Lines. name : of the file, empty if it is the only one"""
    if not text.lstrip().startswith("["):
        if text.lstrip().startswith("- ") or name.endswith(("yaml", "yml")):
            raise UnreadableError("YAML; convert it by `lhotse copy MANIFEST.yaml MANIFEST.jsonl.gz`")
        for line in read_json_lines(text):
            place = f"{name}, line {line.number}" if name else ""
            yield _Item(line.value, line.number, place, line.problem)
        return
    for i, value in enumerate(read_json(text)):
        is_object = isinstance(value, dict)
        problem = None if is_object else f"{shown(value)} is not an object"
        yield _Item(value if is_object else {}, 0, f"{name}[{i}]", problem)


def _records(item: _Item, recordings: Recordings, seen: set[tuple[str, ...]]) -> Iterator[Record]:
    """Yield the rows of an object, or what is wrong with it. seen : supervisions of earlier cuts"""
    value = item.value
    if item.problem is not None:
        yield Record(problem=item.problem)
    elif "tracks" in value or value.get("type") in ("MixedCut", "PaddingCut"):
        yield Record(is_passed_over=True, notes=("cuts_not_of_a_file",))
    elif isinstance(value.get("supervisions"), list):
        yield from _of_cut(item, recordings, seen)
    elif _is_supervision(value):
        yield _of_supervision(value, recordings)
    else:
        yield Record(problem=f"{shown(value)} is {_NEITHER}")


def _is_supervision(value: Mapping[str, Any]) -> bool:
    """Return whether an object is a supervision. Features have a recording and times as well."""
    return "recording_id" in value and "storage_type" not in value and any(key in value for key in _KEYS)


def _of_cut(item: _Item, recordings: Recordings, seen: set[tuple[str, ...]]) -> Iterator[Record]:
    """Yield the supervisions of a cut, whose times are relative to its start. Cuts that overlap repeat some."""
    cut = item.value
    own = recordings
    if isinstance(cut.get("recording"), dict):
        own = recordings.alone(cut["recording"])
    if not cut["supervisions"]:
        yield Record(is_passed_over=True, notes=("cuts_without_supervisions",))
    for k, supervision in enumerate(cut["supervisions"]):
        place = f"{item.place or f'line {item.line}'}: supervisions[{k}]"
        if not isinstance(supervision, dict):
            yield Record(place=place, problem=f"{shown(supervision)} is not an object")
            continue
        placed = {**supervision, "start": _sum(cut.get("start"), supervision.get("start"))}
        recording = cut.get("recording") or cut.get("features")
        if isinstance(recording, dict):
            placed["recording_id"] = recording.get("recording_id", recording.get("id", placed.get("recording_id")))
        record = _of_supervision(placed, own, cut.get("custom"))
        record.place = place
        key = tuple(record.cells.get(name, "") for name in ("recording_id", "id", "start", "duration"))
        if key in seen and record.problem is None and "id" in supervision:
            record = Record(is_passed_over=True, notes=("records_repeated",))
        seen.add(key)
        yield record


def _of_supervision(value: Mapping[str, Any], recordings: Recordings, more: Any = None) -> Record:
    """Return the row of a supervision. more : fields of its cut"""
    record = Record()
    for custom in (more, value.get("custom")):
        if isinstance(custom, dict):
            record.cells |= {
                _free(key): text_of(each) for key, each in custom.items() if not (each is None or _is_array(each))
            }
    record.cells |= {key: text_of(value[key]) for key in (*_KEYS, *_OWN) if value.get(key) is not None}
    recording = value.get("recording_id")
    if not isinstance(recording, str):
        record.problem = f"recording_id is {shown(recording)}, expected the id of a recording"
    else:
        record.cells["recording_id"] = str(recording)
        recordings.find(record, str(recording), value.get("channel"))
    for key in _KEYS:
        if key not in record.cells:
            record.problem = record.problem or f"has no {key}"
    return record


def _free(key: str) -> str:
    """Return the column of a custom field, which may not be one that supervisions have."""
    return f"custom_{key}" if key in (*_OWN, *_KEYS, "channel", "path", "recording_id") else key


def _is_array(value: Any) -> bool:
    """Return whether a custom field is the place of an array in another file."""
    return isinstance(value, dict) and bool({"storage_key", "storage_path", "array"} & value.keys())


def _sum(start: Any, offset: Any) -> Any:
    """Return the sum of two times, as exact as they are written."""
    if isinstance(start, Number) and isinstance(offset, Number) and max(len(start), len(offset)) <= _LONGEST_NUMBER:
        with suppress(ArithmeticError):
            return Number(Decimal(start) + Decimal(offset))
    return None if start is None or offset is None else f"{shown(start)} + {shown(offset)}"


FORMAT = Lhotse()
