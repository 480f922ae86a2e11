"""Make the items of the plan: what each recording contributes to which split, with label, fields and annotation rows."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import regex

from clipmill.pipelines.plan.annotations.annotated import Rows, drained
from clipmill.pipelines.plan.label_rows import Event, events_of, merged, shared_fields
from clipmill.pipelines.plan.labels import LabelRule
from clipmill.pipelines.plan.recording_list import Recording
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.pipelines.plan.split_rule import SplitRule
from clipmill.pipelines.plan.transcripts import TextRule
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.label_config import From
from clipmill.schemas.config.text_config import RAW_TEXT, TEXT
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import Row, field_name
from clipmill.stages.storage.root import split_name

# Usual bytes per second by extension, for sizing shards without opening files. A changed estimate moves recordings to other shards,
# so extensions that could be decoded before they were listed here keep the usual value.
_BYTES_PER_S = {
    "wav": 88_200, "wave": 88_200, "rf64": 88_200, "w64": 88_200, "aif": 88_200, "aiff": 88_200, "aifc": 88_200, "au": 32_000,
    "snd": 32_000, "flac": 50_000, "ogg": 16_000, "oga": 16_000, "opus": 8_000, "mp3": 16_000, "mp4": 32_000, "mkv": 32_000,
    "wv": 60_000, "tta": 60_000, "ape": 60_000, "tak": 60_000, "dsf": 706_000, "dff": 706_000, "mpc": 22_000, "ac3": 48_000,
    "eac3": 24_000, "ec3": 24_000,
}  # fmt: skip
_USUAL_BYTES_PER_S = 16_000
# The fewest bytes per second that a file can have: 5.3 kbit/s speech in WAV, digital silence in FLAC, pauses in Opus.
_LOWEST_BYTES_PER_S = dict.fromkeys("wav wave rf64 w64 aif aiff aifc au snd".split(), 500)
_LOWEST_OF_CODED = 25
_SHORT_S = 10.0  # estimates of small files are not corrected: they weigh too little
_MIN_WEIGHT_S = 0.5
_SEEKABLE = frozenset("wav wave rf64 w64 aif aiff au flac".split())
_REGEX_TIMEOUT_S = 1.0
_WHOLE: tuple[float, float | None] = (0.0, None)


@dataclass(slots=True)
class Entry:
    """An annotation row of an item. See `clipmill.schemas.tables.ANNOTATION`.

    fields : by name, including the recording's own
    labels : where clips can have several; `label` is None then
    """

    start: float | None
    end: float | None
    ordinal: int
    label: str | None
    fields: dict[str, str]
    file: str
    line: int
    reason: str | None
    detail: str | None
    channel: int | None = None
    noted: tuple[str, ...] = ()
    labels: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Item:
    """A row of the plan: a recording, or the part of it that belongs to one shard. See `clipmill.schemas.tables.PLAN`.

    weight_s : weight for sizing shards, never 0; clips_s : estimated seconds of its clips
    events : what labels its clips, sorted; None: clips have one label at most
    """

    recording: Recording
    item_id: str
    split: str
    label: str | None
    fields: dict[str, str]
    primary: bool
    span: tuple[float, float | None]
    annotations: list[Entry] | None
    weight_s: float
    clips_s: float
    events: list[Event] | None = None


class PathReader:
    """Read label and fields from a recording's path."""

    def __init__(self, source: Source) -> None:
        self._label = source.label
        by_path = isinstance(source.label, From) and source.label.regex
        self.patterns = [regex.compile(p) for p in (by_path, source.fields) if p]

    def read(self, path: str) -> tuple[str | None, dict[str, str]]:
        fields: dict[str, str] = {}
        path = to_nfc(path)
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
    """Return the fields that a source's configuration gives to all of its clips."""
    names = {name for pattern in PathReader(source).patterns for name in pattern.groupindex}
    if isinstance(source.label, From) and source.label.from_ == "path":
        names.discard("label")
    if source.annotations is not None:
        names |= source.annotations.field_columns.keys()
    if source.text is not None:
        names |= {TEXT, RAW_TEXT} if source.text.keep_raw else {TEXT}
    stored = {field_name(name) for name in names}
    one_hot = LabelRule.one_hot_of(source)
    return stored - one_hot.fields_of(tuple(stored)) if one_hot is not None else stored


