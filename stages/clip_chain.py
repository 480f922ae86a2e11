"""Apply clip stages: each clip passes through the stages of its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from clipmill.schemas.errors import ClipmillError, StageError
from clipmill.stages.stage import Stage, is_clip

_MAX_TEXT = 500


@dataclass(frozen=True)
class ClipChain:
    """Apply to each clip the clip stages of its source. Takes and yields tables of `clipmill.schemas.tables.CLIPS`, and adds `fields`.

    stages : in their order, by source
    fields : columns that any of the stages adds; null in clips of sources without that stage
    begin : called before a stage works, with the message to report if it never returns, and with "" after it
    """

    stages: Mapping[str, Sequence[Stage]]
    fields: Sequence[pa.Field] = ()
    begin: Callable[[str], None] | None = None

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for part in _by_source(table) if len(self.stages) > 1 else [table]:
            source = part["source"][0].as_py() if part.num_rows else next(iter(self.stages), "")
            for result in self._apply(part, list(self.stages.get(source, ()))):
                yield self._conform(result)

    def _apply(self, table: pa.Table, stages: list[Stage]) -> Iterator[pa.Table]:
        if not stages:
            yield table
            return
        for result in apply_stage(stages[0], table, self.begin):
            yield from self._apply(result, stages[1:])

    def _conform(self, table: pa.Table) -> pa.Table:
        missing = [f for f in self.fields if f.name not in table.column_names]
        for field in missing:
            table = table.append_column(field.remove_metadata(), pa.nulls(table.num_rows, field.type))
        if len(self.fields) > 1:  # the order of stages can differ between sources
            plain = [n for n in table.column_names if n not in {f.name for f in self.fields}]
            table = table.select([*plain, *(f.name for f in self.fields)])
        return table


def apply_stage(stage: Stage, table: pa.Table, begin: Callable[[str], None] | None = None) -> list[pa.Table]:
    """Return the tables that a stage makes of a table of clips, checked against its declaration.

    Raises
    ------
    StageError : the stage raised another exception, or did something that it does not declare; names the stage and the clip
    ClipmillError, MemoryError : raised by the stage
    """
    if begin is not None:
        begin(f"{stage.section!r} did not return from {_clip_range(table)}")
    try:
        result = stage(table)
        tables = [result] if isinstance(result, pa.Table) else list(result)
        for output in tables:
            _check(stage, table, output)
    except (ClipmillError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_TEXT]
        raise StageError(f"stage {stage.section!r} failed on {_find_failing_clip(stage, table)}: {text}") from error
    if begin is not None:
        begin("")
    return tables


def _find_failing_clip(stage: Stage, table: pa.Table) -> str:
    """Return the clip on which a stage fails, by calling it with one clip at a time; all clips when it fails on none alone."""
    ids = table["clip_id"].to_pylist()
    rows = np.flatnonzero(is_clip(table)).tolist()
    for i in rows:
        try:
            result = stage(table.slice(i, 1))
            if not isinstance(result, pa.Table):
                list(result)
        except Exception:  # noqa: BLE001 - the same boundary
            return f"clip {ids[i]}"
    return _clip_range(table)


def _clip_range(table: pa.Table) -> str:
    ids = table["clip_id"].filter(pa.array(is_clip(table))).to_pylist()
    if not ids:
        return "a table without clips"
    return f"clip {ids[0]}" if len(ids) == 1 else f"the {len(ids):,} clips from {ids[0]} to {ids[-1]}"


def _check(stage: Stage, before: pa.Table, after: pa.Table) -> None:
    """Raise StageError when a stage did something that it does not declare."""
    known = [f.name for f in stage.fields]
    had, has = set(before.column_names), set(after.column_names)  # pyarrow builds the list on each access
    added = [n for n in after.column_names if n not in had]
    if wrong := [n for n in added if n not in known] + [n for n in known if n not in has]:
        raise StageError(
            f"stage {stage.section!r} {'adds' if wrong[0] in added else 'does not add'} {', '.join(map(repr, wrong))}, but declares"
            f" {'the columns ' + ', '.join(known) if known else 'no columns'}; correct the stage"
        )
    if missing := had - has:
        raise StageError(f"stage {stage.section!r} removes the column {min(missing)!r}; stages can only add columns")
    if unknown := _new(before, after, "rule") - set(stage.rules):
        raise StageError(
            f"stage {stage.section!r} drops clips by the rule {min(unknown)!r}, which is not in its `drops`"
        )
    if unknown := _new(before, after, "reason") - {r.code for r in stage.rejects}:
        raise StageError(
            f"stage {stage.section!r} rejects clips for the reason {min(unknown)!r}, which is not in its `rejects`"
        )
    was_changed = after["samples"].null_count < after.num_rows and before["samples"].null_count == before.num_rows
    if was_changed and not stage.changes_samples:
        raise StageError(f"stage {stage.section!r} changes samples without declaring `changes_samples = True`")


def _new(before: pa.Table, after: pa.Table, name: str) -> set[str]:
    """Return the values that a stage has added to a column."""
    return set(after[name].unique().drop_null().to_pylist()) - set(before[name].unique().drop_null().to_pylist())


def _by_source(table: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows in groups of consecutive rows with the same source."""
    if table.num_rows == 0:
        yield table
        return
    codes = table["source"].combine_chunks().dictionary_encode().indices.to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), table.num_rows]
    for start, stop in pairwise(edges):
        yield table.slice(start, stop - start)
