"""Items: what each recording contributes to which split, with its label, its fields and the annotation rows it is cut by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import regex

from pipelines.annotation_files import Row, field_name
from pipelines.inventory import Recording
from schemas.config import Config, From, Source
from schemas.errors import ConfigError
from schemas.keys import position_hash
from schemas.storage import split_name

# Bytes a second that are usual for an extension, for sizing shards without opening a file.
_BYTES_PER_S = {
    "wav": 88_200, "wave": 88_200, "rf64": 88_200, "w64": 88_200, "aif": 88_200, "aiff": 88_200, "aifc": 88_200, "au": 32_000,
    "snd": 32_000, "flac": 50_000, "ogg": 16_000, "oga": 16_000, "opus": 8_000, "mp3": 16_000, "mp4": 32_000, "mkv": 32_000,
}  # fmt: skip
_USUAL_BYTES_PER_S = 16_000
_MIN_WEIGHT_S = 0.5
_SEEKABLE = frozenset("wav wave rf64 w64 aif aiff au flac".split())
_REGEX_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Item:
    """A row of the plan: a recording, or the part of it that one shard has. See `schemas.tables.PLAN`."""

    recording: Recording
    item_id: str
    split: str
    label: str | None
    fields: dict[str, str]
    primary: bool
    span: tuple[float, float | None]
    annotations: list[dict[str, Any]] | None
    weight_s: float


class RefusedError(Exception):
    """A recording or an annotation that is rejected while it is planned. reason : a code of schemas.reasons."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


class PathReader:
    """Reads label and fields off a recording's path."""

    def __init__(self, source: Source) -> None:
        self._label = source.label
        by_path = isinstance(source.label, From) and source.label.regex
        self.patterns = [regex.compile(p) for p in (by_path, source.fields) if p]

    def read(self, path: str) -> tuple[str | None, dict[str, str]]:
        fields: dict[str, str] = {}
        for pattern in self.patterns:
            try:
                match = pattern.search(path, timeout=_REGEX_TIMEOUT_S)
            except TimeoutError:
                raise ConfigError(f"the regular expression {pattern.pattern!r} takes too long on {path!r}") from None
            if match is None:
                raise RefusedError("label_not_in_path", f"{pattern.pattern!r} does not match {path!r}")
            fields |= {k: v for k, v in match.groupdict().items() if v is not None}
        label: str | None = None
        if isinstance(self._label, str):
            label = self._label
        elif isinstance(self._label, From) and self._label.from_ == "folder":
            label = PurePosixPath(path).parent.name or None
            if label is None:
                raise RefusedError("label_not_in_path", f"{path!r} is in no folder whose name could be its label")
        elif isinstance(self._label, From) and self._label.from_ == "path":
            label = fields.pop("label", None)
        return label, {field_name(k): v for k, v in fields.items()}


def configured_fields(source: Source) -> set[str]:
    """Return the fields that a source's clips have by its configuration, whatever its recordings are."""
    found = {name for pattern in PathReader(source).patterns for name in pattern.groupindex}
    if isinstance(source.label, From) and source.label.from_ == "path":
        found.discard("label")
    if source.annotations is not None:
        found |= source.annotations.columns.keys() - {"start", "end", "duration", "label"}
    return {field_name(name) for name in found}


def whole_items(
    config: Config, source: Source, recording: Recording, label: str | None, fields: dict[str, str]
) -> Iterator[Item]:
    split = choose_split(config, recording.recording_id, fields, label)
    seconds = _estimate_s(source, recording)
    spans = _spans(config, source, recording, seconds)
    share = 1.0
    if source.segment.mode == "window":
        share = float(source.segment.length_s or 0) / source.segment.hop / source.segment.keep_every
    for k, (start, end) in enumerate(spans):
        length = (end if end is not None else max(seconds, start)) - start
        item_id = recording.recording_id + (f"#{k}" if len(spans) > 1 else "")
        weight = max(_MIN_WEIGHT_S, length * share)
        yield Item(recording, item_id, split, label, fields, k == 0, (start, end), None, weight)


def _estimate_s(source: Source, recording: Recording) -> float:
    extension = split_name(recording.path)[2]
    rate = source.bytes_per_second or _BYTES_PER_S.get(extension, _USUAL_BYTES_PER_S)
    return recording.size_bytes / rate