def noted_of(items: list[Item]) -> dict[str, int]:
    """Return the counts of notes on the rows that are used, by code of `clipmill.schemas.annotation_notes`; no zeros."""
    used = [row for item in items for row in item.annotations or () if row.reason is None]
    counts = Counter(code for row in used for code in row.noted)
    counts["rows_to_the_end"] = sum(row.start is not None and row.end is None for row in used)
    counts["rows_of_one_channel"] = sum(row.channel is not None for row in used)
    return {code: n for code, n in counts.items() if n}


def clips_of(items: list[Item], source: Source) -> float:
    """Estimate the number of clips of items: by the length of the window, or one per row or recording."""
    segment = source.segment
    if segment.mode == "window":
        return sum(item.clips_s for item in items) / float(segment.length_s or 1)
    return float(
        sum(
            1 if i.annotations is None or source.labels_by_overlap else sum(row.reason is None for row in i.annotations)
            for i in items
        )
    )


class ItemMaker:
    """Make the items of a source's recordings. The configuration is looked up once, not for each recording."""

    def __init__(self, config: Config, source: Source, rule: SplitRule) -> None:
        segment, label = source.segment, source.label
        self._rule = rule
        self.labels = LabelRule(config, source)
        self.texts = TextRule(source.text, f"sources.{source.name}.text") if source.text is not None else None
        self._longest_s = config.output.shard_seconds
        raw = source.raw
        self._bytes_per_second = raw.bytes_per_second if raw is not None else source.bytes_per_second
        self._seekable = raw is not None
        self._divisible = segment.mode == "window" and not config.levels_recordings(source)
        self._share = (
            float(segment.length_s or 0) / segment.hop / segment.keep_every if segment.mode == "window" else 1.0
        )
        self._label_from_annotation = isinstance(label, From) and label.from_ == "annotation"
        self.label_from_rows = source.label_from_rows
        self._only_labels = source.labels_by_overlap
        self._disjoint = {field_name(name) for name in config.split.disjoint}
        self._length_s = float(segment.length_s or 0)
        self._n_merged = 0
        self._label_by_row = (
            self.label_from_rows
            and source.annotations is not None
            and ("label" in source.annotations.columns or self.labels.one_hot is not None)
        )
        unit = source.annotations.row_unit if source.annotations else "s"
        self._is_sample = unit == "samples"
        self._unit_s = {"s": 1.0, "ms": 1e-3, "samples": 1 / 44100}[unit]

    def take_merged(self) -> int:
        """Return the number of rows that became part of others since the last call."""
        n, self._n_merged = self._n_merged, 0
        return n

    def items(
        self,
        recording: Recording,
        label: str | None,
        fields: dict[str, str],
        rows: Rows | None,
        labels: list[str] | None = None,
    ) -> list[Item]:
        """Return the items of a recording.

        Parameters
        ----------
        label, fields : read from its path
        rows : its annotations, None if the source has none; the list is emptied
        labels : read from its path where clips can have several, None if they come from the rows or there is one at most

        Raises
        ------
        RefusedError : its side of the split cannot be determined
        """
        if rows is None:
            items = self._whole(recording, self._rule.choose(recording.recording_id, fields, label), label, fields)
        elif self._only_labels:
            return self._overlapped(recording, fields, rows)
        else:
            items = self._annotated(recording, label, fields, rows)
        if labels is not None:
            for item in items:
                item.events = [Event(tuple(labels))] if labels else []
        return items

    def _overlapped(self, recording: Recording, fields: dict[str, str], rows: Rows) -> list[Item]:
        """Return one item, or one per span, with the rows that label its clips. A row is counted where it starts."""
        entries = [self._entry(file, row, None, {}) for file, row in rows]
        good = sorted((e for e in entries if e.reason is None), key=_position)
        own, others_differ = shared_fields(list(good))
        fields = {**fields, **own}
        split = self._rule.choose(recording.recording_id, fields, None)
        rows.clear()
        for entry in entries:  # what must not be on two sides is looked up in rows as well
            entry.fields = {name: value for name, value in entry.fields.items() if name in self._disjoint}
        if others_differ and good:
            good[0].noted += ("fields_of_rows",)
        items = self._whole(recording, split, None, fields)
        starts_s = [item.span[0] for item in items]
        own_rows: list[list[Entry]] = [[] for _ in items]
        for entry in good:
            start_s = 0.0 if self._is_sample else (entry.start or 0.0) * self._unit_s
            own_rows[bisect_right(starts_s, start_s) - 1].append(entry)
        own_rows[0] += sorted((e for e in entries if e.reason is not None), key=lambda e: (e.file, e.line))
        for item, counted in zip(items, own_rows, strict=True):
            item.annotations, item.events = counted, self._events_in(good, item, len(items))
        return items

    def _events_in(self, rows: list[Entry], item: Item, n_spans: int) -> list[Event]:
        """Return what rows say about windows that begin in an item's span. Places in samples are in none that is known."""
        if n_spans == 1 or self._is_sample:
            return events_of(rows)
        start, stop = item.span[0], (item.span[1] or math.inf) + self._length_s
        return events_of(
            e
            for e in rows
            if (e.start or 0.0) * self._unit_s <= stop and (e.end is None or e.end * self._unit_s >= start)
        )

    def _whole(self, recording: Recording, split: str, label: str | None, fields: dict[str, str]) -> list[Item]:
        """Return one item, or one per span."""
        name = recording.recording_id
        extension = split_name(recording.path)[2]
        seconds = self._estimate_s(recording, extension)
        seekable = self._seekable or extension in _SEEKABLE
        if not self._divisible or not seekable or seconds < 1.5 * self._longest_s:
            clips_s = seconds * self._share
            weight = max(_MIN_WEIGHT_S, clips_s)
            return [Item(recording, name, split, label, fields, True, _WHOLE, None, weight, clips_s)]
        items = []
        for k, (start, end) in enumerate(_spans(seconds, self._longest_s)):
            length = (end if end is not None else max(seconds, start)) - start
            clips_s = length * self._share
            weight, span = max(_MIN_WEIGHT_S, clips_s), (start, end)
            items.append(Item(recording, f"{name}#{k}", split, label, fields, k == 0, span, None, weight, clips_s))
        return items

    def _estimate_s(self, recording: Recording, extension: str) -> float:
        return recording.size_bytes / (self._bytes_per_second or _BYTES_PER_S.get(extension, _USUAL_BYTES_PER_S))

    def _annotated(self, recording: Recording, label: str | None, fields: dict[str, str], rows: Rows) -> list[Item]:
        """Return one item for each split that a row belongs to."""
        name = recording.recording_id
        by_split: dict[str, list[Entry]] = {}
        bad: list[Entry] = []
        entries = [self._entry(file, row, label, fields) for file, row in drained(rows)]
        events = None
        if self.labels.makes_lists:
            good, n_merged = merged([e for e in entries if e.reason is None], self._place, self.labels.separator)
            self._n_merged += n_merged
            entries = [*good, *(e for e in entries if e.reason is not None)]
            events = events_of(good)
        for entry in entries:
            if entry.reason is None:
                try:
                    split = self._rule.choose(name, entry.fields, entry.label)
                except RefusedError as error:
                    entry.reason, entry.detail = error.reason, error.detail
                else:
                    by_split.setdefault(split, []).append(entry)
                    continue
            bad.append(entry)
        if not by_split:
            by_split[self._rule.first] = []
        extension = split_name(recording.path)[2]
        whole_s = self._estimate_s(recording, extension)
        longest_s = self._longest_of(recording, extension, whole_s)
        primary = min(by_split)
        n_at: Counter[tuple[Any, ...]] = Counter()  # over all splits: ids are unique in the dataset
        items = []
        for split in sorted(by_split):
            entries = by_split[split]
            if len(entries) > 1:
                entries.sort(key=_position)
            for entry in entries:
                place = self._place(entry)
                entry.ordinal = n_at[place]
                n_at[place] += 1
            clips_s = self._annotated_s(entries, whole_s, longest_s)
            weight = max(_MIN_WEIGHT_S, clips_s)
            if split == primary and bad:
                entries += sorted(bad, key=lambda e: (e.file, e.line))
            item_id = f"{name}@{split}" if len(by_split) > 1 else name
            items.append(
                Item(
                    recording, item_id, split, label, fields, split == primary, _WHOLE, entries, weight, clips_s, events
                )
            )
        return items

    def _place(self, entry: Entry) -> tuple[Any, ...]:
        """Return the part of a row that enters the ids of its clips: see `clipmill.schemas.keys.clip_origin`, which rounds to microseconds.

        Positions in samples are whole numbers at a rate not known yet; two of them are at least 1 us apart.
        """
        if self._is_sample:
            return entry.start or 0.0, entry.end, entry.channel
        end_us = round(entry.end * self._unit_s * 1e6) if entry.end is not None else -1
        return round((entry.start or 0.0) * self._unit_s * 1e6), end_us, entry.channel

    def _entry(self, file: str, row: Row, label: str | None, fields: dict[str, str]) -> Entry:
        own = {**fields, **row.fields}
        entry = Entry(row.start, row.end, 0, label, own, file, row.line, row.reason, row.detail, row.channel, row.noted)
        if self.label_from_rows and self.labels.makes_lists:
            self._label_entry(entry, row)
        elif row.label is not None:
            if self.label_from_rows:
                try:
                    entry.label = self.labels.name(row.label)
                except RefusedError as error:
                    entry.reason, entry.detail = entry.reason or error.reason, entry.detail or error.detail
            else:
                entry.fields["annotation_label"] = row.label
        elif self._label_by_row and label is None:
            try:
                entry.label = self.labels.of_unlabelled()
            except RefusedError as error:
                entry.reason, entry.detail = entry.reason or error.reason, entry.detail or error.detail
        if self._label_from_annotation and entry.label is None and not self.labels.makes_lists:
            entry.reason = entry.reason or "label_missing"
        if self.texts is not None and entry.reason is None:
            try:
                entry.noted += self.texts.add_to(entry.fields, row.label)
            except RefusedError as error:
                entry.reason, entry.detail = error.reason, error.detail
        return entry

    def _label_entry(self, entry: Entry, row: Row) -> None:
        """Fill in the labels of a row that can have several, or the reason why it is rejected."""
        one_hot = self.labels.one_hot
        if one_hot is not None:
            of_labels = one_hot.fields_of(row.names)
            entry.fields = {name: value for name, value in entry.fields.items() if name not in of_labels}
        try:
            texts = self.labels.texts_of_row(row)
            left = self.labels.left(texts)
            if len(left) < len(texts):
                entry.noted += ("labels_dropped",)
            entry.labels = self.labels.names(left)
            if not texts and one_hot is None:
                if self._label_from_annotation or self._only_labels:
                    raise RefusedError("label_missing", "")
                default = self.labels.of_unlabelled() if self._label_by_row else None
                entry.labels = [default] if default is not None else []
        except RefusedError as error:
            entry.reason, entry.detail = entry.reason or error.reason, entry.detail or error.detail or None

    def _longest_of(self, recording: Recording, extension: str, whole_s: float) -> float:
        """Return the most seconds that a file of this size can hold: exact for files without a header, otherwise a generous limit."""
        if self._seekable:
            return whole_s
        lowest = _LOWEST_BYTES_PER_S.get(extension, _LOWEST_OF_CODED)
        return max(_SHORT_S, whole_s, recording.size_bytes / lowest)

    def _annotated_s(self, entries: list[Entry], whole_s: float, longest_s: float) -> float:
        """Return the total seconds of valid rows. A row without an end counts as its whole recording; no row exceeds `longest_s`."""
        return float(
            sum(
                min((e.end - (e.start or 0.0)) * self._unit_s, longest_s) if e.end is not None else whole_s
                for e in entries
            )
        )


def _spans(seconds: float, longest_s: float) -> list[tuple[float, float | None]]:
    """Return the spans of a long recording that several shards share; its container can seek exactly. The last span is open."""
    n = math.ceil(seconds / longest_s)
    return [(k * longest_s, (k + 1) * longest_s if k + 1 < n else None) for k in range(n)]


def _position(entry: Entry) -> tuple[Any, ...]:
    end = entry.end if entry.end is not None else float("inf")
    return (entry.start or 0.0, end, entry.channel or 0, entry.label or "", sorted(entry.fields.items()))
