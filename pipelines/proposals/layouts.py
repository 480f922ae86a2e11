"""Propose how files of delimited text are read: delimiter, header, columns and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.proposals.cell_sample import CellSample, Column, normal
from clipmill.pipelines.proposals.column_guesses import Guessed, guess_columns, values_text
from clipmill.pipelines.proposals.commented_yaml import Instead
from clipmill.pipelines.proposals.found_annotations import FoundAnnotations
from clipmill.pipelines.proposals.row_trial import File, Trial, try_rows
from clipmill.pipelines.proposals.time_units import guess_unit
from clipmill.stages.annotations.dialect import WHITESPACE
from clipmill.stages.decode.header_length import HeaderLength

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_DELIMITERS = {"\t": "tab", WHITESPACE: WHITESPACE}


def lay_out(
    found: FoundAnnotations,
    sample: CellSample,
    files: Sequence[File],
    lengths: Mapping[str, HeaderLength],
    wants_text: bool,
    recording: Column | None = None,
    join: Join | None = None,
) -> bool:
    """Fill in the keys of delimited text, and read its beginning with them. Returns whether the rows say anything of use.

    Parameters
    ----------
    found : annotations of which the files are known; for a table, with `recording`
    sample : the beginning of the files
    recording, join : of a table: the column that names the recording, and what finds it
    """
    at = recording.at if recording is not None else None
    guessed = guess_columns(sample, at, wants_text, _owners(sample, recording, join), lengths)
    found.guessed = guessed
    _dialect(found, sample)
    columns, fields = _roles(found, sample, guessed)
    clock = bool(guessed.times) and all(column.is_clock for column in guessed.times)
    if clock:
        found.keys["time_unit"] = "clock"
        found.because["time_unit"] = ["the times have the form of a clock, such as " + guessed.times[0].cells[0]]
    base = {**found.plain, **({"fields": fields} if fields else {})}
    trial = try_rows({**base, "columns": columns} if columns else base, files, join)
    if guessed.times and not clock:
        trial = _with_unit(found, {**base, "columns": columns}, trial, files, lengths, join, guessed)
        if not found.is_timed:  # the times are of something else
            columns = {role: where for role, where in columns.items() if role == "label"}
            guessed.start = guessed.end = guessed.duration = None
            trial = try_rows({**base, "columns": columns} if columns else base, files, join)
    found.trial = trial
    if columns:
        found.keys["columns"] = columns
    if fields:
        found.keys["fields"] = fields
    has_more = recording is not None and sample.header is not None and len(sample.columns) > 1
    return bool(columns or fields or guessed.text is not None or has_more)


def _owners(sample: CellSample, recording: Column | None, join: Join | None) -> list[str | None]:
    """Return the recording of each row, None where it is not known."""
    if join is None:
        return [*sample.owners]
    if recording is None:
        return [None] * len(sample.rows)
    found: dict[str, str | None] = {}
    for name in {row[recording.at] for row in sample.rows if recording.at < len(row)}:
        found[name] = join.find(name)[0]
    return [found.get(row[recording.at]) if recording.at < len(row) else None for row in sample.rows]


def _dialect(found: FoundAnnotations, sample: CellSample) -> None:
    """Set what is needed to read the cells; what the reader finds by itself is not set."""
    if sample.header is None:
        found.keys["header"] = False
        found.because["header"] = [f"the first row is data, not names: {', '.join(map(repr, sample.rows[0][:6]))}"]
    else:
        found.because["header"] = [f"the first row has the names of the columns: {', '.join(sample.header[:20])}"]
    if sample.delimiter != ",":
        found.keys["delimiter"] = _DELIMITERS.get(sample.delimiter, sample.delimiter)
    if sample.encoding != "auto":
        found.keys["encoding"] = sample.encoding
        found.because["encoding"] = sample.notes
        others = [name for name in ("cp1252", "cp949", "shift_jis", "gb18030") if name != sample.encoding]
        found.instead["encoding"] = [Instead("or another encoding, if letters look wrong", name) for name in others]


def _roles(
    found: FoundAnnotations, sample: CellSample, guessed: Guessed
) -> tuple[dict[str, str | int], dict[str, str | int]]:
    """Return `columns` and `fields`."""
    columns: dict[str, str | int] = {}
    fields: dict[str, str | int] = {}
    for role in ("start", "end", "duration", "label"):
        column = getattr(guessed, role)
        if column is not None:
            columns[role] = _where(sample, column)
    for name, one in (("text", guessed.text), ("speaker", guessed.speaker), ("split", guessed.split)):
        if one is not None and (sample.header is None or name == "text" or normal(one.name) != one.name):
            stored = name if name != "split" else "set"
            if one.name != stored:
                fields[stored] = _where(sample, one)
    lines = [guessed.because[role] for role in ("start", "label") if role in guessed.because]
    if lines:
        found.because["columns"] = lines
    instead = [
        Instead(f"or another label: {values_text(other)}", {**columns, "label": _where(sample, other)})
        for other in guessed.labels[:3]
    ]
    _tell_numbers(found, sample, guessed, columns, instead)
    if guessed.end is not None and sample.header is None and guessed.start is not None:
        swapped = {("duration" if role == "end" else role): where for role, where in columns.items()}
        instead.append(Instead("or, if the second number is a duration", swapped))
    if instead:
        found.instead["columns"] = instead
    if "text" in guessed.because:
        found.because["fields"] = [guessed.because["text"]]
        found.instead["fields"] = [
            Instead(f"or another text: {values_text(other)}", {**fields, "text": _where(sample, other)})
            for other in guessed.texts[:3]
        ]
    if sample.header is not None:
        known = {one.name for one in (guessed.text, guessed.speaker, guessed.split) if one is not None}
        used = {*columns.values(), *fields.values(), *known, *_named_by(found)}
        others = [name for name in sample.header if name and name not in used]
        if others:
            found.because.setdefault("fields", []).append(
                f"columns without a role are carried as fields of each clip: {', '.join(others[:20])}"
            )
    return columns, fields


def _tell_numbers(
    found: FoundAnnotations,
    sample: CellSample,
    guessed: Guessed,
    columns: Mapping[str, str | int],
    instead: list[Instead],
) -> None:
    """Name the columns of numbers that are not used, and offer them as times if there are none."""
    unused = [column for column in guessed.numbers if _where(sample, column) not in _named_by(found)]
    if not unused:
        return
    shown = ", ".join(repr(column.where) for column in unused[:10])
    found.because.setdefault("columns", []).append(f"columns with numbers that are not used: {shown}")
    if guessed.times:
        return
    start, *more = (_where(sample, column) for column in unused[:2])
    for role in ("end", "duration") if more else ("",):
        times = {"start": start, **({role: more[0]} if role else {})}
        why = f"these would make {' and '.join(repr(where) for where in times.values())} times, with `segment: {{mode: annotation}}`"
        instead.append(Instead(why, {**times, **columns}))


def _named_by(found: FoundAnnotations) -> set[str | int]:
    """Return the columns that name the recording."""
    recording = found.keys.get("recording")
    names = recording if isinstance(recording, list) else [recording] if recording is not None else []
    return {*names, *(part for name in names if isinstance(name, str) for part in _PLACEHOLDER.findall(name))}


def _where(sample: CellSample, column: Column) -> str | int:
    return column.name if sample.header is not None and column.name else column.at


def _with_unit(
    found: FoundAnnotations,
    plain: dict[str, Any],
    trial: Trial,
    files: Sequence[File],
    lengths: Mapping[str, HeaderLength],
    join: Join | None,
    guessed: Guessed,
) -> Trial:
    """Set the unit of times, and return what the files give with it; `found.trial` has no times if they fit no unit."""
    names = [column.name for column in guessed.times]
    whole = all(column.is_whole for column in guessed.times)
    unit = guess_unit(trial.ends, lengths, is_whole=whole, names=names)
    if unit.value is None:
        found.because["columns"] = [
            f"{unit.because}; so {', '.join(repr(c.where) for c in guessed.times)} are not times in these recordings, and rows are about all of"
            " each recording",
            *[line for line in found.because.get("columns", []) if line.startswith(("label", "column"))],
        ]
        found.instead.pop("columns", None)
        found.trial = Trial()
        return found.trial
    found.because["time_unit"] = [unit.because]
    found.instead["time_unit"] = [Instead(f"or, {why}", value) for value, why in unit.others]
    if unit.value != "s":
        found.keys["time_unit"] = unit.value
        trial = try_rows({**plain, "time_unit": unit.value}, files, join)
    found.trial = trial
    return trial
