"""Apply the last clip stages to stored clips, and list the clips that they drop, so that other thresholds need no recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.tables import DROPPED, dropped_schema
from clipmill.schemas.thresholds import Thresholds
from clipmill.stages.clip_chain import ClipChain
from clipmill.stages.clips.keep import Keep
from clipmill.stages.clips.silence import SilenceFilter
from clipmill.stages.exclude_clips import EXCLUDED, ExcludeClips
from clipmill.stages.stage import Stage, is_clip

ON_STORED, NOT_MEASURED = "on_stored", "not_measured"


@dataclass(frozen=True)
class Declared:
    """What counts here of a stage that works before clips are stored; its code is not at hand on all machines.

    columns : names of the columns that it adds
    rules : by which it drops clips by their columns; empty for any stage but `keep`
    """

    columns: frozenset[str]
    rules: frozenset[str]

    @classmethod
    def by(cls, stage: Stage, all_rules: bool = False) -> Declared:
        """Return what a stage declares. all_rules : not only those of `keep`"""
        rules = frozenset(stage.rules) if all_rules or isinstance(stage, Keep) else frozenset[str]()
        return cls(frozenset(field.name for field in stage.fields), rules)


@dataclass(frozen=True)
class StoredClips:
    """Apply clip stages to clips that are stored, or are about to be. Takes tables of `clipmill.schemas.tables.CLIPS`.

    stages : by source, the stages that work on stored clips
    earlier : by source, what the stages declare that work before the clips' samples are final
    fields : columns that `stages` add
    measured : columns of all clip stages with one value per clip
    excluded : ids of clips that `exclude_clips` lists; they are dropped behind all stages
    """

    stages: Mapping[str, Sequence[Stage]]
    earlier: Mapping[str, Sequence[Declared]]
    fields: Sequence[pa.Field] = ()
    measured: Sequence[pa.Field] = ()
    excluded: frozenset[str] = frozenset()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table after the stages, with a column that says which clips these dropped."""
        if not any(self.stages.values()) and not self.excluded:
            return table
        were_clips = is_clip(table)
        known = table[ON_STORED] if ON_STORED in table.column_names else None
        result = table
        if any(self.stages.values()):
            result = pa.concat_tables(list(ClipChain(self.stages, self.fields)(table)))
        exclude = ExcludeClips(self.excluded)
        result = exclude(result) if self.excluded else result
        dropped = pa.array(were_clips & ~is_clip(result))
        if known is None:
            result = result.append_column(ON_STORED, dropped)
        else:
            values = pc.or_(dropped, pc.fill_null(known, False).combine_chunks())
            result = result.set_column(result.schema.get_field_index(ON_STORED), ON_STORED, values)
        return exclude.without_copies(result) if self.excluded else result

    @property
    def schema(self) -> pa.Schema:
        """The schema of listed clips."""
        return dropped_schema(self.measured)

    def dropped_clips(self, rows: pa.Table) -> pa.Table:
        """Return the clips among rows that were dropped by what was measured of them, as a table of `schema`."""
        by_stored = pc.fill_null(rows[ON_STORED], False) if ON_STORED in rows.column_names else pa.scalar(False)
        early = pa.array(sorted({rule for own in self.earlier.values() for s in own for rule in s.rules}), pa.string())
        listed = pc.or_(by_stored, pc.is_in(rows["rule"], early))
        is_dropped = pc.fill_null(
            pc.and_(pc.equal(rows["status"], "dropped"), pc.and_(listed, pc.is_valid(rows["clip_id"]))), False
        )
        chosen = rows.filter(is_dropped)
        for field in self.schema:
            if field.name not in chosen.column_names:
                chosen = chosen.append_column(field.name, pa.nulls(chosen.num_rows, field.type))
        chosen = chosen.select(self.schema.names)
        chosen = chosen.set_column(
            chosen.schema.get_field_index(ON_STORED), ON_STORED, pc.fill_null(chosen[ON_STORED], False)
        )
        places = zip(*(chosen[name].to_pylist() for name in ("source", "rule", ON_STORED, NOT_MEASURED)), strict=True)
        unmeasured = [
            sorted({*self.unmeasured(source, rule, at), *(before or ())}) for source, rule, at, before in places
        ]
        column = pa.array(unmeasured, DROPPED.field(NOT_MEASURED).type)
        return chosen.set_column(chosen.schema.get_field_index(NOT_MEASURED), NOT_MEASURED, column).cast(self.schema)

    def unmeasured(self, source: str, rule: str, on_stored: bool) -> set[str]:
        """Return the columns that are not measured of a source's clips when a rule drops them."""
        before = list(self.earlier.get(source, ()))
        steps = [*before, *(Declared.by(stage, all_rules=True) for stage in self.stages.get(source, ()))]
        first = len(before) if on_stored else 0
        at = next((i for i, s in enumerate(steps) if i >= first and rule in s.rules), len(steps))
        later = {name for s in steps[at:] for name in s.columns}
        return later - {name for s in steps[:at] for name in s.columns}

    def completed(self, dropped: pa.Table) -> pa.Table:
        """Return the clips that another shard dropped, with the columns that it did not have: these were not measured."""
        missing = [field for field in self.measured if field.name not in dropped.column_names]
        if not missing:
            return dropped
        names = [sorted({*(before or ()), *(f.name for f in missing)}) for before in dropped[NOT_MEASURED].to_pylist()]
        column = pa.array(names, DROPPED.field(NOT_MEASURED).type)
        dropped = dropped.set_column(dropped.schema.get_field_index(NOT_MEASURED), NOT_MEASURED, column)
        for field in missing:
            dropped = dropped.append_column(field.remove_metadata(), pa.nulls(dropped.num_rows, field.type))
        return dropped

    def rules_of(self, dropped: pa.Table) -> pa.Array:
        """Return the rule by which each listed clip is dropped now: string [n_rows]. Null: it may be kept, or that cannot be told.

        dropped : clips that another shard with the same clips dropped; see `completed`
        """
        rules: list[str | None] = [None] * dropped.num_rows
        groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        ids = dropped["clip_id"].to_pylist()
        columns = (dropped[name].to_pylist() for name in ("source", "rule", ON_STORED, NOT_MEASURED))
        for i, (source, rule, on_stored, unmeasured) in enumerate(zip(*columns, strict=True)):
            if on_stored:
                groups.setdefault((source, tuple(unmeasured or ())), []).append(i)
            else:  # dropped before the clip was stored, and again by any shard with the same clips
                rules[i] = rule
        for (source, unmeasured), rows in groups.items():
            found, are_certain = self._judge(dropped.take(rows), source, set(unmeasured))
            for i, rule in zip(rows, found.to_pylist(), strict=True):
                rules[i] = EXCLUDED if rule is None and are_certain and ids[i] in self.excluded else rule
        return pa.array(rules, pa.string())

    def _judge(self, clips: pa.Table, source: str, unknown: set[str]) -> tuple[pa.Array, bool]:
        """Return the rules by which bounds drop clips, and whether all bounds could be looked at."""
        rules = pa.nulls(clips.num_rows, pa.string())
        for bounds in self._bounds(source):
            (name,) = bounds.columns
            if name in unknown:
                return rules, False
            rules = pc.coalesce(rules, bounds.rule_of(clips))
        return rules, True

    def _bounds(self, source: str) -> Iterator[Thresholds]:
        """Yield the bounds of a source's clips one by one, in the order in which they apply."""
        for stage in self.stages.get(source, ()):
            if isinstance(stage, Keep):
                for name, bounds in stage.spec.root.items():
                    yield Thresholds({name: bounds})
            elif isinstance(stage, SilenceFilter) and stage.min_dbfs is not None:
                yield _Silence({"level_dbfs": {"min": stage.min_dbfs}})  # type: ignore[arg-type]


class _Silence(Thresholds):
    """The level below which `silence` drops clips, by its own rule."""

    def rule_of(self, table: pa.Table) -> pa.Array:
        return pc.if_else(pc.is_valid(super().rule_of(table)), "silence", pa.scalar(None, pa.string()))
