"""The clip stages of all sources as one: each clip goes through those of its source."""

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
    """Take clips through the clip stages of their source. Takes and gives tables of `clipmill.schemas.tables.CLIPS`; gives `fields` as well.

    stages : in their order, by source
    fields : that any of them adds; null in clips of sources that do without
    begin : called with what to say of a stage if it never comes back before it works, and with "" after it
    """

    stages: Mapping[str, Sequence[Stage]]
    fields: Sequence[pa.Field] = ()
    begin: Callable[[str], None] | None = None

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for part in _by_source(table) if len(self.stages) > 1 else [table]:
            source = part["source"][0].as_py() if part.num_rows else next(iter(self.stages), "")
            for done in self._through(part, list(self.stages.get(source, ()))):
                yield self._conformed(done)

    def _through(self, table: pa.Table, stages: list[Stage]) -> Iterator[pa.Table]:
        if not stages:
            yield table
            return
        for done in apply_stage(stages[0], table, self.begin):
            yield from self._through(done, stages[1:])

    def _conformed(self, table: pa.Table) -> pa.Table:
        missing = [f for f in self.fields if f.name not in table.column_names]
        for field in missing:
            table = table.append_column(field.remove_metadata(), pa.nulls(table.num_rows, field.type))
        if len(self.fields) > 1:  # sources may name their stages in another order
            plain = [n for n in table.column_names if n not in {f.name for f in self.fields}]
            table = table.select([*plain, *(f.name for f in self.fields)])
        return table


def apply_stage(stage: Stage, table: pa.Table, begin: Callable[[str], None] | None = None) -> list[pa.Table]:
    """Return what a stage makes of a table of clips, checked against what it declares.

    Raises
    ------
    StageError : the stage raised something, or did what it does not declare; names the stage and the clip
    ClipmillError, MemoryError : as the stage raised it
    """
    if begin is not None:
        begin(f"{stage.section!r} did not come back from {_clips_of(table)}")
    try:
        given = stage(table)
        tables = [given] if isinstance(given, pa.Table) else list(given)
        for made in tables:
            _check(stage, table, made)
    except (ClipmillError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_TEXT]
        raise StageError(f"stage {stage.section!r} failed on {_failing(stage, table)}: {text}") from error
    if begin is not None:
        begin("")
    return tables


def _failing(stage: Stage, table: pa.Table) -> str:
    """Return which clip a stage fails on, by giving it one at a time."""
    ids = table["clip_id"].to_pylist()
    rows = np.flatnonzero(is_clip(table)).tolist()
    for i in rows:
        try:
            given = stage(table.slice(i, 1))
            if not isinstance(given, pa.Table):
                list(given)
        except Exception:  # noqa: BLE001 - the same boundary
            return f"clip {ids[i]}"
    return _clips_of(table)


def _clips_of(table: pa.Table) -> str:
    ids = table["clip_id"].filter(pa.array(is_clip(table))).to_pylist()
    if not ids:
        return "a table without clips"
    return f"clip {ids[0]}" if len(ids) == 1 else f"the {len(ids):,} clips from {ids[0]} to {ids[-1]}"


def _check(stage: Stage, before: pa.Table, after: pa.Table) -> None:
    """Raise StageError where a stage did what it does not declare."""
    known = [f.name for f in stage.fields]
    had, has = set(before.column_names), set(after.column_names)  # pyarrow builds the list each time it is asked
    added = [n for n in after.column_names if n not in had]
    if wrong := [n for n in added if n not in known] + [n for n in known if n not in has]:
        raise StageError(
            f"stage {stage.section!r} gives {', '.join(map(repr, wrong))} {'and' if wrong[0] in added else 'not, although it'} declares"
            f" the columns {', '.join(known) or 'none'}; correct the stage"
        )
    if missing := had - has:
        raise StageError(f"stage {stage.section!r} takes away the column {min(missing)!r}; columns can only be added")
    if unknown := _new(before, after, "rule") - set(stage.drops):
        raise StageError(f"stage {stage.section!r} drops clips by {min(unknown)!r}, which is not among its `drops`")
    if unknown := _new(before, after, "reason") - {r.code for r in stage.rejects}:
        raise StageError(
            f"stage {stage.section!r} rejects clips for {min(unknown)!r}, which is not among its `rejects`"
        )
    was_changed = after["samples"].null_count < after.num_rows and before["samples"].null_count == before.num_rows
    if was_changed and not stage.changes_samples:
        raise StageError(f"stage {stage.section!r} changes samples without declaring `changes_samples = True`")


def _new(before: pa.Table, after: pa.Table, name: str) -> set[str]:
    """Return the values of a column that a stage has added."""
    return set(after[name].unique().drop_null().to_pylist()) - set(before[name].unique().drop_null().to_pylist())


def _by_source(table: pa.Table) -> Iterator[pa.Table]:
    """Yield stretches of rows of one source."""
    if table.num_rows == 0:
        yield table
        return
    codes = table["source"].combine_chunks().dictionary_encode().indices.to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), table.num_rows]
    for start, stop in pairwise(edges):
        yield table.slice(start, stop - start)