def _spans(config: Config, source: Source, recording: Recording, seconds: float) -> list[tuple[float, float | None]]:
    """Cut a long recording whose container can seek exactly, so that several shards share it. The last span is open."""
    longest = config.output.shard_seconds
    extension = split_name(recording.path)[2]
    if source.segment.mode != "window" or extension not in _SEEKABLE or seconds < 1.5 * longest:
        return [(0.0, None)]
    n = math.ceil(seconds / longest)
    return [(k * longest, (k + 1) * longest if k + 1 < n else None) for k in range(n)]


def annotated_items(
    config: Config,
    source: Source,
    recording: Recording,
    label: str | None,
    fields: dict[str, str],
    rows: list[tuple[str, Row]],
) -> Iterator[Item]:
    from_rows = source.label is None or (isinstance(source.label, From) and source.label.from_ == "annotation")
    by_split: dict[str, list[dict[str, Any]]] = {}
    bad: list[dict[str, Any]] = []
    for file, row in rows:
        entry: dict[str, Any] = {
            "start": row.start, "end": row.end, "ordinal": 0, "label": label, "fields": {**fields, **row.fields}, "file": file,
            "line": row.line, "reason": row.reason, "detail": row.detail,
        }  # fmt: skip
        if row.label is not None:
            if from_rows:
                entry["label"] = row.label
            else:
                entry["fields"]["annotation_label"] = row.label
        if isinstance(source.label, From) and source.label.from_ == "annotation" and entry["label"] is None:
            entry["reason"] = entry["reason"] or "label_missing"
        if entry["reason"] is not None:
            bad.append(entry)
            continue
        try:
            split = choose_split(config, recording.recording_id, entry["fields"], entry["label"])
        except RefusedError as error:
            bad.append({**entry, "reason": error.reason, "detail": error.detail})
            continue
        by_split.setdefault(split, []).append(entry)
    if not by_split:
        by_split[_split_names(config)[0]] = []
    primary = min(by_split)
    for split in sorted(by_split):
        entries = sorted(by_split[split], key=_position)
        for before, entry in pairwise(entries):
            if (before["start"], before["end"]) == (entry["start"], entry["end"]):
                entry["ordinal"] = before["ordinal"] + 1
        if split == primary:
            entries += sorted(bad, key=lambda e: (e["file"], e["line"]))
        item_id = recording.recording_id + (f"@{split}" if len(by_split) > 1 else "")
        weight = max(_MIN_WEIGHT_S, _annotated_s(source, recording, entries))
        yield Item(recording, item_id, split, label, fields, split == primary, (0.0, None), entries, weight)


def _position(entry: dict[str, Any]) -> tuple[Any, ...]:
    end = entry["end"] if entry["end"] is not None else float("inf")
    return (entry["start"] or 0.0, end, entry["label"] or "", sorted(entry["fields"].items()))


def _annotated_s(source: Source, recording: Recording, entries: Sequence[dict[str, Any]]) -> float:
    whole = _estimate_s(source, recording)
    scale = {"s": 1.0, "ms": 1e-3, "samples": 1 / 44100}[source.annotations.time_unit if source.annotations else "s"]
    ranges = [
        (e["end"] - (e["start"] or 0.0)) * scale if e["end"] is not None else whole
        for e in entries
        if e["reason"] is None
    ]
    return float(sum(ranges))


def _split_names(config: Config) -> list[str]:
    if config.split.from_ is not None:
        return [*(config.split.map or {}).values(), *([config.split.default] if config.split.default else [])]
    return list(config.split.shares)


def choose_split(config: Config, recording_id: str, fields: dict[str, str], label: str | None) -> str:
    """Return the split of a clip. It depends on one value alone, so it never changes as the corpus grows."""
    name = config.split.field
    value: str | None = recording_id
    if name is not None:
        value = fields.get(field_name(name)) or fields.get(name) or (label if name == "label" else None)
        if not value:
            raise RefusedError("split_field_missing", f"no value for {name!r}, which decides the split")
    if config.split.from_ is not None:
        mapped = (config.split.map or {}).get(str(value), config.split.default)
        if mapped is None:
            raise RefusedError("split_not_mapped", f"{name} is {value!r}")
        return mapped
    shares = config.split.shares
    point = position_hash(f"split:{value}") / 2**64
    for split, share in shares.items():
        point -= share
        if point < 0:
            return split
    return [s for s, share in shares.items() if share > 0][-1]
