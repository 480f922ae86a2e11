"""Leaks: whether one recording, speaker or session stands on two sides of a split, by which a score would say too much."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from schemas.config import Split
from schemas.errors import ClipmillError, ConfigError

_SHOWN = 3


def check_disjoint(split: Split, items: pa.Table, field_names: list[str]) -> None:
    """Refuse a plan in which a group stands on two sides.

    Parameters
    ----------
    split : its `disjoint` names what makes a group
    items : of `schemas.tables.PLAN`
    field_names : in the order of the column `fields`

    Raises
    ------
    ConfigError : `disjoint` names a field that the corpus does not have
    ClipmillError : groups stand on two sides; the message names some, with a recording on each side
    """
    for name in split.disjoint:
        if name != "recording" and name not in field_names:
            known = ", ".join(["recording", *field_names])
            raise ConfigError(f"there is no field {name!r} in this corpus; there are {known}", key="split.disjoint")
        if len(pc.unique(items["split"])) > 1:
            _check(name, _members(name, items, field_names), split)


def _members(name: str, items: pa.Table, field_names: list[str]) -> pa.Table:
    """Return group, split and path of every item, or of every usable row of its annotations where those have the field."""
    if name == "recording":
        return pa.table({"group": items["recording_id"], "split": items["split"], "path": items["path"]})
    place = field_names.index(name)
    found = []
    for batch in items.select(["split", "path", "fields", "annotations"]).to_batches():
        sides = {n: batch.column(n) for n in ("split", "path")}
        found.append(pa.table({"group": _value(batch.column("fields"), place), **sides}))
        rows, parents = (
            pc.list_flatten(batch.column("annotations")),
            pc.list_parent_indices(batch.column("annotations")),
        )
        usable = pc.is_null(pc.struct_field(rows, "reason"))
        rows, parents = rows.filter(usable), parents.filter(usable)
        own = {n: column.take(parents) for n, column in sides.items()}
        found.append(pa.table({"group": _value(pc.struct_field(rows, "fields"), place), **own}))
    members = pa.concat_tables(found)
    return members.filter(pc.fill_null(pc.not_equal(members["group"], ""), False))


def _value(lists: pa.Array, place: int) -> pa.Array:
    """Return a list's value at a place; null where the list is shorter or not there."""
    long = pc.greater(pc.fill_null(pc.list_value_length(lists), 0), place)
    found = pc.list_element(lists.filter(long), place)
    places = pc.if_else(long, pc.subtract(pc.cumulative_sum(long.cast(pa.int64())), 1), None)
    return found.take(places)


def _check(name: str, members: pa.Table, split: Split) -> None:
    sides = members.group_by("group", use_threads=False).aggregate([("split", "count_distinct")])
    torn = sides.filter(pc.greater(sides["split_count_distinct"], 1))["group"]
    if not len(torn):
        return
    examples = []
    for group in sorted(torn.to_pylist())[:_SHOWN]:
        of_group = members.filter(pc.equal(members["group"], group)).to_pylist()
        where = {row["split"]: row["path"] for row in reversed(of_group)}
        examples.append(f"{group!r} ({', '.join(f'{path} in {side}' for side, path in sorted(where.items()))})")
    decides = split.field or "recording"
    raise ClipmillError(
        f"{len(torn):,} values of {name!r} stand on more than one side of the split, which {decides!r} decides:"
        f" {'; '.join(examples)}{'; ...' if len(torn) > _SHOWN else ''}. Split by {name!r}, or mend `map`; where this is meant, leave {name!r}"
        " out of split.disjoint"
    )
