"""Read the beginnings of annotation files as a build would, to see what a configuration of them gives."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import ValidationError

from clipmill.pipelines.plan.annotations.join import Join
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import Content, FileRows
from clipmill.stages.annotations.registered import complete, find_format
from clipmill.stages.annotations.rows import AmbiguousError, SettingError, UnreadableError
from clipmill.stages.decode.header_length import HeaderLength

_MOST_ROWS = 5000
_MOST_OF_A_FILE = 2000
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class File:
    """An annotation file, or its beginning. owner : path of the recording beside it; of a table, its own path"""

    owner: str
    path: str
    content: Content


@dataclass
class Trial:
    """What the beginnings of annotation files gave.

    n_files : files that were read; problems : why others could not be
    setting : the message of a format that lacks a key, and the key
    n_rows : rows, without those that are rejected; rejected : number of rows by reason
    n_joined : rows that name a recording; missed : names that fit none; reasons why
    labels, texts : labels by recording; number of texts
    ends : last end of each recording, in the unit of the file; row_ends : recording and end of each row
    longest : greatest length of a row, in the unit of the file
    fields : values by field, and by recording
    """

    n_files: int = 0
    problems: list[str] = field(default_factory=list)
    setting: tuple[str, str] | None = None
    n_rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    example: str = ""
    n_joined: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    missed_names: list[str] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)
    labels: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    n_labels: Counter[str] = field(default_factory=Counter)
    ends: dict[str, float] = field(default_factory=dict)
    row_ends: list[tuple[str, float]] = field(default_factory=list)
    longest: float = 0.0
    n_timed: int = 0
    is_whole_numbers: bool = True
    fields: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    row_unit: str = "s"

    @property
    def joined_share(self) -> float:
        return self.n_joined / max(1, self.n_rows)

    def beyond_share(self, lengths: Mapping[str, HeaderLength], tolerance_s: float = 0.05) -> float:
        """Return the share of rows that end after their recordings do, of those whose recordings have known lengths."""
        known = [(end, lengths[path]) for path, end in self.row_ends if path in lengths]
        beyond = sum(self.seconds(end, length) > length.seconds + tolerance_s for end, length in known)
        return beyond / max(1, len(known))

    def seconds(self, value: float, length: HeaderLength | None) -> float:
        """Return a time in seconds. length : of its recording"""
        if self.row_unit == "samples":
            return value / (length.sample_rate_hz if length is not None and length.sample_rate_hz else 44_100)
        return value * {"s": 1.0, "ms": 1e-3}[self.row_unit]


def completed(plain: Mapping[str, Any]) -> Annotations | None:
    """Return annotations as a build would understand them, None if the configuration is wrong."""
    filled, problems = complete(plain, "annotations")
    if problems:
        return None
    try:
        return Annotations.model_validate(filled)
    except ValidationError:
        return None


def try_rows(plain: Mapping[str, Any], files: Sequence[File], join: Join | None) -> Trial:
    """Read files as a configuration says. join : finds the recordings that rows of tables name; None for sidecars"""
    trial = Trial()
    spec = completed(plain)
    if spec is None:
        trial.problems.append("the configuration of these files is not valid")
        return trial
    trial.row_unit = spec.row_unit
    for file in files:
        if trial.n_rows >= _MOST_ROWS:
            break
        try:
            rows = find_format(spec.format).open(file.content, spec, file.path)
            _take(trial, rows, spec, file, join)
        except SettingError as error:
            trial.setting = trial.setting or (str(error), error.under)
            trial.problems.append(str(error))
        except (UnreadableError, AmbiguousError) as error:
            trial.problems.append(str(error))
        else:
            trial.n_files += 1
    return trial


def _take(trial: Trial, rows: FileRows, spec: Annotations, file: File, join: Join | None) -> None:
    most = _MOST_OF_A_FILE if join is None else _MOST_ROWS
    for cells, row in islice(rows, most):
        if row.reason is not None:
            trial.rejected[row.reason] += 1
            trial.example = trial.example or str(row.detail)
            continue
        trial.n_rows += 1
        owner: str | None = file.owner
        if join is not None:
            owner = _recording(trial, rows, spec, cells, join)
            if owner is None:
                continue
            trial.n_joined += 1
        if owner is None:
            continue
        trial.recordings.add(owner)
        if row.label is not None:
            trial.labels[owner].add(row.label)
            trial.n_labels[row.label] += 1
        for name, value in zip(row.names, row.values, strict=True):
            if value:
                trial.fields[name][owner].add(value)
        if row.start is not None:
            trial.n_timed += 1
            end = row.end if row.end is not None else row.start
            trial.ends[owner] = max(trial.ends.get(owner, 0.0), end)
            trial.row_ends.append((owner, end))
            trial.longest = max(trial.longest, end - row.start)
            trial.is_whole_numbers = (
                trial.is_whole_numbers and float(end).is_integer() and float(row.start).is_integer()
            )


def _recording(trial: Trial, rows: FileRows, spec: Annotations, cells: list[str], join: Join) -> str | None:
    """Return the recording that a row names, as `clipmill.pipelines.plan.annotations.table_rows` finds it."""
    configured: list[str] | list[str | int | None]
    configured = spec.recording if isinstance(spec.recording, list) else [spec.recording]
    wanted: list[str | int] = [*rows.named_by] or [one for one in configured if one is not None]
    why = "recording_not_found"
    first = ""
    for one in wanted:
        name = _name(rows, cells, one)
        if not name:
            continue
        first = first or name
        path, reason = join.find(name)
        if path is not None:
            return path
        why = reason
    trial.missed[why] += 1
    if len(trial.missed_names) < 3 and first:
        trial.missed_names.append(first)
    return None


def _name(rows: FileRows, cells: list[str], wanted: str | int) -> str:
    def cell(where: str | int) -> str:
        at = rows.column(where)
        return cells[at] if at is not None and at < len(cells) else ""

    if isinstance(wanted, str) and _PLACEHOLDER.search(wanted) is not None:
        return _PLACEHOLDER.sub(lambda match: cell(match[1]), wanted)
    return cell(wanted)
